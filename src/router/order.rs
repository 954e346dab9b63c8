//! The order in which matchers are tried.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::router::compiled::Compiled;
use crate::router::matcher::Matcher;
use crate::router::slots::Slots;

/// Rules by position.
pub(crate) type Rules = Slots<Arc<Compiled>>;

/// Which is tried first: the greater.
pub(crate) fn order(rules: &Rules, a: &Matcher, b: &Matcher) -> Ordering {
    let exact = |matcher: &Matcher| {
        let group = rules.at(matcher.slot as usize)?.groups.get(matcher.group as usize)?;
        Some((group.priority, group.id))
    };
    a.weight.cmp(&b.weight).then_with(|| exact(a).cmp(&exact(b)))
}
