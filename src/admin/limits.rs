//! `GET /cluster/limits`, and whether limits are decided with everybody's counts: the same words for all who ask.
//!
//! A limit is never unavailable. What can happen is that peers are not heard; this node then decides by what it knows
//! and what it expects of them, and says so here. A status code lost: a probe would take a node out of rotation that
//! serves as well as any other.

use serde_json::{Value, json};

use crate::admin::handles::Handles;
use crate::admin::query::Query;
use crate::admin::reply::{self, Reply};
use crate::cluster::core::view::{LimitFigures, LimitRow, Member, State, View};
use crate::counter::Window;

const SIZE_DEFAULT: usize = 20;
/// Peers that a reason names; the others are counted.
const NAMED_MAX: usize = 10;

/// By whose counts this node decides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It has no mesh: by its own.
    Solo,
    /// By those of all members.
    Whole,
    /// Some members are not heard, for this reason.
    Degraded(String),
}

impl Mode {
    pub(crate) fn of(view: &View, figures: &LimitFigures) -> Self {
        if !view.has_mesh() {
            return Self::Solo;
        }
        let lost: Vec<&Member> =
            view.nodes.iter().filter(|member| matches!(member.state, State::Suspect | State::Dead)).collect();
        let mut reasons: Vec<String> = lost
            .iter()
            .take(NAMED_MAX)
            .map(|member| format!("{} ({}) is {}", member.node_id, member.region, member.state.name()))
            .collect();
        if lost.len() > NAMED_MAX {
            reasons.push(format!("{} more are not alive", lost.len() - NAMED_MAX));
        }
        match figures.stale_peers {
            0 => {}
            1 => reasons.push("the counts of one peer are stale".to_owned()),
            count => reasons.push(format!("the counts of {count} peers are stale")),
        }
        if reasons.is_empty() { Self::Whole } else { Self::Degraded(reasons.join(", ")) }
    }

    pub(crate) fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded(_))
    }

    /// The member `limits` of documents that are about something else.
    pub(crate) fn shown(&self) -> Value {
        match self {
            Self::Solo => json!({ "mode": "solo" }),
            Self::Whole => json!({ "mode": "whole" }),
            Self::Degraded(reason) => json!({ "mode": "degraded", "reason": reason }),
        }
    }
}

/// What this node says now.
pub(crate) fn mode(handles: &Handles) -> Mode {
    Mode::of(&handles.cluster.view(), &handles.cluster.figures().limits)
}

/// `GET /cluster/limits`: the fullest counters, by `size`. Kong: has nothing like it.
pub(crate) fn list(handles: &Handles, query: &Query) -> Reply {
    let size = match query.first("size").map_or(Ok(SIZE_DEFAULT), |_| query.size()) {
        Ok(size) => size,
        Err(rejection) => return reply::rejected(&rejection),
    };
    let view = handles.cluster.view();
    let figures = handles.cluster.figures().limits;
    let rows: Vec<Value> = handles.cluster.limits(size).iter().map(row).collect();
    let mut summary = Mode::of(&view, &figures).shown();
    summary["counters"] = figures.lines.into();
    summary["tracked"] = figures.tracked.into();
    summary["stale_peers"] = figures.stale_peers.into();
    summary["offset_ms"] = figures.offset_ms.into();
    reply::ok(&json!({ "self": view.me, "summary": summary, "data": rows }))
}

/// Times are Unix seconds. The forecast is shown to a tenth: it is an estimate.
fn row(row: &LimitRow) -> Value {
    let window = Window::at(row.period, row.window_start_s);
    let name = row.name.as_ref();
    json!({
        "limit": row.limit,
        "period": row.period.name(),
        "limit_by": name.map(|name| name.limit_by),
        "identifier": name.map(|name| name.identifier.as_str()),
        "key": format!("{:016x}", row.key),
        "route": name.and_then(|name| name.route).map(|id| json!({ "id": id })),
        "service": name.and_then(|name| name.service).map(|id| json!({ "id": id })),
        "window_start": row.window_start_s,
        "window_end": window.end_s(),
        "own": row.own,
        "remote": row.remote,
        "forecast": (row.forecast * 10.0).round() / 10.0,
        "remaining": row.remaining,
        "sources": row.sources,
        "strict": row.strict,
    })
}

#[cfg(test)]
mod tests {
    use tidegate_proto::{Revision, Vector};

    use super::*;

    fn member(node_id: String, state: State) -> Member {
        Member {
            node_id,
            region: "syd".to_owned(),
            address: "[fdaa::3]:8005".to_owned(),
            state,
            incarnation: 1,
            version: String::new(),
            revision: Revision::new(1, 0),
            digest: 0,
            rtt_ms: None,
            last_heard_ms: 0,
            hostname: String::new(),
            draining: false,
        }
    }

    #[test]
    fn limits_degrade_while_members_are_not_heard() {
        let check = |states: &[State], stale_peers: u32, expected: Mode| {
            let named = |(number, state): (usize, &State)| member(format!("n{number}"), *state);
            let view = View {
                cluster_id: String::new(),
                me: "n0".to_owned(),
                vector: Vector::default(),
                converged: true,
                nodes: states.iter().enumerate().map(named).collect(),
            };
            let figures = LimitFigures { stale_peers, ..LimitFigures::default() };
            assert_eq!(Mode::of(&view, &figures), expected);
        };
        use State::{Alive, Dead, Left, Suspect};
        let degraded = |reason: &str| Mode::Degraded(reason.to_owned());
        check(&[Alive], 0, Mode::Whole);
        check(&[Alive, Alive, Left], 0, Mode::Whole);
        check(&[Alive, Suspect, Dead], 0, degraded("n1 (syd) is suspect, n2 (syd) is dead"));
        check(&[Alive, Alive], 1, degraded("the counts of one peer are stale"));
        check(&[Alive, Dead], 2, degraded("n1 (syd) is dead, the counts of 2 peers are stale"));
        let names: Vec<String> = (1..=10).map(|number| format!("n{number} (syd) is dead")).collect();
        let many: Vec<State> = std::iter::once(Alive).chain([Dead; 13]).collect();
        check(&many, 0, degraded(&format!("{}, 3 more are not alive", names.join(", "))));
        let alone = member("n0".to_owned(), Alive);
        let view = View {
            cluster_id: String::new(),
            me: "n0".to_owned(),
            vector: Vector::default(),
            converged: true,
            nodes: vec![Member { address: String::new(), ..alone }],
        };
        assert_eq!(Mode::of(&view, &LimitFigures::default()), Mode::Solo);
    }
}
