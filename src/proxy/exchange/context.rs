//! What the exchanges of one worker share.
//!
//! All of it is this thread's alone, so it needs no locks and tasks need not be `Send`. Rejected: a runtime that moves tasks
//! between threads. It costs more per request, and it makes every pool a shared one.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::counter::Counters;
use crate::http1::request::RequestHead;
use crate::listen::Traffic;
use crate::proxy::exchange::carried::Carried;
use crate::proxy::exchange::client_address::RealIp;
use crate::proxy::exchange::marks::Marks;
use crate::proxy::exchange::request_id::RequestIds;
use crate::proxy::io::buffer::Shelf;
use crate::proxy::options::Options;
use crate::proxy::upstream::SharedNames;
use crate::proxy::upstream::origin::Origins;
use crate::proxy::upstream::upstreams::Upstreams;
use crate::snapshot::{Live, Loaded, Reader};

/// Maximum number of values of a kind whose memory is kept between two exchanges; others are freed.
const SPARES: usize = 64;

/// Everything that the exchanges of one thread share.
pub struct WorkerContext {
    pub options: Arc<Options>,
    pub real_ip: RealIp,
    pub counters: Arc<Counters>,
    pub traffic: Arc<Traffic>,
    pub shelf: Rc<Shelf>,
    pub upstreams: Upstreams,
    pub origins: Origins,
    pub ids: RequestIds,
    pub marks: Marks,
    pub tasks: TaskTracker,
    pub stop: Stop,
    pub heads: Spares<RequestHead>,
    pub carried: Spares<Carried>,
    reader: RefCell<Reader>,
}

/// One listening address, as its connections need it.
pub struct Listener {
    /// After `port_maps`.
    pub port: u16,
    pub port_value: HeaderValue,
    pub tls: Option<TlsAcceptor>,
    pub http2: bool,
    pub proxy_protocol: bool,
}

/// Asks the tasks of one worker to end.
#[derive(Default)]
pub struct Stop {
    is_asked: Cell<bool>,
    bell: Notify,
}

impl Stop {
    pub fn is_asked(&self) -> bool {
        self.is_asked.get()
    }

    pub async fn asked(&self) {
        let mut rung = pin!(self.bell.notified());
        // Registered first, so that a request to stop from here on is noticed.
        rung.as_mut().enable();
        if !self.is_asked() {
            rung.await;
        }
    }

    pub fn ask(&self) {
        self.is_asked.set(true);
        self.bell.notify_waiters();
    }
}

impl WorkerContext {
    /// Call on the worker's runtime.
    pub fn new(
        options: Arc<Options>,
        names: SharedNames,
        live: &Live,
        counters: Arc<Counters>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        let shelf = Rc::new(Shelf::default());
        Ok(Self {
            real_ip: RealIp {
                trusted: options.trusted_ips.clone(),
                header: options.real_ip_header.clone(),
                recursive: options.real_ip_recursive,
                from_proxy_protocol: options.real_ip_from_proxy_protocol,
            },
            upstreams: Upstreams::new(&options.upstream, names, shelf.clone())?,
            shelf,
            options,
            counters,
            traffic,
            origins: Origins::default(),
            ids: RequestIds::new(),
            marks: Marks::new(),
            tasks: TaskTracker::new(),
            stop: Stop::default(),
            heads: Spares::default(),
            carried: Spares::default(),
            reader: RefCell::new(live.reader()),
        })
    }

    /// The snapshot that is live now.
    pub fn snapshot(&self) -> Option<Loaded> {
        self.reader.borrow_mut().load()
    }
}

/// Values whose memory is used again: making them anew, and moving them, costs more than emptying them.
pub struct Spares<T>(RefCell<Vec<Rc<T>>>);

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Default> Spares<T> {
    /// A value of which this is the only reference.
    pub fn take(&self, clear: fn(&mut T)) -> Rc<T> {
        let Some(mut spare) = self.0.borrow_mut().pop() else { return Rc::default() };
        match Rc::get_mut(&mut spare) {
            Some(value) => {
                clear(value);
                spare
            }
            None => Rc::default(),
        }
    }

    /// Keeps a value whose last user is about to drop it.
    pub fn give(&self, value: &Rc<T>) {
        let mut spares = self.0.borrow_mut();
        if spares.len() < SPARES {
            spares.push(Rc::clone(value));
        }
    }
}
