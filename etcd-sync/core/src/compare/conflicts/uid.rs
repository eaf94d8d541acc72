//! A UID in sixteen bytes, as many of them are remembered.

/// A UUID by its bits; any other text by its hash (128-bit FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Uid(u128);

impl Uid {
    pub fn of(text: &str) -> Self {
        let mut bits = 0u128;
        let mut digits = 0;
        for digit in text.bytes().filter(|byte| *byte != b'-').map(|byte| (byte as char).to_digit(16)) {
            match digit {
                Some(digit) if digits < 32 => (bits, digits) = (bits << 4 | u128::from(digit), digits + 1),
                _ => return Uid(hash(text)),
            }
        }
        if digits == 32 && text.len() == 36 { Uid(bits) } else { Uid(hash(text)) }
    }
}

fn hash(text: &str) -> u128 {
    text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_stay_apart() {
        let uuid = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9fa";
        assert_eq!(Uid::of(uuid), Uid(0x0b1c_2d3e_4f50_6172_8394_a5b6_c7d8_e9fa));
        let others = ["", "u", "u1", "0b1c2d3e4f5061728394a5b6c7d8e9fa", "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9fg", "é"];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(Uid::of(other), Uid::of(uuid));
            assert!(others[..index].iter().all(|before| Uid::of(before) != Uid::of(other)), "{other}");
        }
    }
}
