//! All places of one host: what is tried where a path begins with a prefix.
//!
//! A few places are tried one by one, the longest prefix first. Many are kept in a table, which is asked once per length
//! that occurs, from the longest on, and no further than where nothing can beat the best match so far; a probe that finds
//! nothing seldom leaves the cache. A trie lost: its steps miss the cache one after the other in a large router, and all
//! of it had to be made anew for each change. What is large is shared between a router and the one made of it.

use std::sync::Arc;

use crate::router::list::List;
use crate::router::matcher::Matcher;
use crate::router::order::Rules;
use crate::router::prefix_hash::Hashes;
use crate::router::prefix_hash::hash;
use crate::router::sharded::Sharded;
use crate::router::text::Text;

/// More places than this are kept in a table. Tests have it low, so that random routes come to both sides of it.
const FEW: usize = if cfg!(test) { 2 } else { 8 };

/// The places of one host, or of none.
#[derive(Clone, Debug)]
pub(crate) enum Bucket {
    /// What is tried for every path, and nothing else.
    Whole(Content),
    /// The longest prefix first.
    Few(Box<[Place]>),
    Many(Arc<Many>),
}

/// What is tried at one prefix, beside it in one line of the cache.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Place {
    prefix: Text,
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
        Bucket::Few(Box::default())
    }
}

impl Bucket {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Bucket::Whole(_) => false,
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
            Bucket::Whole(content) => {
                visit(content, 0);
            }
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
        if let Some(content) = self.content_mut(prefix) {
            return content.add(matcher);
        }
        let mut places = self.take_few();
        let at = places.partition_point(|other| other.prefix.len() >= prefix.len());
        places.insert(at, Place::of(prefix, matcher));
        *self = Bucket::of(places);
        false
    }

    /// Takes away a rule's matchers at a prefix. True as of [`Bucket::add`].
    pub(crate) fn remove(&mut self, prefix: &[u8], slot: u32) -> bool {
        let Some(content) = self.content_mut(prefix) else { return false };
        let (empty, unsettled) = content.remove(slot);
        if !empty {
            return unsettled;
        }
        if let Bucket::Many(many) = self {
            Arc::make_mut(many).forget(prefix);
        } else {
            let mut places = self.take_few();
            places.retain(|place| *place.prefix != *prefix);
            *self = Bucket::of(places);
        }
        unsettled
    }

    /// Puts a list in order whose matchers have changed.
    pub(crate) fn settle(&mut self, prefix: &[u8], rules: &Rules) {
        if let Some(Content::Several(list)) = self.content_mut(prefix) {
            Arc::make_mut(list).settle(rules);
        }
    }

    /// The places of a few, the longest prefix first.
    fn of(mut places: Vec<Place>) -> Bucket {
        match &places[..] {
            [only] if only.prefix.is_empty() => {}
            few if few.len() <= FEW => return Bucket::Few(places.into()),
            _ => {
                let mut many = Many::default();
                places.into_iter().for_each(|place| many.insert(place));
                return Bucket::Many(Arc::new(many));
            }
        }
        places.pop().map_or_else(Bucket::default, |only| Bucket::Whole(only.content))
    }

    /// Takes the places out; none of many.
    fn take_few(&mut self) -> Vec<Place> {
        match std::mem::take(self) {
            Bucket::Whole(content) => vec![Place { prefix: Text::of(b""), content }],
            Bucket::Few(places) => places.into(),
            Bucket::Many(_) => Vec::new(),
        }
    }

    fn content_mut(&mut self, prefix: &[u8]) -> Option<&mut Content> {
        let place = match self {
            Bucket::Whole(content) => return prefix.is_empty().then_some(content),
            Bucket::Few(places) => places.iter_mut().find(|place| *place.prefix == *prefix),
            Bucket::Many(many) => Arc::make_mut(many).places.find_mut(hash(prefix), |place| *place.prefix == *prefix),
        };
        place.map(|place| &mut place.content)
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
        Place { prefix: Text::of(prefix), content: Content::One(matcher) }
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
