//! The counts of all works, as a table.

/// Instructions per request in one run.
#[derive(Clone, Copy)]
pub struct Count {
    /// In the proxy's worker.
    pub worker: f64,
    /// In all other threads together; most of it goes with time and not with requests.
    pub others: f64,
}

/// A work's counts: of the build before, when there is one, and of the build now.
pub struct Row {
    pub work: &'static str,
    /// By build, then by run.
    pub builds: Vec<Vec<Count>>,
}

/// What `plain` and `limited` may cost more than before, in per cent.
const MORE_MAX: f64 = 2.0;
const BOUND: [&str; 2] = ["plain", "limited"];

impl Row {
    /// All counts of the worker, for whoever waits for the table.
    pub fn progress(&self) -> String {
        let build = |counts: &Vec<Count>| {
            let each: Vec<_> = counts.iter().map(|count| format!("{:.0}", count.worker)).collect();
            each.join(" ")
        };
        format!("  {}: {}", self.work, self.builds.iter().map(build).collect::<Vec<_>>().join(" | "))
    }

    /// The change of the worker's median in per cent; `None` without a build before.
    fn change(&self) -> Option<f64> {
        match self.builds.as_slice() {
            [before, now] => {
                Some((median(now, |count| count.worker) / median(before, |count| count.worker) - 1.0) * 100.0)
            }
            _ => None,
        }
    }

    fn holds(&self) -> bool {
        !BOUND.contains(&self.work) || self.change().is_none_or(|change| change <= MORE_MAX)
    }
}

/// Prints the table, and answers whether the bound holds.
pub fn print(rows: &[Row]) -> bool {
    println!("\ninstructions per request of the worker: median, and (max - min) / median of the runs");
    let compared = rows.iter().any(|row| row.builds.len() > 1);
    if compared {
        println!("| work | before | spread | now | spread | change | other threads, before | now |");
        println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    } else {
        println!("| work | now | spread | other threads |\n|---|---:|---:|---:|");
    }
    for row in rows {
        let counts = row
            .builds
            .iter()
            .map(|counts| format!("{:.0} | {:.2} % | ", median(counts, |count| count.worker), spread(counts)));
        let change = row.change().map_or_else(String::new, |change| format!("{change:+.2} % | "));
        let others = row.builds.iter().map(|counts| format!("{:.0} |", median(counts, |count| count.others)));
        println!("| {} | {}{change}{}", row.work, counts.collect::<String>(), others.collect::<Vec<_>>().join(" "));
    }
    for row in rows.iter().filter(|row| !row.holds()) {
        println!("TOO DEAR: {} costs over {MORE_MAX} % more than before", row.work);
    }
    rows.iter().all(Row::holds)
}

fn median(counts: &[Count], pick: fn(&Count) -> f64) -> f64 {
    let mut values: Vec<f64> = counts.iter().map(pick).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Greatest minus least count of the worker, in per cent of the median.
fn spread(counts: &[Count]) -> f64 {
    let values = || counts.iter().map(|count| count.worker);
    let (least, greatest) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    (greatest - least) / median(counts, |count| count.worker) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(work: &'static str, before: &[f64], now: &[f64]) -> Row {
        let counts = |values: &[f64]| values.iter().map(|worker| Count { worker: *worker, others: 0.0 }).collect();
        Row { work, builds: vec![counts(before), counts(now)] }
    }

    #[test]
    fn only_plain_and_limited_are_held_to_the_bound() {
        for (work, now, holds) in
            [("plain", 101.9, true), ("plain", 102.1, false), ("limited", 103.0, false), ("h2", 150.0, true)]
        {
            assert_eq!(row(work, &[90.0, 100.0, 110.0], &[now]).holds(), holds, "{work} {now}");
        }
    }

    #[test]
    fn the_spread_is_a_share_of_the_median() {
        let row = row("plain", &[100.0, 99.0, 101.0], &[100.0]);
        assert!((spread(&row.builds[0]) - 2.0).abs() < 1e-9 && spread(&row.builds[1]).abs() < 1e-9);
    }
}
