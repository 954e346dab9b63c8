//! What makes two connections to an upstream interchangeable.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::proxy::upstream::tls::Verify;

/// Connections with the same key are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Rc<Secured>>,
}

/// What sets TLS connections to one address apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Secured {
    /// The name sent and verified; empty: none is sent.
    pub(super) name: Box<str>,
    pub(super) verify: Verify,
}
