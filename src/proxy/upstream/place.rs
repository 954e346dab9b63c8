//! What one worker works out once per origin: what to resolve, which `Host` to send, which TLS name, whose turn it is.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use http::HeaderValue;

use crate::balancer::{Rotation, Walk};
use crate::proxy::upstream::Origin;
use crate::proxy::upstream::link::Limits;
use crate::proxy::upstream::pool::Secured;
use crate::proxy::upstream::tls::Verify;

/// Origins remembered; at the bound all are forgotten, which costs working them out again.
const MAX_PLACES: usize = 10_000;

/// An origin, worked out.
pub struct Place {
    pub(super) target: Target,
    /// What `Host` says.
    pub host: HeaderValue,
    pub limits: Limits,
    /// With `host` as its name.
    pub(super) tls: Option<Rc<Secured>>,
    rotation: Cell<Rotation>,
}

/// What leads to addresses.
pub(super) enum Target {
    Address(IpAddr),
    Name(Box<str>),
}

/// The places of one worker.
#[derive(Default)]
pub(super) struct Places(RefCell<hashbrown::HashMap<Origin, Rc<Place>, foldhash::fast::RandomState>>);

impl Places {
    /// The place of `origin`; an error when its host cannot stand in a header.
    pub(super) fn find(&self, origin: &Origin) -> Result<Rc<Place>, String> {
        if let Some(place) = self.0.borrow().get(origin) {
            return Ok(place.clone());
        }
        let place = Rc::new(Place::new(origin)?);
        let mut places = self.0.borrow_mut();
        if places.len() >= MAX_PLACES {
            places.clear();
        }
        places.insert(origin.clone(), place.clone());
        Ok(place)
    }
}

impl Place {
    fn new(origin: &Origin) -> Result<Self, String> {
        let bare = origin.host.trim_start_matches('[').trim_end_matches(']');
        let target = match bare.parse() {
            Ok(address) => Target::Address(address),
            Err(_) => Target::Name(bare.to_ascii_lowercase().into()),
        };
        let host = host_header(origin, &target)?;
        let tls = origin.tls.then(|| Rc::new(Secured { name: tls_name(host.as_bytes()), verify: verify(origin) }));
        let limits = Limits { write: origin.write_timeout, read: origin.read_timeout };
        Ok(Self { target, host, limits, tls, rotation: Cell::default() })
    }

    /// The way of the next exchange through the addresses.
    pub(super) fn begin(&self) -> Walk {
        let mut rotation = self.rotation.get();
        let walk = rotation.begin();
        self.rotation.set(rotation);
        walk
    }

    /// The TLS side of a connection for a request with this `Host`.
    pub(super) fn secured(&self, origin: &Origin, host: Option<&HeaderValue>) -> Option<Rc<Secured>> {
        let own = self.tls.as_ref()?;
        match host.map(|host| tls_name(host.as_bytes())) {
            Some(name) if name != own.name => Some(Rc::new(Secured { name, verify: verify(origin) })),
            _ => Some(own.clone()),
        }
    }
}

fn verify(origin: &Origin) -> Verify {
    Verify::of(origin.tls_verify, origin.tls_verify_depth)
}

/// Kong: the service's host, with its port unless that is the scheme's own.
fn host_header(origin: &Origin, target: &Target) -> Result<HeaderValue, String> {
    let host = match target {
        Target::Address(IpAddr::V6(address)) => format!("[{address}]"),
        Target::Address(IpAddr::V4(_)) | Target::Name(_) => origin.host.to_string(),
    };
    let implied = if origin.tls { 443 } else { 80 };
    let text = if origin.port == implied { host } else { format!("{host}:{}", origin.port) };
    HeaderValue::try_from(text).map_err(|_| "the host is no valid header".to_owned())
}

/// `Host` without its port; empty for an address, which is never sent as a name.
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
    use std::time::Duration;

    use super::*;

    fn origin(tls: bool, host: &str, port: u16) -> Origin {
        let second = Duration::from_secs(1);
        Origin {
            tls,
            host: host.into(),
            port,
            connect_timeout: second,
            write_timeout: second,
            read_timeout: second,
            retries: 0,
            tls_verify: false,
            tls_verify_depth: None,
        }
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
            assert_eq!(Place::new(&origin(tls, host, port)).unwrap().host, expected);
        }
        assert!(Place::new(&origin(false, "a\r\nb", 80)).is_err());
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
            let origin = origin(true, own, 443);
            let sent = sent.map(HeaderValue::from_static);
            let secured = Place::new(&origin).unwrap().secured(&origin, sent.as_ref()).unwrap();
            assert_eq!(&*secured.name, expected, "{own} {sent:?}");
        }
        let plain = origin(false, "a.test", 80);
        assert!(Place::new(&plain).unwrap().secured(&plain, None).is_none());
    }

    #[test]
    fn a_place_is_worked_out_once_and_the_bound_holds() {
        let places = Places::default();
        let first = places.find(&origin(false, "a.test", 80)).unwrap();
        assert!(Rc::ptr_eq(&first, &places.find(&origin(false, "a.test", 80)).unwrap()));
        for port in 0..=u16::try_from(MAX_PLACES).unwrap() {
            places.find(&origin(false, "b.test", port)).unwrap();
        }
        assert!(places.0.borrow().len() <= MAX_PLACES);
    }
}
