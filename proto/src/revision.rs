//! A point in the history of the configuration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `number` counts committed transactions without gaps; `epoch` grows when a history was replaced by another
/// (a restored database), so that a smaller number can still be newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    pub epoch: u64,
    pub number: u64,
}

impl Revision {
    pub const fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }

    /// The revision of the next transaction of the same history.
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, number: self.number + 1 }
    }
}

/// `EPOCH.NUMBER`, as the header `X-Tidegate-Revision` has it.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// The text was not `EPOCH.NUMBER`.
#[derive(Debug, PartialEq, Eq)]
pub struct NotARevision;

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Self, NotARevision> {
        let (epoch, number) = text.split_once('.').ok_or(NotARevision)?;
        let parse = |part: &str| part.parse().map_err(|_| NotARevision);
        Ok(Self { epoch: parse(epoch)?, number: parse(number)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let revision = Revision::new(3, 42);
        assert_eq!(revision.to_string().parse(), Ok(revision));
        assert_eq!("42".parse::<Revision>(), Err(NotARevision));
    }

    #[test]
    fn a_later_epoch_outranks_a_larger_number() {
        assert!(Revision::new(2, 1) > Revision::new(1, 900));
    }
}
