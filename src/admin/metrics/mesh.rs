//! `tidegate_cluster_*`: the cluster as this node sees it, and what its mesh did.
//!
//! Labels are node ids of members, kinds of frames and fixed reasons, so what a stranger sends makes no series.

use tidegate_proto::Revision;

use crate::admin::limits::Mode;
use crate::admin::metrics::limits;
use crate::admin::metrics::page::{Page, escaped};
use crate::cluster::core::view::{Cluster, Figures, Member, State, View};

const STATES: [State; 4] = [State::Alive, State::Suspect, State::Dead, State::Left];

pub(crate) fn render(page: &mut Page, cluster: &dyn Cluster, epochs_adopted: u64) {
    let view = cluster.view();
    members(page, &view);
    peers(page, &view);
    let figures = cluster.figures();
    traffic(page, &figures);
    limits::render(page, &figures.limits, &Mode::of(&view, &figures.limits));
    events(page, &figures, epochs_adopted);
}

fn members(page: &mut Page, view: &View) {
    page.family("tidegate_cluster_members", "gauge", "Nodes of the cluster by state, this one among them.");
    for state in STATES {
        let count = view.nodes.iter().filter(|member| member.state == state).count();
        page.sample("tidegate_cluster_members", &format!("state=\"{}\"", state.name()), count);
    }
    page.family("tidegate_cluster_converged", "gauge", "Whether every alive node has applied this node's revision.");
    page.sample("tidegate_cluster_converged", "", u64::from(view.converged));
    let revision = view.vector.revision();
    page.family("tidegate_cluster_revision_epoch", "gauge", "The epoch this node replicates.");
    page.sample("tidegate_cluster_revision_epoch", "", revision.epoch);
    page.family("tidegate_cluster_revision_number", "gauge", "The transactions of its epoch this node has.");
    page.sample("tidegate_cluster_revision_number", "", revision.number);
}

fn peers(page: &mut Page, view: &View) {
    let mine = view.vector.revision();
    let peers: Vec<(String, &Member)> = view
        .nodes
        .iter()
        .filter(|member| member.node_id != view.me)
        .map(|member| (format!("peer=\"{}\",region=\"{}\"", escaped(&member.node_id), escaped(&member.region)), member))
        .collect();
    page.family("tidegate_cluster_rtt_seconds", "gauge", "Round trip to a peer, as its connection measures it.");
    for (labels, member) in &peers {
        if let Some(rtt_ms) = member.rtt_ms {
            page.sample("tidegate_cluster_rtt_seconds", labels, rtt_ms / 1000.0);
        }
    }
    page.family("tidegate_cluster_lag_revisions", "gauge", "Transactions that a peer lacks of what this node has.");
    for (labels, member) in &peers {
        page.sample("tidegate_cluster_lag_revisions", labels, lag(mine, member.revision));
    }
    page.family("tidegate_cluster_last_heard_seconds", "gauge", "Since anything was heard of a peer.");
    for (labels, member) in &peers {
        page.sample("tidegate_cluster_last_heard_seconds", labels, member.last_heard_ms as f64 / 1000.0);
    }
}

fn traffic(page: &mut Page, figures: &Figures) {
    page.family("tidegate_cluster_connections", "gauge", "Connections to peers that are up.");
    page.sample("tidegate_cluster_connections", "", figures.connections);
    page.family("tidegate_cluster_bytes_total", "counter", "UDP payload to and from peers.");
    page.sample("tidegate_cluster_bytes_total", "direction=\"sent\"", figures.bytes_sent);
    page.sample("tidegate_cluster_bytes_total", "direction=\"received\"", figures.bytes_received);
    page.family("tidegate_cluster_frames_total", "counter", "Frames by kind.");
    for (kind, sent, _, received, _) in &figures.frames {
        page.sample("tidegate_cluster_frames_total", &format!("kind=\"{kind}\",direction=\"sent\""), sent);
        page.sample("tidegate_cluster_frames_total", &format!("kind=\"{kind}\",direction=\"received\""), received);
    }
    page.family("tidegate_cluster_frame_bytes_total", "counter", "Bytes of frames by kind.");
    for (kind, _, sent, _, received) in &figures.frames {
        page.sample("tidegate_cluster_frame_bytes_total", &format!("kind=\"{kind}\",direction=\"sent\""), sent);
        page.sample("tidegate_cluster_frame_bytes_total", &format!("kind=\"{kind}\",direction=\"received\""), received);
    }
}

/// Histories are adopted from the database as well as from peers, so the ledger counts them.
fn events(page: &mut Page, figures: &Figures, epochs_adopted: u64) {
    for (name, what, count) in [
        ("tidegate_cluster_repairs_total", "Gaps that a peer was asked to fill.", figures.repairs),
        ("tidegate_cluster_wholes_taken_total", "Whole configurations taken from a peer.", figures.wholes_taken),
        ("tidegate_cluster_epochs_adopted_total", "Histories replaced by another one.", epochs_adopted),
    ] {
        page.family(name, "counter", what);
        page.sample(name, "", count);
    }
    for (name, what, by_reason) in [
        ("tidegate_cluster_refused_handshakes_total", "Strangers turned away.", &figures.refused_handshakes),
        ("tidegate_cluster_misbehaved_total", "Connections closed for what the peer sent.", &figures.misbehaved),
    ] {
        page.family(name, "counter", what);
        for (reason, count) in by_reason {
            page.sample(name, &format!("reason=\"{}\"", escaped(reason)), count);
        }
    }
}

/// In another epoch everything is lacking, unless that epoch is the later one.
fn lag(mine: Revision, peer: Revision) -> u64 {
    match mine.epoch.cmp(&peer.epoch) {
        std::cmp::Ordering::Equal => mine.number.saturating_sub(peer.number),
        std::cmp::Ordering::Greater => mine.number,
        std::cmp::Ordering::Less => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_lags_by_what_it_lacks() {
        let check = |mine: (u64, u64), peer: (u64, u64), expected: u64| {
            assert_eq!(lag(Revision::new(mine.0, mine.1), Revision::new(peer.0, peer.1)), expected);
        };
        check((1, 10), (1, 7), 3);
        check((1, 7), (1, 10), 0);
        check((2, 4), (1, 900), 4);
        check((1, 900), (2, 4), 0);
    }
}
