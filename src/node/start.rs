//! A node from its settings to its end: assembly as a list of calls, then one loop over what happens.
//!
//! What is on this disk comes first, the database after it: the proxy ports open as soon as a configuration is live,
//! whoever it came from, and close last. The Admin API is there from the beginning and says what is missing.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::Revision;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Handles};
use crate::cluster::core::view::Cluster;
use crate::counter::{Counters, Options};
use crate::entity::declare::Plugins;
use crate::listen::Traffic;
use crate::listen::access_log::Target;
use crate::node::edge::Edge;
use crate::node::follow::Follow;
use crate::node::outbound::NodeOutbound;
use crate::node::publisher::Publisher;
use crate::node::settings::Settings;
use crate::node::signals::{Asked, Signals};
use crate::node::stores::{self, Opened};
use crate::node::telemetry::{self, Telemetry};
use crate::node::tools::LedgerDeposits;
use crate::node::{cluster, keep, sweep, tools};
use crate::plugin;
use crate::proxy::Proxy;
use crate::snapshot::Live;
use crate::store::ledger::Ledger;

/// How long the Admin API may take to finish what runs; the proxy's time is `drain_timeout`.
const ADMIN_DRAIN: Duration = Duration::from_secs(5);
/// How long tasks may take to end, and logs to be written out, at the very end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs a node until a signal ends it, or `leave` is cancelled. The error is the sentence why it could not start.
pub fn run(settings: Settings, leave: CancellationToken) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.node.workers.clamp(1, 4))
        .thread_name("node")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    std::fs::create_dir_all(&settings.node.prefix)
        .map_err(|error| format!("cannot make the prefix {}: {error}", settings.node.prefix.display()))?;
    let telemetry = telemetry::install(&settings.logs, runtime.handle().clone())?;
    // Whoever called puts the error on stderr, where the log may not go.
    let log_elsewhere = settings.logs.error != Target::Stderr;
    let ended = runtime.block_on(live(settings, leave, &telemetry));
    if let (Err(error), true) = (&ended, log_elsewhere) {
        tracing::error!("{error}");
    }
    runtime.shutdown_timeout(LAST_WORDS);
    telemetry.flush(LAST_WORDS);
    ended
}

async fn live(settings: Settings, leave: CancellationToken, telemetry: &Telemetry) -> Result<(), String> {
    let mut signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    log_settings(&settings);
    let mut node = Node::assemble(settings, leave, telemetry).await?;
    let ended = node.serve(&mut signals, telemetry).await;
    // A node that could not start was never in anybody's rotation.
    let delay = if ended.is_ok() { node.settings.node.drain.delay } else { Duration::ZERO };
    node.stop(&mut signals, delay).await;
    ended
}

/// Everything that runs.
struct Node {
    settings: Settings,
    edge: Edge,
    node_id: String,
    ledger: Arc<Ledger>,
    live: Arc<Live>,
    counters: Arc<Counters>,
    traffic: Arc<Traffic>,
    admin: Admin,
    proxy: Option<Proxy>,
    /// Waits here until there is a configuration to publish.
    publisher: Option<Publisher>,
    published: watch::Receiver<Option<Revision>>,
    revisions: watch::Receiver<Revision>,
    first_contact: Option<oneshot::Receiver<Result<(), String>>>,
    place: String,
    cluster: Arc<dyn Cluster>,
    /// Cancelled when the Admin API, or whoever started the node, told it to leave.
    leave: CancellationToken,
    draining: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    async fn assemble(settings: Settings, leave: CancellationToken, telemetry: &Telemetry) -> Result<Self, String> {
        let node_id = node_id(&settings)?;
        let plugins = plugins(settings.node.plugins.as_deref());
        let edge = Edge::open(&settings)?;
        let opened = stores::open(&settings, &plugins).await?;
        let (ledger, live, traffic) = (opened.ledger.clone(), Arc::new(Live::default()), Arc::new(Traffic::default()));
        let draining = CancellationToken::new();
        let mut counting = Options { capacity: settings.node.limit_counters_max, ..Options::default() };
        counting.key = cluster::counter_key(&settings)?.unwrap_or(counting.key);
        let counters = Arc::new(Counters::new(counting));
        let cluster = cluster::start(&settings, &node_id, &ledger, &counters, &draining).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let outbound = NodeOutbound::new(settings.proxy.upstream.trusted_certificates.clone());
        let deposits = LedgerDeposits::new(ledger.clone(), live.clone(), plugins.clone());
        let tools = tools::of_node(outbound, deposits, stop.clone(), tasks.clone());
        let handles = Handles {
            ledger: ledger.clone(),
            live: live.clone(),
            plugins,
            traffic: traffic.clone(),
            cluster: cluster.clone(),
            leave: leave.clone(),
            draining: draining.clone(),
            log_level: Arc::new(telemetry.level.clone()),
        };
        let admin =
            Admin::start(edge.admin_options(&settings, &node_id)?, handles).map_err(|error| error.to_string())?;
        let publisher = Publisher::new(ledger.clone(), live.clone(), tools);
        let mut node = Self {
            edge,
            node_id,
            live,
            counters,
            traffic,
            admin,
            proxy: None,
            published: publisher.published(),
            publisher: Some(publisher),
            revisions: ledger.revisions(),
            ledger,
            first_contact: None,
            place: opened.place.clone(),
            cluster,
            leave,
            draining,
            stop,
            tasks,
            settings,
        };
        node.start_tasks(opened);
        Ok(node)
    }

    fn start_tasks(&mut self, opened: Opened) {
        if opened.loaded {
            self.publisher.iter_mut().for_each(Publisher::begin);
            self.start_publisher();
        }
        if let Some(poll) = opened.poll {
            let (tell, told) = oneshot::channel();
            self.first_contact = Some(told);
            let (pause, pauses) = watch::channel(poll);
            self.tasks.spawn(cluster::pace(self.cluster.clone(), poll, pause, self.stop.clone()));
            let follow = Follow { ledger: self.ledger.clone(), poll: pauses, first: Some(tell) };
            self.tasks.spawn(follow.run(self.stop.clone()));
        }
        if let Some(local) = opened.local {
            self.tasks.spawn(keep::run(self.ledger.clone(), local, self.stop.clone()));
        }
        if self.ledger.store().writable() {
            self.tasks.spawn(sweep::run(self.ledger.clone(), self.stop.clone()));
        }
    }

    fn start_publisher(&mut self) {
        if let Some(publisher) = self.publisher.take() {
            let stop = self.stop.clone();
            self.tasks.spawn(async move { stop.run_until_cancelled(publisher.run()).await });
        }
    }

    /// Until it is time to stop, or a reason not to run turns up.
    async fn serve(&mut self, signals: &mut Signals, telemetry: &Telemetry) -> Result<(), String> {
        loop {
            tokio::select! {
                answer = first_answer(&mut self.first_contact) => {
                    answer?;
                    self.start_publisher();
                }
                _ = self.revisions.changed(), if self.publisher.is_some() => self.start_publisher(),
                _ = self.published.changed(), if self.proxy.is_none() => self.open_proxy()?,
                () = self.leave.cancelled() => return Ok(()),
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload(telemetry),
                    Asked::Stop => return Ok(()),
                },
            }
        }
    }

    fn open_proxy(&mut self) -> Result<(), String> {
        let options = self.edge.proxy_options(&self.settings)?;
        let (live, counters, traffic) = (self.live.clone(), self.counters.clone(), self.traffic.clone());
        self.proxy = Some(Proxy::start(options, live, counters, traffic).map_err(|error| error.to_string())?);
        let revision = self.published.borrow().unwrap_or_default();
        tracing::info!(
            node = self.node_id,
            region = self.settings.node.region,
            database = self.place,
            %revision,
            proxy = listeners(&self.settings.proxy.listen),
            admin = listeners(&self.settings.admin.listen),
            status = listeners(&self.settings.admin.status_listen),
            "tidegate {} serves",
            crate::VERSION
        );
        Ok(())
    }

    fn reload(&self, telemetry: &Telemetry) {
        telemetry.reopen();
        self.edge.reload();
        tracing::info!("certificates and log files were opened again");
    }

    /// Says that it drains, goes on for a while, stops accepting, finishes what runs; the proxy ports close last.
    /// A second signal ends the wait.
    async fn stop(self, signals: &mut Signals, delay: Duration) {
        let limit = self.settings.node.drain.timeout;
        self.draining.cancel();
        tracing::info!(delay_s = delay.as_secs(), limit_s = limit.as_secs(), "draining");
        let (admin, proxy) = (self.admin, self.proxy);
        let wind_down = async {
            tokio::time::sleep(delay).await;
            admin.drain(ADMIN_DRAIN.min(limit)).await;
            if let Some(proxy) = proxy {
                proxy.drain(limit).await;
            }
        };
        tokio::select! {
            () = wind_down => {}
            () = hurried(signals) => tracing::warn!("told to stop again, not waiting any longer"),
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.cluster.leave()).await;
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
        tracing::info!("stopped");
        let _ = tokio::task::spawn_blocking(move || self.edge.flush(LAST_WORDS)).await;
    }
}

/// The answer of the first contact with the database, once; never ready without one to wait for.
async fn first_answer(waiting: &mut Option<oneshot::Receiver<Result<(), String>>>) -> Result<(), String> {
    let Some(answer) = waiting else { return std::future::pending().await };
    let answer = answer.await;
    *waiting = None;
    answer.unwrap_or(Ok(()))
}

async fn hurried(signals: &mut Signals) {
    while signals.next().await != Asked::Stop {}
}

fn node_id(settings: &Settings) -> Result<String, String> {
    let prefix = &settings.node.prefix;
    let kept = || crate::node::identity::kept(prefix);
    let kept = settings.node.id.clone().map_or_else(kept, Ok);
    kept.map_err(|error| format!("cannot keep a node_id under {}: {error}", prefix.display()))
}

fn plugins(wanted: Option<&[String]>) -> Plugins {
    let Some(wanted) = wanted else { return plugin::declarations() };
    let known = |name: &String| plugin::MAKERS.iter().any(|maker| maker.declaration.name == name);
    for name in wanted.iter().filter(|name| *name != "off" && !known(name)) {
        tracing::warn!("the plugin {name} is listed in plugins and is not known here");
    }
    let makers = plugin::MAKERS.iter().map(|maker| maker.declaration);
    Plugins::new(makers.filter(|declaration| wanted.iter().any(|name| name == declaration.name)))
}

fn listeners(entries: &[crate::node::settings::listen::Entry]) -> String {
    let texts: Vec<_> = entries.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "off".to_owned() } else { texts.join(", ") }
}

/// What an operator should know about the settings: nothing here stops the start.
fn log_settings(settings: &Settings) {
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    if !settings.without_effect.is_empty() {
        tracing::warn!("these settings have no effect here: {}", settings.without_effect.join(", "));
    }
    if !settings.unknown.is_empty() && matches!(settings.logs.level.as_str(), "debug" | "info") {
        tracing::info!("these are no settings and were passed over: {}", settings.unknown.join(", "));
    }
}
