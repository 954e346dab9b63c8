//! What one worker works out once per destination: what to resolve, which `Host` to send, which TLS name, whose turn it is.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http::HeaderValue;

use crate::balancer::{Rotation, Walk};
use crate::proxy::upstream::failure::Failure;
use crate::proxy::upstream::key::Secured;
use crate::proxy::upstream::resolve::{Names, Unresolved};
use crate::proxy::upstream::tls::Verify;
use crate::snapshot::plan::{Backend, Destination};

/// Maximum number of destinations that a worker remembers. At the bound those that no snapshot has any more are dropped;
/// if that is not enough, all are, and are made again as they are used.
const CAPACITY: usize = 16_384;

/// A destination, worked out.
pub struct Origin {
    /// One target for a host; the targets of a group.
    targets: Box<[Target]>,
    /// Where the next exchange begins among the targets of a group.
    rotation: Cell<Rotation>,
    pub(super) connect_timeout: Duration,
    pub(super) limits: Limits,
    /// Tries after the first.
    pub(super) retries: u32,
}

/// How long each operation of a try may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub write: Duration,
    pub read: Duration,
}

/// A host and port that tries can go to.
pub struct Target {
    name: Resolve,
    pub(super) text: Box<str>,
    pub(super) port: u16,
    /// `Host` of requests to this target (`kong/proxy.md` §4.2).
    pub host: HeaderValue,
    /// With `host` as its name.
    tls: Option<Rc<Secured>>,
    /// Where the next exchange begins among the addresses of the name.
    rotation: Cell<Rotation>,
}

/// What leads to addresses.
enum Resolve {
    Address(IpAddr),
    Name(Box<str>),
}

/// The destinations that one worker has used. Keyed by the address of the snapshot's `Destination`, which each entry keeps
/// alive, so an address never comes to mean another destination.
#[derive(Default)]
pub struct Origins(RefCell<HashMap<usize, Entry, RandomState>>);

struct Entry {
    destination: Arc<Destination>,
    origin: Rc<Origin>,
}

impl Origins {
    /// The origin of `destination`; an error when one of its hosts cannot stand in a header.
    pub fn of(&self, destination: &Arc<Destination>) -> Result<Rc<Origin>, Failure> {
        let mut known = self.0.borrow_mut();
        let key = Arc::as_ptr(destination).addr();
        if let Some(entry) = known.get(&key) {
            return Ok(Rc::clone(&entry.origin));
        }
        let origin = Rc::new(Origin::new(destination)?);
        if known.len() >= CAPACITY {
            known.retain(|_, entry| Arc::strong_count(&entry.destination) > 1);
        }
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(key, Entry { destination: Arc::clone(destination), origin: Rc::clone(&origin) });
        Ok(origin)
    }
}

impl Origin {
    pub fn new(destination: &Destination) -> Result<Self, Failure> {
        let verify = Verify::of(destination.tls_verify.unwrap_or(false), destination.tls_verify_depth);
        let tls = destination.tls.then_some(verify);
        let targets: Result<Box<[Target]>, Failure> = match &destination.backend {
            Backend::Host { host, port } => Target::new(host, *port, tls).map(|target| [target].into()),
            Backend::Group(group) => group.iter().map(|(host, port)| Target::new(host, *port, tls)).collect(),
        };
        Ok(Self {
            targets: targets?,
            rotation: Cell::default(),
            connect_timeout: Duration::from_millis(destination.connect_timeout_ms),
            limits: Limits {
                write: Duration::from_millis(destination.write_timeout_ms),
                read: Duration::from_millis(destination.read_timeout_ms),
            },
            retries: destination.retries,
        })
    }
}

impl Target {
    fn new(host: &str, port: u16, tls: Option<Verify>) -> Result<Self, Failure> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = match bare.parse() {
            Ok(address) => Resolve::Address(address),
            Err(_) => Resolve::Name(bare.to_ascii_lowercase().into()),
        };
        let implied = if tls.is_some() { 443 } else { 80 };
        let header = match name {
            Resolve::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Resolve::Address(IpAddr::V4(_)) | Resolve::Name(_) => host.to_owned(),
        };
        let header = if port == implied { header } else { format!("{header}:{port}") };
        let header = HeaderValue::try_from(header).map_err(|_| Failure::Resolve {
            host: host.to_owned(),
            why: "the host cannot stand in a header".to_owned(),
        })?;
        let tls = tls.map(|verify| Rc::new(Secured { name: tls_name(header.as_bytes()), verify }));
        Ok(Self { name, text: host.into(), port, host: header, tls, rotation: Cell::default() })
    }

    /// The TLS side of a connection for a request with this `Host`; `None` in place of the host: the target's own.
    pub(super) fn secured(&self, host: Option<&HeaderValue>) -> Option<Rc<Secured>> {
        let own = self.tls.as_ref()?;
        match host.map(|host| tls_name(host.as_bytes())) {
            Some(name) if name != own.name => Some(Rc::new(Secured { name, verify: own.verify })),
            _ => Some(own.clone()),
        }
    }
}

/// The way of one exchange through the targets of its origin and their addresses: each try goes to the next one.
pub(super) struct Choices<'a> {
    origin: &'a Origin,
    targets: Walk,
    /// The addresses of a host, and the walk through them.
    addresses: Option<(Addresses, Walk)>,
}

/// Where one try goes.
pub(super) struct Choice<'a> {
    pub(super) target: &'a Target,
    pub(super) address: SocketAddr,
}

enum Addresses {
    One([IpAddr; 1]),
    Some(Arc<[IpAddr]>),
}

impl<'a> Choices<'a> {
    pub(super) fn new(origin: &'a Origin) -> Self {
        Self { origin, targets: begin(&origin.rotation), addresses: None }
    }

    /// The next target and address. A host is resolved once per exchange, each target of a group when it is chosen.
    pub(super) async fn next(&mut self, names: &Rc<Names>) -> Result<Choice<'a>, Failure> {
        let origin = self.origin;
        let target = match &*origin.targets {
            [] => return Err(Failure::NameNotFound),
            [target] => target,
            targets => {
                self.addresses = None;
                let places = targets.len();
                let at = self.targets.next_index(places).unwrap_or_default();
                targets.get(at).ok_or(Failure::NameNotFound)?
            }
        };
        let (addresses, walk) = match &mut self.addresses {
            Some(known) => known,
            none => none.insert((resolve(target, names).await?, begin(&target.rotation))),
        };
        let addresses = match addresses {
            Addresses::One(address) => &address[..],
            Addresses::Some(addresses) => addresses,
        };
        let address = walk.next(addresses).ok_or(Failure::NameNotFound)?;
        Ok(Choice { target, address: SocketAddr::new(address, target.port) })
    }
}

fn begin(rotation: &Cell<Rotation>) -> Walk {
    let mut turned = rotation.get();
    let walk = turned.begin();
    rotation.set(turned);
    walk
}

async fn resolve(target: &Target, names: &Rc<Names>) -> Result<Addresses, Failure> {
    match &target.name {
        Resolve::Address(address) => Ok(Addresses::One([*address])),
        Resolve::Name(name) => match names.addresses(name).await {
            Ok(addresses) => Ok(Addresses::Some(addresses)),
            Err(Unresolved::NotFound) => Err(Failure::NameNotFound),
            Err(Unresolved::Failed(why)) => {
                Err(Failure::Resolve { host: target.text.to_string(), why: why.to_string() })
            }
        },
    }
}

/// `Host` without its port; empty for an address, which is never sent as a server name.
fn tls_name(host: &[u8]) -> Box<str> {
    let text = std::str::from_utf8(host).unwrap_or_default();
    if text.starts_with('[') {
        return Box::default();
    }
    let name = text.split_once(':').map_or(text, |(name, _)| name).trim_end_matches('.');
    if name.parse::<IpAddr>().is_ok() { Box::default() } else { name.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn destination(tls: bool, host: &str, port: u16) -> Destination {
        Destination {
            id: uuid::Uuid::nil(),
            name: None,
            tls,
            grpc: false,
            backend: Backend::Host { host: host.into(), port },
            path: None,
            retries: 5,
            connect_timeout_ms: 1,
            write_timeout_ms: 2,
            read_timeout_ms: 3,
            tls_verify: None,
            tls_verify_depth: None,
        }
    }

    fn target(tls: bool, host: &str, port: u16) -> Result<Target, Failure> {
        Target::new(host, port, tls.then(|| Verify::of(false, None)))
    }

    #[test]
    fn host_carries_the_port_unless_the_scheme_implies_it() {
        let table = [
            (false, "a.test", 80, "a.test"),
            (false, "a.test", 8080, "a.test:8080"),
            (false, "a.test", 443, "a.test:443"),
            (true, "a.test", 443, "a.test"),
            (true, "a.test", 80, "a.test:80"),
            (false, "10.0.0.1", 80, "10.0.0.1"),
            (false, "::1", 8080, "[::1]:8080"),
            (false, "[::1]", 80, "[::1]"),
        ];
        for (tls, host, port, expected) in table {
            assert_eq!(target(tls, host, port).ok().unwrap().host, expected);
        }
        assert!(target(false, "a\r\nb", 80).is_err());
    }

    #[test]
    fn the_tls_name_is_the_host_without_port_and_never_an_address() {
        let table = [
            ("a.test", None, "a.test"),
            ("a.test", Some("b.test:8443"), "b.test"),
            ("a.test", Some("b.test."), "b.test"),
            ("a.test", Some("10.0.0.1:8443"), ""),
            ("10.0.0.1", None, ""),
            ("::1", None, ""),
            ("::1", Some("b.test"), "b.test"),
        ];
        for (own, sent, expected) in table {
            let sent = sent.map(HeaderValue::from_static);
            let secured = target(true, own, 443).ok().unwrap().secured(sent.as_ref()).unwrap();
            assert_eq!(&*secured.name, expected, "{own} {sent:?}");
        }
        assert!(target(false, "a.test", 80).ok().unwrap().secured(None).is_none());
    }

    #[test]
    fn an_origin_is_made_once_per_destination_and_the_map_is_bounded() {
        let origins = Origins::default();
        let kept = Arc::new(destination(true, "kept", 443));
        let first = origins.of(&kept).ok().unwrap();
        assert!(Rc::ptr_eq(&first, &origins.of(&kept).ok().unwrap()));
        assert_eq!(first.limits.read, Duration::from_millis(3));
        for number in 0..CAPACITY {
            origins.of(&Arc::new(destination(true, &number.to_string(), 443))).ok().unwrap();
        }
        assert!(origins.0.borrow().len() < CAPACITY);
        assert!(Rc::ptr_eq(&first, &origins.of(&kept).ok().unwrap()));
    }
}
