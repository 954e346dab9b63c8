//! What the exchanges of one worker share of the upstream side.

use std::io;
use std::rc::Rc;

use crate::proxy::io::buffer::Shelf;
use crate::proxy::upstream::options::UpstreamOptions;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::resolve::{Names, SharedNames};
use crate::proxy::upstream::tls::Tls;

/// The upstream side of one worker.
pub struct Upstreams {
    pub(super) names: Rc<Names>,
    pub(super) pool: Rc<Pool>,
    pub(super) tls: Tls,
    pub(super) shelf: Rc<Shelf>,
    pub(super) head_bytes: usize,
}

impl Upstreams {
    /// Reads the roots and the resolver's configuration. Call on the worker's runtime. `names`: what has been resolved is
    /// shared with every worker that was given a clone.
    pub fn new(options: &UpstreamOptions, names: SharedNames, shelf: Rc<Shelf>) -> io::Result<Self> {
        Ok(Self {
            names: Names::new(options, names),
            pool: Pool::new(options),
            tls: Tls::new(&options.trusted_certificates)?,
            shelf,
            head_bytes: options.head_bytes,
        })
    }
}
