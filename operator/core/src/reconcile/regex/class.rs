//! Sets of bytes, which are RE2's characters in Latin-1.

use std::ops::{BitOr, BitOrAssign, Not};

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Class([u64; 4]);

impl Class {
    /// The bytes from `low` to `high`, both included.
    pub(super) fn range(low: u8, high: u8) -> Self {
        let mut words = [0; 4];
        for (word, start) in words.iter_mut().zip([0_u32, 64, 128, 192]) {
            let from = u32::from(low).max(start);
            let to = u32::from(high).min(start + 63);
            if from <= to {
                *word = (u64::MAX >> (63 - (to - from))) << (from - start);
            }
        }
        Self(words)
    }

    /// The union of ranges.
    pub(super) fn of(ranges: &[(u8, u8)]) -> Self {
        ranges.iter().fold(Self::default(), |class, (low, high)| {
            class | Self::range(*low, *high)
        })
    }

    pub(super) fn contains(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    pub(super) fn len(self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    /// The lowest byte.
    pub(super) fn first(self) -> Option<u8> {
        self.ranges().next().map(|(low, _)| low)
    }

    /// With the other case of each ASCII letter.
    pub(super) fn folded(self) -> Self {
        let (upper, lower) = self.letters();
        let letters = upper | lower;
        self | Self([0, letters << 1 | letters << 33, 0, 0])
    }

    /// Whether it has both cases of each ASCII letter that it has.
    pub(super) fn is_folded(self) -> bool {
        let (upper, lower) = self.letters();
        upper == lower
    }

    /// The upper and the lower case letters, each from bit 0.
    fn letters(self) -> (u64, u64) {
        const ALPHABET: u64 = (1 << 26) - 1;
        (self.0[1] >> 1 & ALPHABET, self.0[1] >> 33 & ALPHABET)
    }

    /// Maximal runs of bytes, ascending.
    pub(super) fn ranges(self) -> impl Iterator<Item = (u8, u8)> {
        let mut next = 0_u16;
        std::iter::from_fn(move || {
            let low = (next..256).find_map(|byte| self.has(byte))?;
            let high = (u16::from(low)..256)
                .take_while(|byte| self.has(*byte).is_some())
                .last()?;
            next = high + 1;
            Some((low, u8::try_from(high).ok()?))
        })
    }

    /// The ranges that a program needs: where both cases of each letter are in it, a range of upper case only is left to
    /// the one of lower case.
    pub(super) fn needed_ranges(self) -> impl Iterator<Item = (u8, u8)> {
        let is_folded = self.is_folded();
        self.ranges()
            .filter(move |(low, high)| !(is_folded && *low >= b'A' && *high <= b'Z'))
    }

    fn has(self, byte: u16) -> Option<u8> {
        u8::try_from(byte).ok().filter(|byte| self.contains(*byte))
    }
}

impl BitOr for Class {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }
}

impl BitOrAssign for Class {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl Not for Class {
    type Output = Self;

    fn not(self) -> Self {
        Self(self.0.map(|word| !word))
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn ranges_come_back_as_runs() {
        let class = Class::of(&[(0, 3), (60, 70), (71, 130), (255, 255)]);
        let runs: Vec<_> = class.ranges().collect();
        assert_eq!(runs, [(0, 3), (60, 130), (255, 255)]);
        let runs: Vec<_> = (!class).ranges().collect();
        assert_eq!(runs, [(4, 59), (131, 254)]);
        assert_eq!((!Class::default()).len(), 256);
    }

    #[test]
    fn folding_adds_the_other_case_of_ascii_letters_only() {
        let class = Class::of(&[(b'a', b'b'), (b'Z', b'['), (0xe9, 0xe9)]).folded();
        let expected = Class::of(&[
            (b'A', b'B'),
            (b'a', b'b'),
            (b'Z', b'['),
            (b'z', b'z'),
            (0xe9, 0xe9),
        ]);
        assert_eq!(class, expected);
    }
}
