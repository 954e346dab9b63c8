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

/// Prints the table of a work; ratios are taken within a round, to the first row.
pub fn print(rows: &[Row<'_>]) {
    println!(
        "{:<12} {:>9} {:>22} {:>9} {:>9} {:>9} {:>22} {:>8} {:>7}",
        "", "us/req", "ratio (min to max)", "req/s", "p50 ms", "p99 ms", "p99 ratio (min-max)", "RSS MB", "failed"
    );
    let Some(first) = rows.first() else { return };
    for row in rows {
        let of = |pick: fn(&Measured) -> f64| Spread::of(row.rounds.iter().map(pick).collect());
        let against = |pick: fn(&Measured) -> f64| {
            Spread::of(row.rounds.iter().zip(&first.rounds).map(|(mine, its)| pick(mine) / pick(its)).collect())
        };
        let failed: usize = row.rounds.iter().map(|round| round.failed).sum();
        println!(
            "{:<12} {:>9.1} {:>22} {:>9.0} {:>9.3} {:>9.3} {:>22} {:>8.1} {:>7}",
            row.name,
            of(|round| round.cpu_us).median,
            against(|round| round.cpu_us).text(),
            of(|round| round.rps).median,
            of(|round| round.p50_us / 1e3).median,
            of(|round| round.p99_us / 1e3).median,
            against(|round| round.p99_us).text(),
            row.rounds.iter().map(|round| round.resident_kb).max().unwrap_or_default() as f64 / 1024.0,
            failed
        );
    }
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
