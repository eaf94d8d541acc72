//! A small seeded generator: the same numbers on every machine and always, which no library promises.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in the range, which must not be empty.
    pub fn range(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + (self.bits() % (range.end - range.start) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.range(0..n) == 0
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds.
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// One of the choices.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.range(0..choices.len())]
    }

    /// Printable filler.
    pub fn text(&mut self, bytes: usize) -> String {
        const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n";
        let mut text = String::with_capacity(bytes);
        let mut bits = 0;
        for i in 0..bytes {
            // Ten letters of six bits from each draw.
            bits = if i % 10 == 0 { self.bits() } else { bits >> 6 };
            text.push(LETTERS[(bits & 63) as usize] as char);
        }
        text
    }

    /// `n` characters as Kubernetes appends to generated names.
    pub fn suffix(&mut self, n: usize) -> String {
        (0..n).map(|_| *self.pick(b"bcdfghjklmnpqrstvwxz2456789") as char).collect()
    }

    /// A UUID of version 4.
    pub fn uid(&mut self) -> String {
        let (a, b) = (self.bits(), self.bits());
        let (time, version) = (a >> 32, a & 0xfff);
        let (variant, node) = (0x8000 | ((b >> 48) & 0x3fff), b & 0xffff_ffff_ffff);
        format!("{time:08x}-{:04x}-4{version:03x}-{variant:04x}-{node:012x}", (a >> 12) & 0xffff)
    }
}
