//! Kinds that this program does not know: a newer one wrote their entities, and this one keeps them as they are.
//!
//! A stranger has a name and no fields: no API lists it, no rule looks at it, and stores and peers hand it on whole, so a
//! node of the version before loses nothing during a deploy. Handles live as long as the program, as those of the declared
//! kinds do, so their number is bounded. A second path for raw records beside entities lost: every store, the local
//! snapshot and the transfer would have had one.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use tidegate_proto::frame::NAME_LEN_MAX;

use crate::entity::Kind;
use crate::entity::declare::Declaration;

/// Strangers that one program takes in; entities of further ones are left out.
const STRANGERS_MAX: usize = 32;

static STRANGERS: RwLock<BTreeMap<&'static str, Kind>> = RwLock::new(BTreeMap::new());

impl Kind {
    /// By internal plural name, known here or not. `None`: no name of a kind, or one stranger too many.
    pub fn of_name(name: &str) -> Option<Kind> {
        Kind::named(name).or_else(|| known(name)).or_else(|| meet(name))
    }

    /// Whether this program does not know the kind.
    pub fn is_stranger(self) -> bool {
        self.fields.is_empty()
    }
}

fn known(name: &str) -> Option<Kind> {
    STRANGERS.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
}

fn meet(name: &str) -> Option<Kind> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(plain) {
        return None;
    }
    let mut strangers = STRANGERS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(kind) = strangers.get(name) {
        return Some(*kind);
    }
    if strangers.len() >= STRANGERS_MAX {
        return None;
    }
    tracing::warn!(kind = name, "entities of a kind that only a newer tidegate knows are kept and not used");
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let kind = Kind(Box::leak(Box::new(Declaration { name, ..Declaration::EMPTY })));
    strangers.insert(name, kind);
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_met_once_and_a_declared_kind_never() {
        assert_eq!(Kind::of_name("services"), Some(Kind::SERVICES));
        let first = Kind::of_name("stranger_things");
        assert!(first.is_some_and(|kind| kind.is_stranger() && kind.name == "stranger_things"));
        assert_eq!(first, Kind::of_name("stranger_things"));
        assert!(!Kind::all().iter().any(|kind| kind.is_stranger()));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "a b", "(a)", "a\0", "ä", &"x".repeat(65)] {
            assert_eq!(Kind::of_name(name), None, "{name:?}");
        }
    }
}
