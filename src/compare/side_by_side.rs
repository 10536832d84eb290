//! [`differing`]: what several measurements do not have in common. Between measurements nothing is paired: what differs
//! besides what one means to compare may be all that is seen.

use serde_json::Value;

use crate::measurement::Measurement;

/// Something that is not the same in all of several measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Its kind.
    pub kind: Kind,
    /// Its place in the result file: `machine.cpu_model`.
    pub key: String,
    /// What it is in each of them; `null` where there is none.
    pub values: Vec<String>,
}

/// What a difference concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Where it was measured: absolute times are of different machines.
    Machine,
    /// What was done: another load, another length, other arms.
    Plan,
    /// What measured.
    Tool,
    /// What was asked, which may be what is to be compared.
    Target,
}

impl Kind {
    /// The kind in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Machine => "machine",
            Kind::Plan => "plan",
            Kind::Tool => "tool",
            Kind::Target => "target",
        }
    }
}

/// What says nothing about comparability: it is drawn anew, or moves by itself.
const BY_ITSELF: [&str; 7] = [
    "plan.seed",
    "machine.fingerprint",
    "machine.load_average",
    "machine.memory_bytes",
    "machine.port_range",
    "machine.max_open_files",
    "target.address",
];

/// What differs between measurements, machines first.
pub fn differing(all: &[&Measurement]) -> Vec<Differing> {
    let leaves: Vec<Vec<(String, String)>> = all.iter().map(|one| leaves(one)).collect();
    let mut keys: Vec<&String> = leaves.iter().flatten().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let found = keys.into_iter().filter(|key| !BY_ITSELF.contains(&key.as_str())).filter_map(|key| {
        let value = |own: &Vec<(String, String)>| {
            own.iter().find(|(name, _)| name == key).map_or_else(|| "null".into(), |(_, value)| value.clone())
        };
        let values: Vec<String> = leaves.iter().map(value).collect();
        let same = values.windows(2).all(|pair| pair[0] == pair[1]);
        (!same).then(|| Differing { kind: kind(key), key: key.clone(), values })
    });
    let mut found: Vec<Differing> = found.collect();
    found.sort_by_key(|one| one.kind);
    found
}

fn kind(key: &str) -> Kind {
    match key.split('.').next() {
        Some("machine") => Kind::Machine,
        Some("tool") => Kind::Tool,
        Some("plan") if !key.starts_with("plan.target.") => Kind::Plan,
        _ => Kind::Target,
    }
}

/// Every single value of what surrounds the slots, by its place.
fn leaves(measurement: &Measurement) -> Vec<(String, String)> {
    let json = |part: serde_json::Result<Value>| part.expect("what is saved as JSON has a JSON form");
    let mut found = Vec::new();
    walk("plan", &json(serde_json::to_value(&measurement.plan)), &mut found);
    walk("machine", &json(serde_json::to_value(&measurement.machine)), &mut found);
    walk("tool", &json(serde_json::to_value(&measurement.tool)), &mut found);
    walk("target", &json(serde_json::to_value(&measurement.target)), &mut found);
    found
}

fn walk(place: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| walk(&format!("{place}.{name}"), value, found));
        }
        Value::Array(values) => {
            (0..).zip(values).for_each(|(nth, value)| walk(&format!("{place}.{nth}"), value, found));
        }
        Value::String(text) => found.push((place.to_owned(), text.clone())),
        other => found.push((place.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn one() -> Measurement {
        samples::run(8, 50).arm("on", 1.0).arm("off", 4.0).measurement()
    }

    #[test]
    fn runs_of_one_plan_on_one_machine_differ_in_nothing() {
        let (first, mut second) = (one(), one());
        second.plan.seed = 7;
        second.machine.load_average = Some(3.0);
        assert_eq!(differing(&[&first, &second]), []);
    }

    #[test]
    fn what_differs_is_named_with_its_values_machines_first() {
        let (first, mut second) = (one(), one());
        second.plan.connections = 17;
        second.plan.target.url = "https://other.test/".into();
        second.machine.cpu_model = Some("another".into());
        second.tool.version = "9".into();
        let found = differing(&[&first, &second]);
        let keys: Vec<&str> = found.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["machine.cpu_model", "plan.connections", "tool.version", "plan.target.url"]);
        assert_eq!(found[0].values, ["null", "another"]);
        assert_eq!(found[1].values, ["16", "17"]);
        assert_eq!(found[3].kind, Kind::Target);
    }
}
