//! Origins by destination: what the upstream side wants to know of a service, made once per service and worker.
//!
//! Keyed by the address of the snapshot's `Destination`, which each entry keeps alive, so an address never comes to
//! mean another one. The map is bounded: when it is full, destinations that no snapshot has any more go first, and if
//! that is not enough all go and are made again as they are used.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::proxy::upstream::Origin;
use crate::snapshot::plan::Destination;

const CAPACITY: usize = 16_384;

/// The origins that one worker has used.
#[derive(Default)]
pub struct Origins(RefCell<HashMap<usize, Entry, RandomState>>);

struct Entry {
    destination: Arc<Destination>,
    origin: Rc<Origin>,
}

impl Origins {
    pub fn of(&self, destination: &Arc<Destination>) -> Rc<Origin> {
        let mut known = self.0.borrow_mut();
        let key = Arc::as_ptr(destination).addr();
        if let Some(entry) = known.get(&key) {
            return Rc::clone(&entry.origin);
        }
        if known.len() >= CAPACITY {
            known.retain(|_, entry| Arc::strong_count(&entry.destination) > 1);
        }
        if known.len() >= CAPACITY {
            known.clear();
        }
        let origin = Rc::new(origin(destination));
        known.insert(key, Entry { destination: Arc::clone(destination), origin: Rc::clone(&origin) });
        origin
    }
}

fn origin(destination: &Destination) -> Origin {
    Origin {
        tls: destination.tls,
        host: destination.host.clone(),
        port: destination.port,
        connect_timeout: Duration::from_millis(destination.connect_timeout_ms),
        write_timeout: Duration::from_millis(destination.write_timeout_ms),
        read_timeout: Duration::from_millis(destination.read_timeout_ms),
        retries: destination.retries,
        tls_verify: destination.tls_verify.unwrap_or(false),
        tls_verify_depth: destination.tls_verify_depth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(host: &str) -> Arc<Destination> {
        Arc::new(Destination {
            id: uuid::Uuid::nil(),
            name: None,
            tls: true,
            grpc: false,
            host: host.into(),
            port: 443,
            path: None,
            retries: 5,
            connect_timeout_ms: 1,
            write_timeout_ms: 2,
            read_timeout_ms: 3,
            tls_verify: None,
            tls_verify_depth: None,
        })
    }

    #[test]
    fn an_origin_is_made_once_per_destination() {
        let origins = Origins::default();
        let (a, b) = (destination("a"), destination("b"));
        assert!(Rc::ptr_eq(&origins.of(&a), &origins.of(&a)));
        assert_eq!(&*origins.of(&b).host, "b");
        assert_eq!(origins.of(&a).read_timeout, Duration::from_millis(3));
    }

    #[test]
    fn a_full_map_lets_go_of_what_no_snapshot_has() {
        let origins = Origins::default();
        let kept = destination("kept");
        let first = origins.of(&kept);
        for number in 0..CAPACITY {
            origins.of(&destination(&number.to_string()));
        }
        assert!(origins.0.borrow().len() < CAPACITY);
        assert!(Rc::ptr_eq(&first, &origins.of(&kept)));
    }
}
