//! A proxy in this process, with a configuration of its own.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_proto::Revision;
use uuid::Uuid;

use crate::counter::Counters;
use crate::entity::{Entity, Kind};
use crate::http1::HeadLimits;
use crate::listen::Traffic;
use crate::listen::access_log::{AccessLog, CLIENTS_LINES, Target};
use crate::listen::bind::Address;
use crate::proxy::Proxy;
use crate::proxy::options::{Options, Patience, ResponseHeaders};
use crate::proxy::tests::client::Client;
use crate::proxy::upstream::options::UpstreamOptions;
use crate::snapshot::{Builder, Live};

pub struct Gateway {
    runtime: tokio::runtime::Runtime,
    proxy: Option<Proxy>,
    live: Arc<Live>,
    builder: Builder,
    pub traffic: Arc<Traffic>,
    pub log: tempfile::TempDir,
    access_log: AccessLog,
    /// Connections that the test has made.
    connects: Cell<u64>,
}

impl Gateway {
    /// One route `/` to `backend`, prefix kept.
    pub fn before(backend: SocketAddr) -> Self {
        Self::with(backend, json!({}), json!({}), |_| {})
    }

    /// The same, with members of the service and the route replaced, and other options.
    pub fn with(backend: SocketAddr, service: Value, route: Value, change: impl FnOnce(&mut Options)) -> Self {
        Self::serving(
            vec![
                entity(Kind::SERVICES, 1, plain_service(backend), service),
                entity(Kind::ROUTES, 2, plain_route(), route),
            ],
            change,
        )
    }

    pub fn serving(entities: Vec<Arc<Entity>>, change: impl FnOnce(&mut Options)) -> Self {
        let log = tempfile::tempdir().unwrap();
        let access_log = AccessLog::open(Target::File(log.path().join("access.log")), CLIENTS_LINES).unwrap();
        let mut options = options(access_log.clone());
        change(&mut options);
        let (live, mut builder) = (Arc::new(Live::default()), Builder::default());
        publish(&live, &mut builder, entities);
        let traffic = Arc::new(Traffic::default());
        let proxy = Proxy::start(options, live.clone(), Arc::<Counters>::default(), Arc::clone(&traffic)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, proxy: Some(proxy), live, builder, traffic, log, access_log, connects: Cell::new(0) }
    }

    /// Makes another configuration live.
    pub fn reload(&mut self, entities: Vec<Arc<Entity>>) {
        publish(&self.live, &mut self.builder, entities);
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        self.proxy.as_ref().unwrap().addresses()
    }

    pub fn connect(&self) -> Client {
        self.connects.set(self.connects.get() + 1);
        Client::connect(self.address())
    }

    /// Sends one request on a connection of its own, and reads the answer.
    pub fn ask(&self, request: &str) -> super::client::Answer {
        let mut client = self.connect();
        client.send(request.as_bytes());
        client.answer(request.split(' ').next().unwrap())
    }

    /// Waits until every connection has come and gone.
    pub fn is_deserted(&self) -> bool {
        until(|| self.traffic.accepted.load(Relaxed) >= self.connects.get() && self.traffic.active.load(Relaxed) == 0)
            && self.traffic.writing.load(Relaxed) == 0
            && self.traffic.waiting.load(Relaxed) == 0
            && self.traffic.reading.load(Relaxed) == 0
    }

    /// The access log so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.access_log.flush(Duration::from_secs(5));
        let text = std::fs::read_to_string(self.log.path().join("access.log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Drains; how long it took.
    pub fn drain(&mut self, limit: Duration) -> Duration {
        let start = Instant::now();
        if let Some(proxy) = self.proxy.take() {
            self.runtime.block_on(proxy.drain(limit));
        }
        start.elapsed()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}

fn publish(live: &Live, builder: &mut Builder, entities: Vec<Arc<Entity>>) {
    let (snapshot, problems) = builder.build(entities, Revision::default());
    assert_eq!(problems, []);
    live.publish(Arc::new(snapshot), Duration::ZERO);
}

/// Waits for a condition, some seconds at most.
pub fn until(condition: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    condition()
}

pub fn entity(kind: Kind, id: u128, mut doc: Value, changes: Value) -> Arc<Entity> {
    doc["id"] = json!(Uuid::from_u128(id));
    doc.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Arc::new(Entity::from_doc(kind, doc.as_object().unwrap()).unwrap())
}

pub fn plain_service(backend: SocketAddr) -> Value {
    json!({
        "name": "s", "protocol": "http", "host": backend.ip().to_string(), "port": backend.port(), "path": null,
        "retries": 2, "connect_timeout": 2000, "write_timeout": 2000, "read_timeout": 2000, "tls_verify": null,
        "tls_verify_depth": null, "enabled": true
    })
}

pub fn plain_route() -> Value {
    json!({
        "name": "r", "protocols": ["http", "https"], "methods": null, "hosts": null, "paths": ["/"], "headers": null,
        "snis": null, "https_redirect_status_code": 426, "strip_path": false, "preserve_host": false,
        "request_buffering": true, "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
        "service": {"id": Uuid::from_u128(1)}
    })
}

/// Not 127.0.0.1, where other tests of this process count on ports that nobody listens on.
pub fn loopback() -> Address {
    Address::plain(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 3), 0)))
}

fn options(access_log: AccessLog) -> Options {
    Options {
        listen: vec![loopback()],
        workers: 1,
        certificates: None,
        trusted_ips: Vec::new(),
        real_ip_header: http::HeaderName::from_static("x-real-ip"),
        real_ip_from_proxy_protocol: false,
        real_ip_recursive: false,
        response_headers: ResponseHeaders {
            server: true,
            via: true,
            proxy_latency: true,
            response_latency: true,
            upstream_latency: true,
            admin_latency: true,
            upstream_status: false,
            request_id: true,
        },
        request_id_upstream: true,
        client_max_body_size: 0,
        port_maps: Vec::new(),
        error_default_type: "text/plain".to_owned(),
        allow_debug_header: false,
        allow_fly_replay: false,
        keepalive_requests: 0,
        patience: Patience::default(),
        head: HeadLimits::default(),
        upstream: UpstreamOptions {
            keepalive_pool_size: 16,
            keepalive_max_requests: 0,
            keepalive_idle_timeout: Duration::from_secs(60),
            trusted_certificates: Vec::new(),
            dns_resolver: Vec::new(),
            dns_valid_ttl: None,
            dns_stale_ttl: Duration::ZERO,
            head_bytes: 64 * 1024,
        },
        access_log,
    }
}
