//! What was measured, as lines, and which of it is out of bounds.

use std::time::Duration;

use tidegate_bench::wire::Done;

/// Memory of a node before and after something was added, in kB.
pub struct Memory {
    pub count: usize,
    pub before_kb: u64,
    pub after_kb: u64,
}

/// Requests around a change.
pub struct Reload {
    pub before: Done,
    pub during: Done,
    pub after: Done,
    /// From the request to the Admin API until requests through the proxy see the change.
    pub took_each: Duration,
}

/// 99 of 100 requests during a change take at most so many times as long as before.
const SLOWER_MAX: f64 = 2.0;

impl Memory {
    pub fn print(&self, what: &str) {
        println!("{}", self.line(what));
    }

    /// Prints it beside the bound in bytes for each; answers whether the bound holds.
    pub fn print_bound(&self, what: &str, bytes_max: f64) -> bool {
        let holds = self.bytes_each() <= bytes_max;
        println!("{}, at most {bytes_max:.0} B: {}", self.line(what), if holds { "holds" } else { "no" });
        holds
    }

    fn line(&self, what: &str) -> String {
        format!("{what:<44} {:>8} {:>9.1} MB {:>9.0} B each", self.count, mb(self.after_kb), self.bytes_each())
    }

    fn bytes_each(&self) -> f64 {
        self.after_kb.saturating_sub(self.before_kb) as f64 * 1024.0 / self.count.max(1) as f64
    }
}

impl Reload {
    pub fn print(&self, what: &str) {
        for (phase, done) in [("before", &self.before), ("during", &self.during), ("after", &self.after)] {
            println!(
                "{what:<28} {phase:<7} {:>8} answered {:>4} failed   p50 {:>7.3} ms   p99 {:>7.3} ms   max {:>7.3} ms",
                done.answered,
                done.failed,
                done.percentile_us(0.5) / 1e3,
                done.percentile_us(0.99) / 1e3,
                done.percentile_us(1.0) / 1e3
            );
        }
        println!("{what:<28} a change took {:.3} s; p99 {:.2} times", self.took_each.as_secs_f64(), self.slower());
    }

    /// The 99th percentile during the change by that before it.
    fn slower(&self) -> f64 {
        self.during.percentile_us(0.99) / self.before.percentile_us(0.99)
    }

    fn failed(&self) -> usize {
        self.before.failed + self.during.failed + self.after.failed
    }
}

/// Prints what most reloads did, and answers whether it is within bounds.
pub fn print_median(what: &str, rounds: &[Reload]) -> bool {
    let mut ratios: Vec<f64> = rounds.iter().map(Reload::slower).collect();
    ratios.sort_by(f64::total_cmp);
    let (ratio, failed) = (ratios[ratios.len() / 2], rounds.iter().map(Reload::failed).sum::<usize>());
    let holds = ratio <= SLOWER_MAX && failed == 0;
    println!(
        "{what:<28} {} rounds: p99 during / before {ratio:.2} in the median ({:.2} to {:.2}), at most {SLOWER_MAX:.1}; {failed} failed: {}",
        rounds.len(),
        ratios[0],
        ratios[ratios.len() - 1],
        if holds { "holds" } else { "no" }
    );
    holds
}

/// A resident size against its bound.
pub fn print_resident(what: &str, kb: u64, mb_max: f64) -> bool {
    let holds = mb(kb) <= mb_max;
    println!("{what:<44} {:>8} {:>9.1} MB, at most {mb_max:.0} MB: {}", "", mb(kb), if holds { "holds" } else { "no" });
    holds
}

fn mb(kb: u64) -> f64 {
    kb as f64 / 1024.0
}
