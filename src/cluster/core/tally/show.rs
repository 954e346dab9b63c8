//! What people see of the exchange: the fullest counters, figures, and what was admitted beyond a limit.

use crate::cluster::core::tally::Tally;
use crate::cluster::core::tally::tracked::Tracked;
use crate::cluster::core::view::{LimitFigures, LimitRow, keep_fullest};
use crate::counter::Window;

impl Tally {
    /// The fullest counters of the running windows.
    pub fn hottest(&self, max: usize, now_ms: u64) -> Vec<LimitRow> {
        let mut rows: Vec<LimitRow> =
            self.keys.iter().filter_map(|(key, tracked)| self.row(*key, tracked, now_ms)).collect();
        keep_fullest(&mut rows, max);
        rows
    }

    pub fn figures(&self, now_ms: u64) -> LimitFigures {
        LimitFigures {
            tracked: self.keys.len() as u64,
            stale_peers: u32::try_from(self.sources.stale(now_ms)).unwrap_or(u32::MAX),
            withheld: self.figures.withheld,
            over_budget: self.figures.over_budget,
            entries_sent: self.figures.entries_sent,
            entries_received: self.figures.entries_received,
            foreign_windows: self.figures.foreign_windows,
            overshoot: self.figures.overshoot,
            overshoot_windows: self.figures.overshoot_windows,
            ..LimitFigures::of_counters(&self.counters.figures())
        }
    }

    /// How much more was admitted than the limit, once all had the time to say so.
    pub fn judge(&mut self, now_ms: u64) {
        let delay_ms = self.delay_ms() + 100;
        for tracked in self.keys.values_mut() {
            let Some((number, _)) = tracked.previous else { continue };
            let window = Window { period: tracked.window.period, number };
            if tracked.judged == Some(number) || now_ms < window.end_s() * 1_000 + delay_ms {
                continue;
            }
            tracked.judged = Some(number);
            let total = tracked.total(number);
            if tracked.room > 0 && total > tracked.room {
                self.figures.overshoot += (total - tracked.room) as f64;
                self.figures.overshoot_windows += 1;
            }
        }
    }

    fn row(&self, key: u64, tracked: &Tracked, now_ms: u64) -> Option<LimitRow> {
        let reading = self.counters.read(tracked.handle, now_ms)?;
        let current = Window::at(tracked.window.period, now_ms / 1_000);
        let own = if reading.window == current { reading.own } else { 0 };
        let (remote, forecast, sources) = if tracked.window == current {
            (tracked.estimate.known, tracked.estimate.unseen, tracked.estimate.sources)
        } else {
            (0, 0.0, 0)
        };
        let stopped = reading.window == current && reading.stopped;
        Some(LimitRow {
            key,
            period: tracked.window.period,
            window_start_s: current.start_s(),
            limit: tracked.room,
            own,
            remote,
            forecast,
            remaining: if stopped { 0 } else { tracked.room.saturating_sub(own + remote) },
            sources: sources + u32::from(own > 0),
            strict: false,
            name: self.counters.name_of(key),
        })
    }
}
