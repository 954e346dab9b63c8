//! What a plugin leaves in one phase of an exchange for its later phases.

use std::any::Any;

/// One note per type, so each plugin has a type of its own. A chain has few plugins, and few of them leave notes, so a list
/// that is searched will do; it allocates nothing until the first note.
#[derive(Default)]
pub struct Notes(Vec<Box<dyn Any>>);

impl Notes {
    /// Leaves a note, in place of one of the same type.
    pub fn leave<T: 'static>(&mut self, note: T) {
        self.0.retain(|other| !other.is::<T>());
        self.0.push(Box::new(note));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn read<T: 'static>(&self) -> Option<&T> {
        self.0.iter().find_map(|note| note.downcast_ref())
    }

    pub fn read_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.0.iter_mut().find_map(|note| note.downcast_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_note() {
        let mut notes = Notes::default();
        notes.leave(1_u8);
        notes.leave("two");
        notes.leave(3_u8);
        if let Some(text) = notes.read_mut::<&str>() {
            *text = "four";
        }
        assert_eq!((notes.read::<u8>(), notes.read::<&str>(), notes.read::<u16>()), (Some(&3), Some(&"four"), None));
    }
}
