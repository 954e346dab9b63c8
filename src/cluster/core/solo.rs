//! The cluster of a node that has no mesh: itself, always agreed.
//!
//! It lets whoever asks the cluster ask without a case for "there is none".

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_proto::Vector;

use crate::cluster::core::rights::Standing;
use crate::cluster::core::view::{Cluster, Figures, LimitFigures, LimitRow, Member, View, keep_fullest};
use crate::counter::{Counters, Cursor, Window};

/// Counters that are looked at in one go, so that what is collected meanwhile stays small.
const PART: usize = 4_096;

/// A cluster of one.
pub struct Solo {
    me: Member,
    counters: Arc<Counters>,
    vector: Box<dyn Fn() -> Vector + Send + Sync>,
    unix_ms: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Solo {
    /// `me` without an address, as nobody can dial it; `vector` tells where the node stands, `unix_ms` the time.
    pub fn new(
        me: Member,
        counters: Arc<Counters>,
        vector: impl Fn() -> Vector + Send + Sync + 'static,
        unix_ms: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { me, counters, vector: Box::new(vector), unix_ms: Box::new(unix_ms) }
    }
}

impl Cluster for Solo {
    fn view(&self) -> View {
        let vector = (self.vector)();
        let me = Member { revision: vector.revision(), ..self.me.clone() };
        View { cluster_id: me.node_id.clone(), me: me.node_id.clone(), vector, converged: true, nodes: vec![me] }
    }

    fn figures(&self) -> Figures {
        let limits = LimitFigures {
            strict_standing: Standing::Alone.name(),
            strict_share: self.counters.strict().share((self.unix_ms)() / 1000).part(),
            ..LimitFigures::of_counters(&self.counters.figures())
        };
        Figures { limits, ..Figures::default() }
    }

    fn limits(&self, max: usize) -> Vec<LimitRow> {
        let (now_ms, mut cursor, mut rows) = ((self.unix_ms)(), Cursor::default(), Vec::new());
        loop {
            let part: Vec<_> = self.counters.scan(&mut cursor, PART).collect();
            if part.is_empty() {
                break;
            }
            let readings = part.into_iter().filter_map(|handle| self.counters.read(handle, now_ms));
            let running = |window: Window| window == Window::at(window.period, now_ms / 1000);
            let counted = readings.filter(|reading| reading.own > 0 && running(reading.window));
            rows.extend(counted.map(|reading| LimitRow::of_own(&reading, None)));
            keep_fullest(&mut rows, max);
        }
        rows.iter_mut().for_each(|row| row.name = self.counters.name_of(row.key));
        rows
    }

    fn settled(&self, _: Vector, _: Duration) -> BoxFuture<'_, Result<(), Vec<String>>> {
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;
    use crate::cluster::core::view::State;
    use crate::counter::{Limit, Period, Reach};

    const NOW_MS: u64 = 1_795_519_399_500;

    #[test]
    fn the_fullest_counters_of_running_windows_are_told_first() {
        let counters = Arc::new(Counters::default());
        let minute = |limit: f64| [Limit { period: Period::Minute, limit }];
        let hit = |who: &str, limit: f64, hits: u64, at_ms: u64| {
            let subject = counters.subject(Uuid::nil(), Uuid::nil(), who.as_bytes());
            for _ in 0..hits {
                counters.hit(subject, Reach::Cluster, &minute(limit), at_ms);
            }
            Counters::key(subject, Period::Minute)
        };
        hit("an hour ago", 10.0, 10, NOW_MS - 3_600_000);
        let half = hit("half", 10.0, 5, NOW_MS);
        let full = hit("full", 10.0, 12, NOW_MS);
        let little = hit("little", 1_000.0, 50, NOW_MS);

        let solo = Solo::new(member(), counters.clone(), Vector::default, || NOW_MS);
        let told = |max| solo.limits(max).into_iter().map(|row| (row.key, row.own, row.remaining)).collect::<Vec<_>>();
        assert_eq!(told(9), [(full, 10, 0), (half, 5, 5), (little, 50, 950)]);
        assert_eq!(told(1), [(full, 10, 0)]);
        let figures = solo.figures().limits;
        assert_eq!((figures.admitted, figures.refused), (75, 2));
    }

    fn member() -> Member {
        Member {
            node_id: "me".into(),
            region: "fra".into(),
            address: String::new(),
            state: State::Alive,
            incarnation: 1,
            version: "0".into(),
            revision: tidegate_proto::Revision::default(),
            digest: 0,
            rtt_ms: None,
            last_heard_ms: 0,
            hostname: "h".into(),
            draining: false,
        }
    }
}
