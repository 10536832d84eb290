//! [`Mutator`]: new inputs from known ones, without the help of coverage.

pub(crate) struct Mutator {
    inputs: Vec<Vec<u8>>,
    tokens: &'static [&'static [u8]],
    state: u64,
}

/// Longer inputs than this are cut.
const MOST: usize = 64 * 1024;

impl Mutator {
    pub(crate) fn new(inputs: Vec<Vec<u8>>, tokens: &'static [&'static [u8]], seed: u64) -> Mutator {
        Mutator { inputs, tokens, state: seed.wrapping_mul(2).wrapping_add(1) }
    }

    /// A known input with some changes.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let which = self.below(self.inputs.len());
        let mut input = self.inputs[which].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(MOST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let length = self.below(16).min(input.len() - at);
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.below(256) as u8,
            2 => drop(input.drain(at..at + length)),
            3 => {
                let part = input[at..at + length].to_vec();
                input.splice(at..at, part);
            }
            4 => input.truncate(at.max(1)),
            5 => {
                let other = &self.inputs[self.state as usize % self.inputs.len()];
                let from = at.min(other.len());
                let tail = other[from..].to_vec();
                input.truncate(at);
                input.extend(tail);
            }
            _ => {
                let token = self.tokens[self.below(self.tokens.len())];
                input.splice(at..at, token.iter().copied());
            }
        }
    }

    /// splitmix64.
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }
}
