//! [`Visits`]: an arm's slots, and which of them count.

use std::collections::BTreeMap;

use crate::measurement::{Measurement, Slot, ThreadShare};
use crate::plan::Arm;

/// All visits to one arm.
pub(super) struct Visits<'a> {
    pub(super) arm: &'a Arm,
    /// Every slot.
    pub(super) slots: Vec<&'a Slot>,
    /// The slots that enter averages.
    pub(super) counted: Vec<&'a Slot>,
    /// Whether there were none but impure or cut slots, so that these had to be counted.
    pub(super) made_do: bool,
    /// Slots whose arm was not what its name says.
    pub(super) impure: usize,
    /// Pure slots that were cut short.
    pub(super) cut_short: usize,
    /// The slots that count, added up.
    pub(super) total: Slot,
}

/// Every arm's visits, in the plan's order.
pub(super) fn by_arm(measurement: &Measurement) -> Vec<Visits<'_>> {
    measurement.plan.arms.iter().map(|arm| Visits::of(measurement, arm)).collect()
}

impl<'a> Visits<'a> {
    fn of(measurement: &'a Measurement, arm: &'a Arm) -> Visits<'a> {
        let slots: Vec<&Slot> = measurement.slots.iter().filter(|slot| slot.arm == arm.name).collect();
        let is_cut = |slot: &Slot| is_cut_short(measurement, slot);
        let whole: Vec<&Slot> = slots.iter().copied().filter(|slot| slot.pure && !is_cut(slot)).collect();
        let impure = slots.iter().filter(|slot| !slot.pure).count();
        let cut_short = slots.len() - whole.len() - impure;
        let made_do = whole.is_empty() && !slots.is_empty();
        let counted = if made_do { slots.clone() } else { whole };
        let total = total(&counted);
        Visits { arm, slots, counted, made_do, impure, cut_short, total }
    }

    /// The counted slots by their round.
    pub(super) fn by_round(&self) -> BTreeMap<u32, &'a Slot> {
        self.counted.iter().map(|slot| (slot.round, *slot)).collect()
    }

    /// A count over every slot, whether it enters averages or not.
    pub(super) fn count(&self, of: impl Fn(&Slot) -> u64) -> u64 {
        self.slots.iter().map(|slot| of(slot)).sum()
    }

    /// How often something counted happened, for each second measured.
    pub(super) fn per_second(&self, n: u64) -> f64 {
        let measured = self.total.duration;
        if measured.is_zero() { 0.0 } else { n as f64 / measured.as_secs_f64() }
    }
}

/// Whether an interruption ended the slot, so that it is not like the others. It can only be the last one; where it is the
/// only one, as a load's is, it is like all. A duration alone does not tell: in an open
/// loop a whole slot is over when nothing more is due in it, which is a little before its end.
fn is_cut_short(measurement: &Measurement, slot: &Slot) -> bool {
    let plan = &measurement.plan;
    if plan.arms.len() == 1 && plan.rounds == 1 {
        return false;
    }
    let is_last = measurement.slots.last().is_some_and(|last| std::ptr::eq(last, slot));
    measurement.interrupted && is_last && slot.duration < plan.slot
}

/// Rounds in which every arm has a slot that is whole and pure.
pub(super) fn complete_rounds(all: &[Visits<'_>]) -> usize {
    let Some(first) = all.first() else { return 0 };
    let others: Vec<BTreeMap<u32, &Slot>> = all.iter().map(Visits::by_round).collect();
    if all.iter().any(|visits| visits.made_do) {
        return 0;
    }
    first.counted.iter().filter(|slot| others.iter().all(|rounds| rounds.contains_key(&slot.round))).count()
}

/// Slots added up, with the time over which they were measured.
fn total(slots: &[&Slot]) -> Slot {
    let mut total = Slot::default();
    for slot in slots {
        total.merge(slot);
        total.client.throttled_ns += slot.client.throttled_ns;
    }
    let busiest = |slot: &&Slot| ThreadShare::of_busiest(&slot.client);
    total.client.busiest = slots.iter().map(busiest).reduce(ThreadShare::and);
    // One after another, and not at the same time as those of workers.
    total.duration = slots.iter().map(|slot| slot.duration).sum();
    total
}
