//! One client connection: what is known of it, and how it is counted.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use http::HeaderValue;

use crate::proxy::exchange::context::{Listener, WorkerContext};

/// What is known of a connection. It lives as long as any exchange of it, tunnels included.
pub struct Connection {
    pub worker: Rc<WorkerContext>,
    pub listener: Rc<Listener>,
    pub peer_ip: IpAddr,
    /// `peer_ip` as text.
    pub peer: HeaderValue,
    /// Whose connection it is, by the PROXY protocol.
    pub proxied_ip: Option<IpAddr>,
    /// TLS: the server name that the client asked for, or nothing. `None`: not TLS.
    pub sni: Option<Box<str>>,
    exchanges: Cell<u32>,
    served: Cell<u32>,
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub struct ClientAddress {
    pub peer_ip: IpAddr,
    /// By the PROXY protocol.
    pub proxied_ip: Option<IpAddr>,
}

impl Connection {
    /// Counts it in, as one that waits for a request.
    pub fn open(
        worker: Rc<WorkerContext>,
        listener: Rc<Listener>,
        from: ClientAddress,
        sni: Option<Box<str>>,
    ) -> Rc<Self> {
        let traffic = &worker.traffic;
        traffic.active.fetch_add(1, Relaxed);
        traffic.waiting.fetch_add(1, Relaxed);
        let peer = HeaderValue::try_from(from.peer_ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Rc::new(Self {
            worker,
            listener,
            peer_ip: from.peer_ip,
            peer,
            proxied_ip: from.proxied_ip,
            sni,
            exchanges: Cell::new(0),
            served: Cell::new(0),
        })
    }

    pub fn tls(&self) -> bool {
        self.sni.is_some()
    }

    pub fn begin_exchange(&self) {
        let traffic = &self.worker.traffic;
        traffic.requests.fetch_add(1, Relaxed);
        if self.exchanges.get() == 0 {
            traffic.waiting.fetch_sub(1, Relaxed);
            traffic.writing.fetch_add(1, Relaxed);
        }
        self.exchanges.set(self.exchanges.get() + 1);
        self.served.set(self.served.get().saturating_add(1));
    }

    pub fn end_exchange(&self) {
        self.exchanges.set(self.exchanges.get() - 1);
        if self.exchanges.get() == 0 {
            let traffic = &self.worker.traffic;
            traffic.writing.fetch_sub(1, Relaxed);
            traffic.waiting.fetch_add(1, Relaxed);
        }
    }

    /// Whether it has served as many requests as a connection may.
    pub fn is_spent(&self) -> bool {
        let most = self.worker.options.keepalive_requests;
        most > 0 && self.served.get() >= most
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.traffic.active.fetch_sub(1, Relaxed);
        self.worker.traffic.waiting.fetch_sub(1, Relaxed);
    }
}
