//! Entities on their way to another thread.
//!
//! The allocator keeps the memory of each thread apart and gives back what is free at its end. Reading a configuration takes
//! ten times what is kept of it; if single entities stayed among that, all of it would stay resident. So they leave in
//! one piece, and the thread that read them leaves nothing behind. Asking the allocator for what is free lost: that
//! is a call without a safe form.

use std::sync::Arc;

use uuid::Uuid;

use crate::entity::{Entity, Kind};

/// Some entities, in two pieces of memory whatever their number.
#[derive(Debug, Default)]
pub struct Parcel {
    /// With the length of what is packed of each.
    heads: Vec<(Kind, Uuid, usize)>,
    packed: Vec<u8>,
}

impl Parcel {
    pub fn of(entities: &[Arc<Entity>]) -> Self {
        let heads = entities.iter().map(|entity| (entity.kind, entity.id, entity.packed.len())).collect();
        let mut packed = Vec::with_capacity(entities.iter().map(|entity| entity.packed.len()).sum());
        entities.iter().for_each(|entity| packed.extend_from_slice(&entity.packed));
        Self { heads, packed }
    }

    /// The entities, in their order, in memory of the thread that calls.
    pub fn open(self) -> Vec<Arc<Entity>> {
        let mut rest = &self.packed[..];
        let entity = |&(kind, id, len): &(Kind, Uuid, usize)| {
            let (packed, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(Arc::new(Entity { kind, id, packed: packed.into() }))
        };
        self.heads.iter().filter_map(entity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out() {
        let service = |number: u128| {
            let text = format!(r#"{{"id":"{}","name":"s{number}"}}"#, Uuid::from_u128(number));
            Entity::from_text(Kind::SERVICES, &text).map(Arc::new)
        };
        let entities: Vec<_> = (0..20).filter_map(service).collect();
        assert_eq!(entities.len(), 20);
        assert_eq!(Parcel::of(&entities).open(), entities);
        assert_eq!(Parcel::of(&[]).open(), []);
    }
}
