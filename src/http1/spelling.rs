//! The letter case in which field names arrived. Field names pass on as they were spelled.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::http1::name::Name;

/// How the field names of one head were spelled.
#[derive(Clone, Debug, Default)]
pub struct Spelling {
    text: Bytes,
    /// Start and length of each name in `text`, in their order.
    names: SmallVec<[(u32, u16); 16]>,
    /// The marks of all names.
    marks: u64,
}

impl Spelling {
    pub(crate) fn clear(&mut self) {
        self.text = Bytes::new();
        self.names.clear();
        self.marks = 0;
    }

    /// Adds the name at this place of the text that `set_text` gets. `None`: it is beyond what can be noted.
    pub(crate) fn push(&mut self, start: usize, length: usize, mark: u64) -> Option<()> {
        self.names.push((u32::try_from(start).ok()?, u16::try_from(length).ok()?));
        self.marks |= mark;
        Some(())
    }

    pub(crate) fn set_text(&mut self, text: Bytes) {
        self.text = text;
    }

    /// False when no field of the head has this name, as it came.
    pub fn may_have(&self, name: &Name) -> bool {
        self.marks & name.mark != 0
    }

    /// The name as it came. `at` is the place where the search begins; it is left behind the name that was found, because
    /// names are mostly asked for in their order.
    pub(crate) fn of(&self, name: &[u8], mark: u64, at: &mut usize) -> Option<&[u8]> {
        if self.marks & mark == 0 {
            return None;
        }
        let spelled = |&(start, length): &(u32, u16)| {
            let (start, length) = (start as usize, usize::from(length));
            self.text.get(start..start + length).filter(|text| length == name.len() && text.eq_ignore_ascii_case(name))
        };
        let (before, after) = self.names.split_at_checked(*at)?;
        let mut names = (*at..).zip(after).chain((0..).zip(before));
        let (place, text) = names.find_map(|(place, name)| Some((place, spelled(name)?)))?;
        *at = place + 1;
        Some(text)
    }
}
