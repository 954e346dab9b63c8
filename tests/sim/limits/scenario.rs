//! What is simulated for the table, and what it comes to.
//!
//! A scenario is data. Overshoot of a window is what was admitted above the limit, as a share of the limit; the used share
//! is what was admitted of the limit, or of the requests where those were fewer. Windows before the nodes know each other
//! and the one that is cut off by the end are left out. A flash crowd is judged by the worst window it has; there are many
//! crowds in one run, each at a key of its own and beginning at any moment of a window.

use std::time::Instant;

use tidegate::counter::Period;

use crate::limits::network::Delays;
use crate::limits::trace;
use crate::limits::traffic::{Phase, Shape, flash, moving, steady};
use crate::limits::world::{Setup, World};

/// Requests before a flash crowd, as a share of the limit.
const BEFORE: f64 = 0.02;
const FLASH_WINDOWS: u64 = 3;
/// Windows between the beginnings of two flash crowds.
const FLASH_EVERY: u64 = 4;
/// Windows of peace before the first.
const FLASH_AFTER: u64 = 6;

#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    Steady(Shape),
    /// Nodes change their ranks every two windows.
    Moving(Shape),
    Flash(Shape),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Every other window a node is killed, and back half a second later.
    Restarts,
    /// All nodes are replaced in turn.
    Deploy,
    /// Two halves without each other in the middle third.
    Partition,
    /// Clocks differ by up to so many ms either way.
    Skew(u64),
    /// One node takes ten kilobytes a second.
    Slow,
}

/// Shares; `None`: no bound is set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bound {
    pub mean: Option<f64>,
    pub worst: Option<f64>,
    pub used: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub nodes: usize,
    pub delays: Delays,
    pub period: Period,
    pub limit: f64,
    /// Requests, as a multiple of the limit.
    pub factor: f64,
    pub demand: Demand,
    pub loss: f64,
    pub trouble: Trouble,
    /// Measured; flash crowds: how many.
    pub windows: u64,
    pub bound: Bound,
}

#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Overshoot of each window, or crowd.
    pub overshoot: Vec<f64>,
    pub used: Vec<f64>,
    /// UDP payload sent, bytes a second, mean and most of the nodes.
    pub bytes_per_s: f64,
    pub bytes_per_s_max: f64,
    pub frames_per_s: f64,
    #[cfg_attr(test, allow(dead_code, reason = "the bench prints it"))]
    pub requests: u64,
    /// Admitted by processes that were killed before they could tell.
    pub unsent: u64,
    /// Virtual and real time.
    pub simulated_s: f64,
    pub took_s: f64,
}

/// Until then every clock has been measured.
const CLOCKS_KNOWN_US: u64 = 3_000_000;

impl Scenario {
    /// 35 regions, one per cent loss, ten times a limit of 1,000 a second.
    pub fn regions(name: &'static str, demand: Demand) -> Self {
        Self {
            name,
            nodes: 35,
            delays: Delays::Regions { stretch: 1 },
            period: Period::Second,
            limit: 1_000.0,
            factor: 10.0,
            demand,
            loss: 0.01,
            trouble: Trouble::None,
            windows: 30,
            bound: Bound::default(),
        }
    }

    pub fn length_us(&self) -> u64 {
        if self.period == Period::Second { 1_000_000 } else { 60_000_000 }
    }

    /// Windows that are not measured: nodes find each other, and learn what is usual.
    fn warm_up(&self) -> u64 {
        if self.period == Period::Second { 5 } else { 1 }
    }

    pub fn run(&self, seed: u64) -> Outcome {
        let began = Instant::now();
        let mut setup = Setup::new(self.nodes, seed);
        setup.delays = self.delays;
        let mut world = World::new(setup);
        world.network.loss = self.loss;
        if let Trouble::Skew(most_ms) = self.trouble {
            for index in 0..self.nodes {
                let skew_ms = world.random.between(0, 2 * most_ms) as i64 - most_ms as i64;
                world.set_clock(index, skew_ms);
            }
        }
        if self.trouble == Trouble::Slow {
            world.network.speeds[self.nodes / 2] = Some(10_000);
        }
        let windows = match self.demand {
            Demand::Flash(_) => FLASH_AFTER + FLASH_EVERY * (self.windows + 1),
            _ => self.warm_up() + self.windows,
        };
        for mut phases in self.phases(windows, &mut world) {
            if matches!(self.trouble, Trouble::Skew(_)) {
                // What a process counts before it knows how wrong its clock is falls in windows that are not the others';
                // failure 8 has that. Here clocks are known, and stay wrong.
                let calm = Phase { per_s: 0.0, ..phases[0].clone() };
                phases[0].from_us = CLOCKS_KNOWN_US;
                phases.insert(0, calm);
            }
            world.add(self.period, self.limit, &phases);
        }
        for window in 0..windows {
            self.disturb(&mut world, window, windows);
            let end_us = (window + 1) * self.length_us();
            // A little beyond the edge, for nodes whose clocks are behind.
            let rest_ms = (end_us + 5_000).saturating_sub(world.now_us) / 1_000;
            trace::run(&mut world, rest_ms);
        }
        let mut outcome = self.judge(&world);
        outcome.took_s = began.elapsed().as_secs_f64();
        trace::print(self, &world);
        outcome
    }

    /// Of each key.
    fn phases(&self, windows: u64, world: &mut World) -> Vec<Vec<Phase>> {
        let length_us = self.length_us();
        let limit_per_s = self.limit * 1e6 / length_us as f64;
        let per_s = self.factor * limit_per_s;
        match &self.demand {
            Demand::Steady(shape) => vec![steady(per_s, shape.clone())],
            Demand::Moving(shape) => vec![moving(per_s, shape, 2 * length_us, windows * length_us)],
            Demand::Flash(shape) => {
                let crowds = (0..self.windows).map(|number| {
                    let at_us = (FLASH_AFTER + FLASH_EVERY * number) * length_us
                        + world.random.below(length_us as usize) as u64;
                    flash(BEFORE * limit_per_s, per_s, shape, at_us, at_us + FLASH_WINDOWS * length_us)
                });
                crowds.collect()
            }
        }
    }

    fn disturb(&self, world: &mut World, window: u64, windows: u64) {
        let steady = window >= self.warm_up();
        match self.trouble {
            Trouble::Restarts if steady && window.is_multiple_of(2) => {
                let index = world.random.below(self.nodes);
                let moment_ms = world.random.between(0, 400);
                world.run_ms(moment_ms);
                world.crash(index);
                world.run_ms(500);
                world.start(index);
            }
            Trouble::Deploy if steady => {
                let index = ((window - self.warm_up()) % self.nodes as u64) as usize;
                let moment_ms = world.random.between(0, 400);
                world.run_ms(moment_ms);
                world.leave(index);
                world.run_ms(500);
                world.start(index);
            }
            Trouble::Partition if window == windows / 3 => {
                let (one, other): (Vec<usize>, Vec<usize>) = (0..self.nodes).partition(|index| index % 2 == 0);
                world.partition(&[&one, &other]);
            }
            Trouble::Partition if window == 2 * windows / 3 => world.heal(),
            _ => {}
        }
    }

    fn judge(&self, world: &World) -> Outcome {
        let mut outcome = Outcome { requests: world.oracle.decisions, ..Outcome::default() };
        let flash = matches!(self.demand, Demand::Flash(_));
        let began = world.first_window(self.period) as u64;
        let ended = u64::from(world.window(0).number);
        for key in 0..world.keys.len() {
            let (mut worst, mut crowded) = (0.0f64, false);
            for (window, book) in world.oracle.windows(key as u16) {
                outcome.unsent += book.unsent;
                let window = u64::from(window);
                if window < began + self.warm_up() || window >= ended {
                    continue;
                }
                let overshoot = (book.admitted as f64 - self.limit).max(0.0) / self.limit;
                let used = book.admitted.min(self.limit as u64) as f64 / (book.offered as f64).min(self.limit);
                if !flash {
                    outcome.overshoot.push(overshoot);
                    outcome.used.push(used);
                } else if book.offered as f64 > self.limit {
                    (worst, crowded) = (worst.max(overshoot), true);
                    outcome.used.push(used);
                }
            }
            if crowded {
                outcome.overshoot.push(worst);
            }
        }
        let seconds = world.now_us as f64 / 1e6;
        let nodes = self.nodes as f64;
        outcome.simulated_s = seconds;
        outcome.bytes_per_s = world.network.bytes.iter().sum::<u64>() as f64 / nodes / seconds;
        outcome.bytes_per_s_max = world.network.bytes.iter().copied().max().unwrap_or(0) as f64 / seconds;
        outcome.frames_per_s = world.messages as f64 / nodes / seconds;
        outcome
    }
}

impl Outcome {
    pub fn mean(&self) -> f64 {
        mean(&self.overshoot)
    }

    pub fn worst(&self) -> f64 {
        self.overshoot.iter().copied().fold(0.0, f64::max)
    }

    pub fn used(&self) -> f64 {
        mean(&self.used)
    }

    /// What of the bound does not hold, in words; empty: all does.
    pub fn broken(&self, bound: &Bound) -> Vec<String> {
        let above = |name: &str, value: f64, most: Option<f64>| {
            most.filter(|most| value > *most)
                .map(|most| format!("{name} {:.2} % > {:.2} %", value * 100.0, most * 100.0))
        };
        let below = bound.used.filter(|least| self.used() < *least);
        let below = below.map(|least| format!("used {:.2} % < {:.2} %", self.used() * 100.0, least * 100.0));
        [above("mean", self.mean(), bound.mean), above("worst", self.worst(), bound.worst), below]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
