//! Weights as nodes hold to them: who has which share of every limit, and how two registries are told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::counter::strict::share::{CYCLE, Share};
use crate::entity::strict_weights::StrictWeights;

/// Weights that add up to so much are meant to be everything: thirds may be written as 0.333.
const MEANT_AS_WHOLE: f64 = 0.999;

/// The name of a registry; the greater one counts. Two registries of one epoch differ by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    pub epoch: u64,
    pub digest: u64,
}

/// Weights, taken from their entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    mark: Mark,
    /// Nodes that run, also those with an empty share. Shares are disjoint.
    shares: BTreeMap<String, Share>,
    /// Nodes that will never run again.
    gone: BTreeSet<String>,
}

/// "In windows that start at `from_s` or later I hold no more than this registry gives me, whatever comes."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    pub mark: Mark,
    pub from_s: u64,
}

impl Registry {
    /// Every node makes the same of the same weights: shares are laid out in the order of node ids.
    pub fn of(weights: &StrictWeights) -> Registry {
        let sum: f64 = weights.weights.values().sum();
        let whole = if sum >= MEANT_AS_WHOLE { sum } else { 1.0 };
        let mut before = 0.0;
        let mut from = 0;
        let mut shares = BTreeMap::new();
        for (name, weight) in &weights.weights {
            before += weight.max(0.0);
            let to = ((before / whole * f64::from(CYCLE)).round() as u32).clamp(from, CYCLE);
            shares.insert(name.clone(), Share::new(from, to));
            from = to;
        }
        let gone: BTreeSet<String> = weights.gone.iter().flatten().cloned().collect();
        Registry { mark: Mark { epoch: weights.epoch, digest: digest(weights.epoch, &shares, &gone) }, shares, gone }
    }

    /// The one that counts.
    pub fn greatest(all: impl IntoIterator<Item = StrictWeights>) -> Option<Registry> {
        all.into_iter().map(|weights| Registry::of(&weights)).max_by_key(Registry::mark)
    }

    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Empty for whoever is not listed.
    pub fn share(&self, name: &str) -> Share {
        self.shares.get(name).copied().unwrap_or(Share::NONE)
    }

    /// The nodes whose promises count.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        self.shares.keys()
    }

    pub fn gone(&self) -> &BTreeSet<String> {
        &self.gone
    }

    pub fn names(&self, name: &str) -> bool {
        self.shares.contains_key(name) || self.gone.contains(name)
    }
}

impl Promise {
    /// 24 bytes: epoch, digest, from, each little-endian.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.mark.epoch, self.mark.digest, self.from_s].iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Promise> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let [epoch, digest, from_s] = *numbers else { return None };
        let number = u64::from_le_bytes;
        let mark = Mark { epoch: number(epoch), digest: number(digest) };
        rest.is_empty().then_some(Promise { mark, from_s: number(from_s) })
    }
}

fn digest(epoch: u64, shares: &BTreeMap<String, Share>, gone: &BTreeSet<String>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write_u64(epoch);
    let mut text = |text: &str| {
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
    };
    for (name, share) in shares {
        text(name);
        let (from, to) = share.ends();
        text(&format!("{from} {to}"));
    }
    text("");
    gone.iter().for_each(|name| text(name));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(epoch: u64, weights: &[(&str, f64)], gone: &[&str]) -> Registry {
        Registry::of(&StrictWeights {
            epoch,
            weights: weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
            gone: Some(gone.iter().map(|name| (*name).to_owned()).collect()),
        })
    }

    #[test]
    fn shares_are_disjoint_and_the_whole_is_shared_out() {
        for weights in [
            &[("a", 0.333), ("b", 0.333), ("c", 0.333)][..],
            &[("a", 0.1), ("b", 0.2), ("c", 0.7)],
            &[("a", 1.0), ("b", 0.0)],
            &[("a", 0.5), ("b", 0.5000000001)],
        ] {
            let registry = registry(1, weights, &[]);
            let held: u64 = weights.iter().map(|(name, _)| registry.share(name).of(300)).sum();
            assert_eq!(held, 300, "{weights:?}");
        }
        assert_eq!(registry(1, &[("a", 0.25), ("b", 0.25)], &[]).share("b"), Share::new(CYCLE / 4, CYCLE / 2));
        assert_eq!(registry(1, &[("a", 1.0)], &[]).share("b"), Share::NONE);
    }

    #[test]
    fn marks_follow_the_epoch_and_differ_with_the_content() {
        let one = registry(1, &[("a", 0.5), ("b", 0.5)], &[]);
        let marks = [
            one.mark(),
            registry(1, &[("a", 0.5), ("b", 0.4)], &[]).mark(),
            registry(1, &[("a", 0.5), ("c", 0.5)], &[]).mark(),
            registry(1, &[("a", 0.5), ("b", 0.5)], &["c"]).mark(),
        ];
        assert_eq!(marks.iter().collect::<BTreeSet<_>>().len(), 4);
        assert!(marks.iter().all(|mark| *mark < registry(2, &[("a", 0.0)], &[]).mark()));
        assert_eq!(one, registry(1, &[("b", 0.5), ("a", 0.5)], &[]));
    }

    #[test]
    fn promises_are_24_bytes() {
        let promise = Promise { mark: Mark { epoch: 3, digest: u64::MAX - 1 }, from_s: 1_795_519_380 };
        let bytes = promise.to_bytes();
        assert_eq!((bytes.len(), Promise::from_bytes(&bytes)), (24, Some(promise)));
        for wrong in [&bytes[..23], &[], &[&bytes[..], &[0]].concat()[..], &[0; 32]] {
            assert_eq!(Promise::from_bytes(wrong), None);
        }
    }
}
