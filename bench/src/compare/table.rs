//! Medians and ratios of a work's rounds, as a table.

use crate::round::Measured;

/// What was measured of one peer, by round.
pub struct Row<'r> {
    pub name: &'r str,
    pub rounds: Vec<Measured>,
}

/// Median, least and greatest.
#[derive(Clone, Copy, Default)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

/// Peers that the bounds on CPU are about: the one of them with the lower median in this run is the yardstick.
const YARDSTICKS: [&str; 2] = ["nginx", "haproxy"];

/// Prints the table of a work. Ratios are taken within a round: to the first row, and to the better of [`YARDSTICKS`].
pub fn print(rows: &[Row<'_>]) {
    let Some(first) = rows.first() else { return };
    let better = better(rows);
    let beside = better.map_or_else(|| "beside neither".to_owned(), |better| format!("CPU beside {}", better.name));
    if let Some(better) = better {
        let all = rows.iter().filter(|row| YARDSTICKS.contains(&row.name)).map(|row| row.name);
        println!("the better of {} in CPU: {}", all.collect::<Vec<_>>().join(" and "), better.name);
    }
    println!(
        "{:<12} {:>9} {:>22} {:>22} {:>9} {:>9} {:>9} {:>22} {:>8} {:>7}",
        "",
        "us/req",
        "ratio (min to max)",
        beside,
        "req/s",
        "p50 ms",
        "p99 ms",
        "p99 ratio (min-max)",
        "RSS MB",
        "failed"
    );
    for row in rows {
        let of = |pick: fn(&Measured) -> f64| Spread::of(row.rounds.iter().map(pick).collect());
        let against = |other: &Row<'_>, pick: fn(&Measured) -> f64| {
            Spread::of(row.rounds.iter().zip(&other.rounds).map(|(mine, its)| pick(mine) / pick(its)).collect())
        };
        let failed: usize = row.rounds.iter().map(|round| round.failed).sum();
        println!(
            "{:<12} {:>9.1} {:>22} {:>22} {:>9.0} {:>9.3} {:>9.3} {:>22} {:>8.1} {:>7}",
            row.name,
            of(|round| round.cpu_us).median,
            against(first, |round| round.cpu_us).text(),
            better.map_or_else(|| "-".to_owned(), |better| against(better, |round| round.cpu_us).text()),
            of(|round| round.rps).median,
            of(|round| round.p50_us / 1e3).median,
            of(|round| round.p99_us / 1e3).median,
            against(first, |round| round.p99_us).text(),
            row.rounds.iter().map(|round| round.resident_kb).max().unwrap_or_default() as f64 / 1024.0,
            failed
        );
    }
}

/// The yardstick with the lower median CPU per request; `None` when neither was measured.
fn better<'r>(rows: &'r [Row<'r>]) -> Option<&'r Row<'r>> {
    let median = |row: &Row<'_>| Spread::of(row.rounds.iter().map(|round| round.cpu_us).collect()).median;
    let yardsticks = rows.iter().filter(|row| YARDSTICKS.contains(&row.name) && !row.rounds.is_empty());
    yardsticks.min_by(|one, other| median(one).total_cmp(&median(other)))
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(greatest)) = (values.first(), values.last()) else { return Spread::default() };
        Spread { median: values[values.len() / 2], least: *least, greatest: *greatest }
    }

    fn text(self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.median, self.least, self.greatest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row(name: &'static str, cpu_us: &[f64]) -> Row<'static> {
        let measured = |cpu_us: &f64| Measured {
            cpu_us: *cpu_us,
            rps: 0.0,
            load_us: 0.0,
            p50_us: 0.0,
            p99_us: 0.0,
            paced_cpu_us: 0.0,
            resident_kb: 0,
            answered: 0,
            failed: 0,
        };
        Row { name, rounds: cpu_us.iter().map(measured).collect() }
    }

    #[test]
    fn the_yardstick_has_the_lower_median_and_is_never_a_third_peer() {
        let nginx = row("nginx", &[9.0, 12.0, 13.0]);
        let haproxy = row("haproxy", &[10.0, 11.0, 20.0]);
        let envoy = row("envoy", &[1.0, 1.0, 1.0]);
        assert_eq!(better(&[nginx, haproxy, envoy]).unwrap().name, "haproxy");
        assert!(better(&[row("envoy", &[1.0])]).is_none());
    }
}
