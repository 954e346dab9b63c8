//! `tidegate_limits_*`: what this node's limits decided, and what it cost and missed to decide them with its peers.
//!
//! No label names a subject: a flood of them would make as many series. The fullest are at `GET /cluster/limits`.

use crate::admin::limits::Mode;
use crate::admin::metrics::page::Page;
use crate::cluster::core::rights::Standing;
use crate::cluster::core::view::LimitFigures;

pub(crate) fn render(page: &mut Page, figures: &LimitFigures, mode: &Mode) {
    decisions(page, figures);
    counters(page, figures);
    exchange(page, figures);
    page.family("tidegate_limits_degraded", "gauge", "Whether limits are decided without the counts of some member.");
    page.sample("tidegate_limits_degraded", "", u64::from(mode.is_degraded()));
}

fn decisions(page: &mut Page, figures: &LimitFigures) {
    page.family("tidegate_limits_decisions_total", "counter", "Requests that limits admitted or refused.");
    page.sample("tidegate_limits_decisions_total", "result=\"admitted\"", figures.admitted);
    page.sample("tidegate_limits_decisions_total", "result=\"refused\"", figures.refused);
    total(
        page,
        "tidegate_limits_refused_by_forecast_total",
        "Refused by the forecast alone.",
        figures.refused_by_forecast,
    );
    total(page, "tidegate_limits_refused_strict_total", "Refused for want of rights.", figures.strict_refused);
}

fn counters(page: &mut Page, figures: &LimitFigures) {
    gauge(page, "tidegate_limits_counters", "Counters, one per subject and period.", figures.lines);
    gauge(page, "tidegate_limits_tracked", "Counters that peers are told about or told of.", figures.tracked);
    gauge(page, "tidegate_limits_withheld", "Counters too small to be told.", figures.withheld);
    total(page, "tidegate_limits_evicted_total", "Counters that made room for others.", figures.evicted);
    total(page, "tidegate_limits_sketched_total", "Decisions without a counter, by the sketch.", figures.sketched);
}

/// Bytes are in `tidegate_cluster_frame_bytes_total` by the kinds of counts.
fn exchange(page: &mut Page, figures: &LimitFigures) {
    page.family("tidegate_limits_entries_total", "counter", "Counts of one counter, to and from peers.");
    page.sample("tidegate_limits_entries_total", "direction=\"sent\"", figures.entries_sent);
    page.sample("tidegate_limits_entries_total", "direction=\"received\"", figures.entries_received);
    for (name, what, count) in [
        ("tidegate_limits_over_budget_total", "Counts that waited for the budget of bytes.", figures.over_budget),
        ("tidegate_limits_foreign_windows_total", "Counts of windows that are not near.", figures.foreign_windows),
    ] {
        total(page, name, what, count);
    }
    page.family("tidegate_limits_overshoot_total", "counter", "Requests above limits, found when all had told.");
    page.sample("tidegate_limits_overshoot_total", "", figures.overshoot);
    let what = "Windows in which more was admitted than the limit.";
    total(page, "tidegate_limits_overshoot_windows_total", what, figures.overshoot_windows);
    gauge(page, "tidegate_limits_stale_peers", "Peers that were not heard in time.", figures.stale_peers.into());
    page.family("tidegate_limits_clock_offset_seconds", "gauge", "The correction of this node's clock.");
    page.sample("tidegate_limits_clock_offset_seconds", "", figures.offset_ms as f64 / 1000.0);
    strict(page, figures);
}

fn strict(page: &mut Page, figures: &LimitFigures) {
    page.family("tidegate_limits_rights_total", "counter", "Rights of strict limits that moved between nodes.");
    page.sample("tidegate_limits_rights_total", "direction=\"given\"", figures.strict_given);
    page.sample("tidegate_limits_rights_total", "direction=\"taken\"", figures.strict_taken);
    let what = "The part of each strict limit that this node holds when a window begins, 0 to 1.";
    page.family("tidegate_limits_strict_share", "gauge", what);
    page.sample("tidegate_limits_strict_share", "", figures.strict_share);
    let what = "1 for how it stands with this node's strict limits: skewed is suspended, alone and settled are well.";
    page.family("tidegate_limits_strict_standing", "gauge", what);
    for name in Standing::NAMES {
        let labels = format!("standing=\"{name}\"");
        page.sample("tidegate_limits_strict_standing", &labels, u64::from(name == figures.strict_standing));
    }
}

fn total(page: &mut Page, name: &str, what: &str, count: u64) {
    page.family(name, "counter", what);
    page.sample(name, "", count);
}

fn gauge(page: &mut Page, name: &str, what: &str, value: u64) {
    page.family(name, "gauge", what);
    page.sample(name, "", value);
}
