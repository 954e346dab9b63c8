//! The cluster layer from the settings: who this node is to its peers, and the ledger as what they replicate.
//!
//! A node whose entities come from a file of its own (`database = off`) is a member like any other and shares no
//! configuration: there is no order between files.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tidegate_proto::frame::{Hello, Span, WholeRecord};
use tidegate_proto::{Revision, Vector};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::core::rights::Registry;
use crate::cluster::core::solo::Solo;
use crate::cluster::core::tally;
use crate::cluster::core::view::{Cluster, Member, State, View};
use crate::cluster::driver;
use crate::cluster::driver::strict;
use crate::cluster::transport;
use crate::cluster::transport::Identity;
use crate::counter::{Counters, Cursor};
use crate::entity::{Entity, Kind};
use crate::node::identity;
use crate::node::settings::Settings;
use crate::node::settings::durable;
use crate::node::settings::listen::Host;
use crate::store::ledger::Ledger;

/// How many nodes ask the database often; the others hear from them.
const POLLERS: usize = 3;
/// How often the rest asks, and by how much that differs between nodes.
const POLL_SELDOM: Duration = Duration::from_secs(30);
const POLL_SPREAD_MS: u128 = 10_000;
/// How often a node looks whether it is one of the pollers.
const PACE: Duration = Duration::from_secs(1);
/// How often a node without a mesh looks for counters of windows that ended, and at how many.
const EXPIRE: Duration = Duration::from_millis(100);
const EXPIRE_LINES: usize = 1 << 13;
/// Bytes of counts that this node may send in a second, to all peers together.
const COUNTS_PER_S: u64 = 1_000_000;
/// How long looking up `cluster_advertise` may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Starts the mesh, or a cluster of one when `cluster_listen` is off.
pub async fn start(
    settings: &Settings,
    node_id: &str,
    ledger: &Arc<Ledger>,
    counters: &Arc<Counters>,
    draining: &CancellationToken,
) -> Result<Arc<dyn Cluster>, String> {
    let incarnation = incarnation(&settings.node.prefix, unix_ms())
        .map_err(|error| format!("cannot keep the incarnation under {}: {error}", settings.node.prefix.display()))?;
    let Some(listen) = settings.cluster.listen else {
        // With a mesh, whoever exchanges counts does it.
        tokio::spawn(draining.clone().run_until_cancelled_owned(expire(counters.clone())));
        let rights = strict::alone(node_id.to_owned(), incarnation, counters.clone(), strict_options(settings, ledger));
        tokio::spawn(draining.clone().run_until_cancelled_owned(rights));
        return Ok(Arc::new(alone(settings, node_id, incarnation, ledger, counters)));
    };
    let options = driver::Options {
        transport: transport::Options {
            listen,
            advertise: advertise(&settings.cluster, listen).await?,
            identity: credentials(&settings.cluster).ok_or("cluster_listen needs cluster_secret")?,
            hello: hello(settings, node_id, incarnation),
            segmentation_offload: !settings.cluster.on_fly,
        },
        seeds: seeds(&settings.cluster, listen.port()),
        hostname: identity::hostname(),
        draining: draining.clone(),
        strict: strict_options(settings, ledger),
        counters: counters.clone(),
        limits: tally::Options { budget_per_s: COUNTS_PER_S, partition: tally::Partition::Share },
    };
    let (keeper, spans) = keeper(settings, ledger);
    let started = driver::start(options, keeper, spans).await;
    started.map_err(|error| format!("cannot start the cluster on {listen}: {error}"))
}

/// The key that counters are hashed with; `None` for a node that shares them with nobody.
pub fn counter_key(settings: &Settings) -> Result<Option<[u8; 16]>, String> {
    let identity = settings.cluster.listen.and_then(|_| credentials(&settings.cluster));
    let key = identity.map(|identity| transport::identity::counter_key(&identity)).transpose();
    key.map_err(|error| format!("cannot derive the key of the counters: {error}"))
}

/// Where strict limits keep their promises, and what the configuration says of them from now on.
fn strict_options(settings: &Settings, ledger: &Arc<Ledger>) -> strict::Options {
    let (say, said) = watch::channel(None);
    tokio::spawn(say_strict(ledger.clone(), say));
    strict::Options { file: settings.node.prefix.join("strict.json"), said }
}

/// Until nobody listens.
async fn say_strict(ledger: Arc<Ledger>, say: watch::Sender<strict::Said>) {
    let mut revisions = ledger.revisions();
    loop {
        let said = ledger.read(|catalog| {
            let weights =
                catalog.all(Kind::STRICT_WEIGHTS).filter_map(|entity| serde_json::from_str(&entity.text()).ok());
            let registry = Registry::greatest(weights);
            let strict =
                |entity: &Arc<Entity>| entity.doc().get("config").is_some_and(|config| config["guarantee"] == "strict");
            let in_use = registry.is_some() || catalog.all(Kind::PLUGINS).any(strict);
            (registry, in_use)
        });
        say.send_replace(Some(said));
        tokio::select! {
            () = say.closed() => return,
            changed = revisions.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells how often this node asks the database: often for the few alive nodes with the lowest ids.
pub async fn pace(cluster: Arc<dyn Cluster>, poll: Duration, pause: watch::Sender<Duration>, stop: CancellationToken) {
    let spread = uuid::Uuid::new_v4().as_u128() % POLL_SPREAD_MS;
    let seldom = POLL_SELDOM + Duration::from_millis(u64::try_from(spread).unwrap_or_default());
    let mut ticks = tokio::time::interval(PACE);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let wanted = if polls_often(&cluster.view()) { poll } else { seldom.max(poll) };
        pause.send_if_modified(|pause| std::mem::replace(pause, wanted) != wanted);
    }
}

fn polls_often(view: &View) -> bool {
    let alive = view.nodes.iter().filter(|node| node.state == State::Alive && node.node_id != view.me);
    alive.filter(|node| node.node_id < view.me).count() < POLLERS
}

/// A node without a mesh is its own cluster.
fn alone(settings: &Settings, node_id: &str, incarnation: u64, ledger: &Arc<Ledger>, counters: &Arc<Counters>) -> Solo {
    let me = Member {
        node_id: node_id.to_owned(),
        region: settings.node.region.clone(),
        address: String::new(),
        state: State::Alive,
        incarnation,
        version: crate::VERSION.to_owned(),
        revision: Revision::default(),
        digest: 0,
        rtt_ms: None,
        last_heard_ms: 0,
        hostname: identity::hostname(),
        draining: false,
    };
    let ledger = ledger.clone();
    Solo::new(me, counters.clone(), move || ledger.vector(), unix_ms)
}

/// Drops counters whose windows ended.
async fn expire(counters: Arc<Counters>) {
    let (mut ticks, mut cursor) = (tokio::time::interval(EXPIRE), Cursor::default());
    loop {
        ticks.tick().await;
        counters.expire(&mut cursor, unix_ms(), EXPIRE_LINES);
    }
}

fn hello(settings: &Settings, node_id: &str, incarnation: u64) -> Hello {
    Hello {
        cluster_id: String::new(),
        node_id: node_id.to_owned(),
        region: settings.node.region.clone(),
        incarnation,
        address: String::new(),
        version: crate::VERSION.to_owned(),
        oldest: tidegate_proto::frame::VERSION_OLDEST,
        newest: tidegate_proto::frame::VERSION,
        store: settings.database.name().to_owned(),
        more: Vec::new(),
    }
}

fn credentials(cluster: &durable::Cluster) -> Option<Identity> {
    match (&cluster.secret, &cluster.cert, &cluster.cert_key, &cluster.ca_cert) {
        (_, Some(cert), Some(key), Some(authority)) => {
            Some(Identity::Files { cert: cert.clone(), key: key.clone(), authority: authority.clone() })
        }
        (Some(secret), ..) => {
            Some(Identity::Secret { secret: secret.clone(), previous: cluster.secret_previous.clone() })
        }
        _ => None,
    }
}

fn seeds(cluster: &durable::Cluster, port: u16) -> Vec<String> {
    let named = |(host, own): &(Host, Option<u16>)| match host {
        Host::Ip(ip) => SocketAddr::new(*ip, own.unwrap_or(port)).to_string(),
        Host::Name(name) => format!("{name}:{}", own.unwrap_or(port)),
    };
    cluster.seeds.iter().map(named).collect()
}

/// What peers dial: said, else the listen address, else the address that leads to the first seed.
async fn advertise(cluster: &durable::Cluster, listen: SocketAddr) -> Result<SocketAddr, String> {
    match &cluster.advertise {
        Some((Host::Ip(ip), port)) => Ok(SocketAddr::new(*ip, *port)),
        Some((Host::Name(name), port)) => {
            look_up(name, *port).await.ok_or_else(|| format!("cluster_advertise: cannot look up '{name}'"))
        }
        None if !listen.ip().is_unspecified() => Ok(listen),
        None => {
            let outgoing = outgoing(cluster, listen).await;
            if outgoing.is_none() {
                tracing::warn!("cluster_advertise is not set and no seed shows which address peers can reach");
            }
            Ok(SocketAddr::new(outgoing.unwrap_or(Ipv4Addr::LOCALHOST.into()), listen.port()))
        }
    }
}

/// The address from which this machine would talk to the first seed that can be found. Sends nothing.
async fn outgoing(cluster: &durable::Cluster, listen: SocketAddr) -> Option<IpAddr> {
    for (host, port) in &cluster.seeds {
        let port = port.unwrap_or(listen.port());
        let seed = match host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, port)),
            Host::Name(name) => look_up(name, port).await,
        };
        let Some(seed) = seed else { continue };
        let any: SocketAddr = if seed.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let local = UdpSocket::bind(any).and_then(|socket| socket.connect(seed).and_then(|()| socket.local_addr()));
        if let Ok(local) = local {
            return Some(local.ip());
        }
    }
    None
}

async fn look_up(name: &str, port: u16) -> Option<SocketAddr> {
    tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, port))).await.ok()?.ok()?.next()
}

/// A number that is larger at each start, even when the clock went back: Unix ms, else one more than the last.
fn incarnation(prefix: &Path, now_ms: u64) -> io::Result<u64> {
    let path = prefix.join("incarnation");
    let last = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let incarnation = last.map_or(now_ms, |last| now_ms.max(last.saturating_add(1)));
    fs::create_dir_all(prefix)?;
    let fresh = prefix.join("incarnation.new");
    fs::write(&fresh, format!("{incarnation}\n"))?;
    fs::rename(&fresh, &path)?;
    Ok(incarnation)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

type Spans = broadcast::Receiver<Arc<Span>>;

fn keeper(settings: &Settings, ledger: &Arc<Ledger>) -> (Arc<dyn Keeper>, Spans) {
    match settings.database {
        durable::Database::Off(_) => (Arc::new(Apart), broadcast::channel(1).1),
        durable::Database::Embedded | durable::Database::Postgres(_) => {
            (Arc::new(Kept(ledger.clone())), ledger.spans())
        }
    }
}

/// The ledger as peers replicate it.
struct Kept(Arc<Ledger>);

/// Nothing to share.
struct Apart;

impl Keeper for Kept {
    fn vector(&self) -> Vector {
        self.0.vector()
    }

    fn take(&self, spans: Vec<Span>) -> BoxFuture<'_, Result<Vector, String>> {
        Box::pin(async { self.0.take_spans(spans).await.map_err(|error| error.to_string()) })
    }

    fn adopt(&self, vector: Vector, records: Vec<WholeRecord>) -> BoxFuture<'_, Result<Vector, String>> {
        Box::pin(async { self.0.adopt(vector, records).await.map_err(|error| error.to_string()) })
    }

    fn records(&self, after: Option<(String, [u8; 16])>, size_max: usize) -> (Vec<WholeRecord>, bool) {
        self.0.records(after, size_max)
    }
}

impl Keeper for Apart {
    fn vector(&self) -> Vector {
        Vector::default()
    }

    fn take(&self, _: Vec<Span>) -> BoxFuture<'_, Result<Vector, String>> {
        Box::pin(async { Ok(Vector::default()) })
    }

    fn adopt(&self, _: Vector, _: Vec<WholeRecord>) -> BoxFuture<'_, Result<Vector, String>> {
        Box::pin(async { Ok(Vector::default()) })
    }

    fn records(&self, _: Option<(String, [u8; 16])>, _: usize) -> (Vec<WholeRecord>, bool) {
        (Vec::new(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_grow_whatever_the_clock_does() {
        let folder = tempfile::tempdir().unwrap();
        let next = |now_ms| incarnation(folder.path(), now_ms).unwrap();
        assert_eq!((next(1_000), next(2_000), next(1_500), next(2_001)), (1_000, 2_000, 2_001, 2_002));
        fs::write(folder.path().join("incarnation"), "garbage").unwrap();
        assert_eq!(next(3_000), 3_000);
    }

    fn view(me: &str, others: &[(&str, State)]) -> View {
        let member = |(id, state): &(&str, State)| Member {
            node_id: (*id).to_owned(),
            region: String::new(),
            address: String::new(),
            state: *state,
            incarnation: 1,
            version: String::new(),
            revision: Revision::default(),
            digest: 0,
            rtt_ms: None,
            last_heard_ms: 0,
            hostname: String::new(),
            draining: false,
        };
        let nodes = std::iter::once(&(me, State::Alive)).chain(others).map(member).collect();
        View { cluster_id: String::new(), me: me.to_owned(), vector: Vector::default(), converged: true, nodes }
    }

    #[test]
    fn the_three_lowest_alive_nodes_poll_often() {
        let others = [("a", State::Alive), ("b", State::Dead), ("c", State::Alive), ("e", State::Alive)];
        assert!(polls_often(&view("d", &others)) && polls_often(&view("b2", &others)) && polls_often(&view("z", &[])));
        assert!(!polls_often(&view("f", &others)));
    }

    #[tokio::test]
    async fn an_address_that_peers_can_dial_is_found() {
        let cluster = |advertise, seed: &str| durable::Cluster {
            listen: None,
            advertise,
            seeds: vec![(Host::Ip(seed.parse().unwrap()), None)],
            secret: None,
            secret_previous: None,
            cert: None,
            cert_key: None,
            ca_cert: None,
            on_fly: false,
        };
        let any = "0.0.0.0:8005".parse().unwrap();
        let said = Some((Host::Ip("127.0.2.1".parse().unwrap()), 99));
        let found = |cluster, listen| async move { advertise(&cluster, listen).await.unwrap().to_string() };
        assert_eq!(found(cluster(said, "127.0.0.1"), any).await, "127.0.2.1:99");
        assert_eq!(found(cluster(None, "127.0.0.1"), any).await, "127.0.0.1:8005");
        assert_eq!(found(cluster(None, "127.0.0.1"), "127.0.3.1:7".parse().unwrap()).await, "127.0.3.1:7");
        assert_eq!(seeds(&cluster(None, "fdaa::3"), 8005), ["[fdaa::3]:8005"]);
    }
}
