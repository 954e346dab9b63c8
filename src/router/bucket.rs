//! All places of one host: what is tried where a path begins with a prefix.
//!
//! A few places are tried one by one, the longest prefix first. Many are kept in a table, which is asked once per length
//! that occurs, from the longest on, and no further than where nothing can beat the best match so far; a probe that finds
//! nothing seldom leaves the cache. A trie lost: its steps miss the cache one after the other in a large router, and all
//! of it had to be made anew for each change. What is large is shared between a router and the one made of it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::router::Rules;
use crate::router::list::List;
use crate::router::matcher::Matcher;
use crate::router::prefix_hash::Hashes;
use crate::router::prefix_hash::hash;
use crate::router::sharded::Sharded;

/// More places than this are kept in a table. Tests have it low, so that random routes come to both sides of it.
const FEW: usize = if cfg!(test) { 2 } else { 8 };

/// The places of one host, or of none.
#[derive(Clone, Debug)]
pub(crate) enum Bucket {
    /// The longest prefix first.
    Few(SmallVec<[Place; 1]>),
    Many(Arc<Many>),
}

/// What is tried at one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Prefixes of common length are kept in the table itself: one cache miss less.
    prefix: SmallVec<[u8; 24]>,
    content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Mostly there is but one; kept here, it costs no further look.
    One(Matcher),
    Several(Arc<List>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Many {
    places: Sharded<Place>,
    /// The longest first.
    lengths: Vec<Length>,
}

/// A length that prefixes have.
#[derive(Clone, Debug)]
struct Length {
    len: usize,
    places: usize,
    /// No matcher of these places weighs more. It may weigh less, as it is not lowered when one goes.
    weight: u64,
    /// The greatest such weight of this length and all shorter ones.
    below: u64,
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket::Few(SmallVec::new())
    }
}

impl Bucket {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Bucket::Few(places) => places.is_empty(),
            Bucket::Many(many) => many.places.is_empty(),
        }
    }

    /// Visits what is tried for a path, with the length of the prefix, while it may weigh as much as the visitor said
    /// last that it has to.
    pub(crate) fn search(
        &self,
        hashes: &mut Hashes<'_>,
        path: &[u8],
        mut least: u64,
        mut visit: impl FnMut(&Content, usize) -> u64,
    ) {
        match self {
            Bucket::Few(places) => {
                for place in places.iter().filter(|place| path.starts_with(&place.prefix)) {
                    visit(&place.content, place.prefix.len());
                }
            }
            Bucket::Many(many) => {
                for length in many.lengths.iter().filter(|length| length.len <= path.len()) {
                    if length.below < least {
                        return;
                    }
                    if length.weight < least {
                        continue;
                    }
                    let prefix = &path[..length.len];
                    if let Some(place) = many.places.find(hashes.first(length.len), |place| *place.prefix == *prefix) {
                        least = visit(&place.content, length.len);
                    }
                }
            }
        }
    }

    /// Adds a matcher at a prefix. True: the list there is to be settled, and was not before.
    pub(crate) fn add(&mut self, prefix: &[u8], matcher: Matcher) -> bool {
        if let Bucket::Many(many) = self {
            return Arc::make_mut(many).add(prefix, matcher);
        }
        if let Some(place) = self.place_mut(prefix) {
            return place.content.add(matcher);
        }
        let place = Place::of(prefix, matcher);
        match self {
            Bucket::Few(places) if places.len() < FEW => {
                let at = places.partition_point(|other| other.prefix.len() >= prefix.len());
                places.insert(at, place);
            }
            Bucket::Few(places) => {
                let mut many = Many::default();
                places.drain(..).chain([place]).for_each(|place| many.insert(place));
                *self = Bucket::Many(Arc::new(many));
            }
            Bucket::Many(_) => {}
        }
        false
    }

    /// Takes away a rule's matchers at a prefix. True as of [`Bucket::add`].
    pub(crate) fn remove(&mut self, prefix: &[u8], slot: u32) -> bool {
        let Some(place) = self.place_mut(prefix) else { return false };
        let (empty, unsettled) = place.content.remove(slot);
        if empty {
            match self {
                Bucket::Few(places) => places.retain(|place| *place.prefix != *prefix),
                Bucket::Many(many) => Arc::make_mut(many).forget(prefix),
            }
        }
        unsettled
    }

    /// Puts a list in order whose matchers have changed.
    pub(crate) fn settle(&mut self, prefix: &[u8], rules: &Rules) {
        if let Some(Place { content: Content::Several(list), .. }) = self.place_mut(prefix) {
            Arc::make_mut(list).settle(rules);
        }
    }

    fn place_mut(&mut self, prefix: &[u8]) -> Option<&mut Place> {
        match self {
            Bucket::Few(places) => places.iter_mut().find(|place| *place.prefix == *prefix),
            Bucket::Many(many) => Arc::make_mut(many).places.find_mut(hash(prefix), |place| *place.prefix == *prefix),
        }
    }
}

impl Many {
    fn add(&mut self, prefix: &[u8], matcher: Matcher) -> bool {
        match self.places.find_mut(hash(prefix), |place| *place.prefix == *prefix) {
            Some(place) => {
                let unsettled = place.content.add(matcher);
                self.count(prefix.len(), 0, matcher.weight);
                unsettled
            }
            None => {
                self.insert(Place::of(prefix, matcher));
                false
            }
        }
    }

    fn insert(&mut self, place: Place) {
        let weight = match &place.content {
            Content::One(matcher) => matcher.weight,
            Content::Several(list) => list.weight(),
        };
        self.count(place.prefix.len(), 1, weight);
        self.places.add(place, |place| hash(&place.prefix));
    }

    fn forget(&mut self, prefix: &[u8]) {
        self.places.remove(hash(prefix), |place| *place.prefix == *prefix);
        if let Some(length) = self.lengths.iter_mut().find(|length| length.len == prefix.len()) {
            length.places -= 1;
        }
        self.lengths.retain(|length| length.places > 0);
        self.sum_up();
    }

    fn count(&mut self, len: usize, places: usize, weight: u64) {
        let at = self.lengths.partition_point(|length| length.len > len);
        match self.lengths.get_mut(at) {
            Some(length) if length.len == len => {
                length.places += places;
                if weight <= length.weight {
                    return;
                }
                length.weight = weight;
            }
            _ => self.lengths.insert(at, Length { len, places, weight, below: weight }),
        }
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let mut below = 0;
        for length in self.lengths.iter_mut().rev() {
            below = length.weight.max(below);
            length.below = below;
        }
    }
}

impl Place {
    fn of(prefix: &[u8], matcher: Matcher) -> Self {
        Place { prefix: SmallVec::from_slice(prefix), content: Content::One(matcher) }
    }
}

impl Content {
    fn add(&mut self, matcher: Matcher) -> bool {
        match self {
            Content::One(one) if one.is(&matcher) => false,
            Content::One(one) => {
                *self = Content::Several(Arc::new(List::of([*one, matcher])));
                true
            }
            Content::Several(list) => Arc::make_mut(list).add(matcher),
        }
    }

    /// Whether nothing is left, and whether a list is to be settled that was not before.
    fn remove(&mut self, slot: u32) -> (bool, bool) {
        let list = match self {
            Content::One(matcher) => return (matcher.slot == slot, false),
            Content::Several(list) => Arc::make_mut(list),
        };
        let unsettled = list.remove(slot);
        match list.only() {
            Ok(only) => {
                *self = Content::One(only);
                (false, unsettled)
            }
            Err(0) => (true, unsettled),
            Err(_) => (false, unsettled),
        }
    }
}
