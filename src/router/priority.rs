//! Which of two matchers is tried first.
//!
//! Kong means one order and runs another: two of its shifts count modulo 32, so the field count, the header count,
//! `regex_priority` and the length of the prefix are OR-ed into one 32-bit number, below the bits for plain hosts and
//! for a regex. With up to three match fields we follow what it runs, since that is what its users see; from four fields
//! on, where that number overflows and Kong itself fails, we follow what it means.
//!
//! The two are joined into one total order by putting every matcher of four or more fields before every one of fewer:
//! that is what the intended order says of their field counts, so no cycle can arise. Comparing each pair by "the order
//! that fits both" lost, because it is not transitive.

/// Greater is tried first. Two matchers of equal priority are told apart by their ids, the greater first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Up to three match fields.
    Few {
        plain_hosts: bool,
        regex: bool,
        /// Field count from bit 29, header count from bit 20, `regex_priority` from bit 19, length from bit 0; OR-ed.
        merged: u32,
        /// A negative `regex_priority`, else 0.
        ///
        /// Kong: there a negative one overflows like a fourth field, and comes first. It asks to come later, so it does:
        /// just below zero, with the same fields and headers.
        below_zero: i64,
    },
    /// Four or five.
    Many { fields: u8, plain_hosts: bool, headers: u8, regex: bool, regex_priority: i64, length: u32 },
}

/// What a matcher is weighed by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    /// How many of methods, hosts, paths, headers and snis take part.
    pub fields: u8,
    /// `hosts` takes part and holds no wildcard.
    pub plain_hosts: bool,
    pub headers: usize,
    pub path: PathWeight,
}

/// How a matcher's paths weigh.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathWeight {
    Absent,
    /// Length in bytes.
    Prefix(usize),
    /// The route's `regex_priority`.
    Regex(i64),
}

impl Priority {
    pub(crate) fn of(weights: Weights) -> Priority {
        const LENGTH: u32 = (1 << 19) - 1;
        let Weights { fields, plain_hosts, headers, path } = weights;
        let headers = u8::try_from(headers).unwrap_or(u8::MAX);
        let (regex, regex_priority, length) = match path {
            PathWeight::Absent => (false, 0, 0),
            PathWeight::Prefix(length) => (false, 0, u32::try_from(length).unwrap_or(LENGTH).min(LENGTH)),
            PathWeight::Regex(priority) => (true, priority, 0),
        };
        if fields > 3 {
            return Priority::Many { fields, plain_hosts, headers, regex, regex_priority, length };
        }
        let merged = u32::from(fields) << 29 | u32::from(headers) << 20 | shifted(regex_priority) | length;
        Priority::Few { plain_hosts, regex, merged, below_zero: regex_priority.min(0) }
    }

    /// A number that orders as the priorities do; of equal numbers the priorities may still differ, where a
    /// `regex_priority` is beyond what fits.
    pub(crate) fn weight(self) -> u64 {
        match self {
            Priority::Few { plain_hosts, regex, merged, below_zero } => {
                u64::from(plain_hosts) << 62
                    | u64::from(regex) << 61
                    | u64::from(merged) << 29
                    | clamped(below_zero, 29)
            }
            Priority::Many { fields, plain_hosts, headers, regex, regex_priority, length } => {
                let fields = 1 << 63 | u64::from(fields & 7) << 60 | u64::from(plain_hosts) << 59;
                let kind = u64::from(headers) << 51 | u64::from(regex) << 50;
                fields | kind | clamped(regex_priority, 31) << 19 | u64::from(length)
            }
        }
    }
}

/// `regex_priority` where Kong's 32-bit shift puts it: 13 bits remain, so multiples of 8192 count as 0.
fn shifted(regex_priority: i64) -> u32 {
    let kept = regex_priority.max(0) & 0x1FFF;
    u32::try_from(kept).unwrap_or_default() << 19
}

/// A number of so many bits; one that does not fit is the least or the greatest that does.
fn clamped(number: i64, bits: u32) -> u64 {
    let half = 1_i64 << (bits - 1);
    (number.clamp(-half, half - 1) + half).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATH: PathWeight = PathWeight::Prefix(2);

    fn priority(fields: u8, plain_hosts: bool, headers: usize, path: PathWeight) -> Priority {
        Priority::of(Weights { fields, plain_hosts, headers, path })
    }

    #[test]
    fn each_weight_outranks_all_below_it() {
        let regex = PathWeight::Regex;
        for (why, first, second) in [
            ("four fields before three", priority(4, false, 0, PATH), priority(3, true, 9, regex(9))),
            ("five fields before four", priority(5, false, 1, PATH), priority(4, true, 9, regex(9))),
            ("plain hosts before fields", priority(1, true, 0, PathWeight::Absent), priority(3, false, 9, regex(9))),
            ("a regex before fields", priority(1, false, 0, regex(0)), priority(3, false, 9, PATH)),
            ("fields before headers", priority(3, false, 1, PATH), priority(2, false, 9, PATH)),
            ("headers before length", priority(2, false, 2, PATH), priority(2, false, 1, PathWeight::Prefix(400))),
            ("length", priority(1, false, 0, PathWeight::Prefix(3)), priority(1, false, 0, PATH)),
            ("regex_priority", priority(1, false, 0, regex(10)), priority(1, false, 0, regex(5))),
            ("a negative regex_priority last", priority(1, false, 0, regex(0)), priority(1, false, 0, regex(-1))),
            ("less negative first", priority(1, false, 0, regex(-1)), priority(1, false, 0, regex(-2))),
            ("negative still by fields", priority(2, false, 0, regex(-9)), priority(1, false, 0, regex(3))),
            ("of four: hosts, then headers", priority(4, false, 2, PATH), priority(4, false, 1, regex(9))),
            ("of four: a regex before length", priority(4, false, 1, regex(0)), priority(4, false, 1, PATH)),
        ] {
            assert!(first > second, "{why}");
        }
    }

    #[test]
    fn kongs_merged_number_is_followed_with_its_quirks() {
        let one = |regex_priority| priority(1, false, 0, PathWeight::Regex(regex_priority));
        let two = |regex_priority| priority(2, false, 0, PathWeight::Regex(regex_priority));
        assert_eq!(one(1024), one(0));
        assert_eq!(one(8192), one(0));
        assert_eq!(one(8192 + 7), one(7));
        assert!(two(1024) > two(0) && two(1024) == priority(3, false, 0, PathWeight::Regex(0)));
        assert!(one(1023) < two(0) && one(2048) > two(0));
    }

    proptest! {
        #[test]
        fn weights_order_as_priorities_do(a in any_priority(), b in any_priority()) {
            prop_assert!(a <= b || a.weight() >= b.weight(), "{a:?} {b:?}");
            let fits = |priority: Priority| match priority {
                Priority::Few { below_zero: priority, .. } | Priority::Many { regex_priority: priority, .. } => {
                    priority.abs() < 1 << 28
                }
            };
            prop_assert!(a <= b || !fits(a) || !fits(b) || a.weight() > b.weight(), "{a:?} {b:?}");
        }
    }

    fn any_priority() -> impl Strategy<Value = Priority> {
        let number = || prop_oneof![-2..3_i64, Just(8192), any::<i64>()];
        let path = prop_oneof![
            Just(PathWeight::Absent),
            (0..4_usize).prop_map(PathWeight::Prefix),
            any::<usize>().prop_map(PathWeight::Prefix),
            number().prop_map(PathWeight::Regex),
        ];
        (1..6_u8, any::<bool>(), prop_oneof![0..3_usize, 250..300_usize], path)
            .prop_map(|(fields, plain_hosts, headers, path)| priority(fields, plain_hosts, headers, path))
    }
}
