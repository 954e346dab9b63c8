//! Changes that plugins make to the headers of a request on its way to the upstream. The request's own headers stay as
//! they arrived: later phases read them.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::http1::name::mark;

/// Number of changes that an authentication plugin makes.
const USUAL: usize = 6;

/// Changes in their order.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    edits: SmallVec<[Edit; USUAL]>,
    /// The marks of all names.
    marks: u64,
}

#[derive(Clone, Debug)]
struct Edit {
    name: HeaderName,
    /// `None`: the header is removed.
    value: Option<HeaderValue>,
    /// The request's own headers of this name do not pass.
    replaces: bool,
}

impl HeaderEdits {
    pub fn clear(&mut self) {
        self.edits.clear();
        self.marks = 0;
    }

    /// The marks of all names.
    pub fn marks(&self) -> u64 {
        self.marks
    }

    /// Replaces all headers of this name.
    pub fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.replace(name, Some(value));
    }

    /// Removes all headers of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.replace(name, None);
    }

    /// Adds a header beside others of its name.
    pub fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.marks |= mark(name.as_str().as_bytes());
        self.edits.push(Edit { name: name.clone(), value: Some(value), replaces: false });
    }

    fn replace(&mut self, name: &HeaderName, value: Option<HeaderValue>) {
        let mark = mark(name.as_str().as_bytes());
        if self.marks & mark != 0 {
            self.edits.retain(|edit| edit.name != *name);
        }
        self.marks |= mark;
        self.edits.push(Edit { name: name.clone(), value, replaces: true });
    }

    /// Whether the request's own headers of this name are replaced or removed. `mark`: the name's.
    pub fn replaces(&self, name: &HeaderName, mark: u64) -> bool {
        self.marks & mark != 0 && self.edits.iter().any(|edit| edit.replaces && edit.name == *name)
    }

    /// The headers that are added or replaced.
    pub fn lines(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.edits.iter().filter_map(|edit| Some((&edit.name, edit.value.as_ref()?)))
    }

    /// The values of a header after the changes, in their order.
    pub fn values<'a>(
        &'a self,
        original: &'a HeaderMap,
        name: &'a HeaderName,
    ) -> impl Iterator<Item = &'a HeaderValue> {
        let is_replaced = self.marks != 0 && self.replaces(name, mark(name.as_str().as_bytes()));
        let own = (!is_replaced).then(|| original.get_all(name).iter());
        own.into_iter().flatten().chain(self.lines().filter(move |(other, _)| *other == name).map(|(_, value)| value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::header::{ACCEPT, VIA};

    use super::*;

    #[test]
    fn the_last_change_of_a_name_counts_and_the_original_stays() {
        let mut original = HeaderMap::new();
        original.append(VIA, "1".parse().unwrap());
        original.append(VIA, "2".parse().unwrap());
        let mut edits = HeaderEdits::default();
        let seen = |edits: &HeaderEdits| {
            let values = edits.values(&original, &VIA).map(|value| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        };
        assert_eq!(seen(&edits), ["1", "2"]);
        edits.append(&VIA, "3".parse().unwrap());
        assert_eq!(seen(&edits), ["1", "2", "3"]);
        edits.set(&VIA, "4".parse().unwrap());
        edits.set(&ACCEPT, "5".parse().unwrap());
        assert_eq!(seen(&edits), ["4"]);
        edits.remove(&VIA);
        assert_eq!(seen(&edits), [""; 0]);
        assert_eq!((edits.lines().count(), original.len()), (1, 2));
    }
}
