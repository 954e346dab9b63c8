//! What the cluster can be asked, as plain values: `GET /cluster`, the wait of a write, metrics.

use tidegate_proto::{Revision, Vector};

use crate::counter::{self, Name, Period, Reach, Reading};

/// The member of `Hello::more` with the name of the machine, UTF-8.
pub const HOSTNAME: u16 = 1;

/// A node as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub node_id: String,
    pub region: String,
    /// Where peers dial it, `IP:PORT`; empty: it has no mesh.
    pub address: String,
    pub state: State,
    pub incarnation: u64,
    pub version: String,
    pub revision: Revision,
    /// Digest of its vector: equal to ours when it applied what we did.
    pub digest: u64,
    /// `None` before the first answer, and for this node itself.
    pub rtt_ms: Option<f64>,
    /// Milliseconds since anything was heard; 0 for this node itself.
    pub last_heard_ms: u64,
    pub hostname: String,
    pub draining: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Alive,
    Suspect,
    Dead,
    Left,
}

impl State {
    /// The word for it in `GET /cluster` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }
}

/// The whole view of one node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub cluster_id: String,
    pub me: String,
    pub vector: Vector,
    /// Every alive node has applied this node's revision.
    pub converged: bool,
    /// This node first, then by node id.
    pub nodes: Vec<Member>,
}

impl View {
    /// Whether this node has a mesh at all.
    pub fn has_mesh(&self) -> bool {
        self.nodes.first().is_some_and(|me| !me.address.is_empty())
    }
}

/// Counters of the cluster layer, for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// (kind of frame, sent frames, sent bytes, received frames, received bytes)
    pub frames: Vec<(&'static str, u64, u64, u64, u64)>,
    /// (reason, count)
    pub refused_handshakes: Vec<(&'static str, u64)>,
    /// Connections closed for what the peer sent, by reason.
    pub misbehaved: Vec<(&'static str, u64)>,
    /// Connections that are up.
    pub connections: u64,
    pub repairs: u64,
    pub wholes_taken: u64,
    pub epochs_adopted: u64,
    /// Everything this node sent and received, UDP payload bytes.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub limits: LimitFigures,
}

/// One counter as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitRow {
    /// The keyed hash under which nodes exchange it.
    pub key: u64,
    pub period: Period,
    /// Unix s.
    pub window_start_s: u64,
    /// Hits that the limit admits in the window.
    pub limit: u64,
    /// Admitted by this node.
    pub own: u64,
    /// Admitted by others, as far as they said.
    pub remote: u64,
    /// What others are expected to have admitted since.
    pub forecast: f64,
    pub remaining: u64,
    /// Processes that counted it, this one included.
    pub sources: u32,
    pub strict: bool,
    /// `None` where too little was counted for a name to be kept.
    pub name: Option<Name>,
}

impl LimitRow {
    /// What this node alone knows of a counter.
    pub fn of_own(reading: &Reading, name: Option<Name>) -> Self {
        let remaining = if reading.stopped { 0 } else { reading.room.saturating_sub(reading.own) };
        Self {
            key: reading.key,
            period: reading.window.period,
            window_start_s: reading.window.start_s(),
            limit: reading.room,
            own: reading.own,
            remote: 0,
            forecast: 0.0,
            remaining,
            sources: 1,
            strict: reading.reach == Reach::Strict,
            name,
        }
    }

    /// The share of the limit that is used; above 1 where more was admitted.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn fullness(&self) -> f64 {
        (self.own + self.remote) as f64 / self.limit.max(1) as f64
    }
}

/// Brings the fullest rows to the front, of equally full ones the larger, and drops those behind the first `max`.
pub fn keep_fullest(rows: &mut Vec<LimitRow>, max: usize) {
    let used = |row: &LimitRow| row.own + row.remote;
    rows.sort_by(|a, b| b.fullness().total_cmp(&a.fullness()).then(used(b).cmp(&used(a))).then(a.key.cmp(&b.key)));
    rows.truncate(max);
}

/// What the counters and their exchange counted, for `/metrics`; since the start where not said otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitFigures {
    pub admitted: u64,
    pub refused: u64,
    /// Refused with room by what was known: the forecast said that it is used up.
    pub refused_by_forecast: u64,
    /// Counters that peers are told about or heard from, now.
    pub tracked: u64,
    /// Counters, now.
    pub lines: u64,
    /// Counters that made room for others.
    pub evicted: u64,
    /// Hits that the sketch decided, since nothing could make room.
    pub sketched: u64,
    /// Counters too small to be worth telling, now.
    pub withheld: u64,
    /// Times that something waited because the budget of bytes was spent.
    pub over_budget: u64,
    pub entries_sent: u64,
    pub entries_received: u64,
    /// Slots dropped for a window that is neither current nor beside that.
    pub foreign_windows: u64,
    /// Hits above the limit, found when all had told, and the windows they were in.
    pub overshoot: f64,
    pub overshoot_windows: u64,
    /// Peers that were not heard in time, now.
    pub stale_peers: u32,
    /// The correction of this node's clock, now.
    pub offset_ms: i64,
    /// Rights of strict limits that moved, and hits refused for want of them.
    pub strict_given: u64,
    pub strict_taken: u64,
    pub strict_refused: u64,
    /// How it stands with this node's part of strict limits, one of `rights::Standing::NAMES`.
    pub strict_standing: &'static str,
    /// The part of each strict limit that is this node's in windows that begin now, 0 to 1.
    pub strict_share: f64,
}

impl LimitFigures {
    /// What the counters themselves counted; the rest is 0.
    pub fn of_counters(figures: &counter::Figures) -> Self {
        Self {
            admitted: figures.admitted,
            refused: figures.refused,
            refused_by_forecast: figures.forecast_refused,
            lines: figures.lines,
            evicted: figures.evicted,
            sketched: figures.sketched,
            strict_refused: figures.strict_refused,
            ..Self::default()
        }
    }
}

/// What the Admin API asks of the cluster. A node without peers answers too: it is its own cluster.
pub trait Cluster: Send + Sync {
    fn view(&self) -> View;
    fn figures(&self) -> Figures;
    /// The counters that are fullest, at most `max`.
    fn limits(&self, max: usize) -> Vec<LimitRow>;
    /// Resolves when every alive node covers `vector`; the ids of those that do not when `limit` is over.
    fn settled(
        &self,
        vector: Vector,
        limit: std::time::Duration,
    ) -> futures_util::future::BoxFuture<'_, Result<(), Vec<String>>>;
    /// Says goodbye to all peers.
    fn leave(&self) -> futures_util::future::BoxFuture<'_, ()>;
}
