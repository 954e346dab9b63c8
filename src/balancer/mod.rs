//! Chooses which address of an origin a try goes to.
//!
//! Pure: the state is a value that its owner keeps, one per worker as in Kong, and the addresses are an argument, so
//! an answer of the name service that changes between two calls needs no rebuild. A plain host is walked round robin;
//! the wheels, rings and health of upstream entities will stand here too.

/// Where the next exchange with one origin begins. Kept by whoever sends to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotation {
    turns: usize,
}

/// The way of one exchange through the addresses: each try goes to the next one.
///
/// Every exchange has its own, so that exchanges running at once do not send each other back to an address that has
/// just failed them.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    at: usize,
}

impl Rotation {
    /// Starts the next exchange, one address further than the one before.
    pub fn begin(&mut self) -> Walk {
        let walk = Walk { at: self.turns };
        self.turns = self.turns.wrapping_add(1);
        walk
    }
}

impl Walk {
    /// The address for the next try; after the last one comes the first again. `None` when there are none.
    pub fn next<T: Copy>(&mut self, addresses: &[T]) -> Option<T> {
        let index = self.next_index(addresses.len())?;
        addresses.get(index).copied()
    }

    /// The place of the address for the next try among `count` addresses.
    pub fn next_index(&mut self, count: usize) -> Option<usize> {
        let index = self.at.checked_rem(count)?;
        self.at = self.at.wrapping_add(1);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(rotation: &mut Rotation, addresses: &str, count: usize) -> String {
        let addresses: Vec<char> = addresses.chars().collect();
        let mut walk = rotation.begin();
        (0..count).filter_map(|_| walk.next(&addresses)).collect()
    }

    #[test]
    fn exchanges_take_turns_and_each_try_takes_the_next_address() {
        let mut rotation = Rotation::default();
        let walks: Vec<String> = (0..4).map(|_| tries(&mut rotation, "abc", 4)).collect();
        assert_eq!(walks, ["abca", "bcab", "cabc", "abca"]);
    }

    #[test]
    fn addresses_may_come_and_go_between_exchanges() {
        let mut rotation = Rotation::default();
        let walks = ["abc", "a", "", "xy"].map(|addresses| tries(&mut rotation, addresses, 2));
        assert_eq!(walks, ["ab", "aa", "", "yx"]);
    }

    #[test]
    fn the_count_of_turns_may_overflow() {
        let mut rotation = Rotation { turns: usize::MAX };
        assert_eq!(tries(&mut rotation, "ab", 3).len(), 3);
        assert_eq!(tries(&mut rotation, "ab", 1), "a");
    }
}
