//! Who asks, and when: Poisson arrivals whose rate and places change at given times.
//!
//! Times between arrivals are drawn for all nodes together and the node by its weight, which is the same process as one
//! source per node, with one event waiting instead of a thousand. At the edge of a phase the draw is made anew: a Poisson
//! process has no memory, so nothing is lost by that.

use crate::random::Random;

/// How the traffic of a key is spread over the nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Even,
    /// The node at rank r has 1/r of the first one's; which node has which rank is drawn once for a key.
    Zipf,
    /// All at this node.
    One(usize),
}

/// From a time on, so many arrivals a second.
#[derive(Clone, Debug)]
pub struct Phase {
    pub from_us: u64,
    pub per_s: f64,
    pub shape: Shape,
    /// Ranks are drawn anew.
    pub moves: bool,
}

/// The arrivals at one key.
#[derive(Debug)]
pub struct Traffic {
    parts: Vec<Part>,
    /// Not rounded to microseconds, or ten thousand a second would be fewer.
    last_us: f64,
}

#[derive(Debug)]
struct Part {
    from_us: u64,
    per_us: f64,
    /// Shares of the nodes, added up.
    upto: Vec<f64>,
}

impl Traffic {
    /// `phases` ascend.
    pub fn new(phases: &[Phase], nodes: usize, random: &mut Random) -> Self {
        let mut order: Vec<usize> = (0..nodes).collect();
        shuffle(&mut order, random);
        let mut parts = Vec::with_capacity(phases.len());
        for phase in phases {
            if phase.moves {
                shuffle(&mut order, random);
            }
            let weights = weights(&phase.shape, &order);
            let total: f64 = weights.iter().sum();
            let mut sum = 0.0;
            let upto = weights.iter().map(|weight| {
                sum += weight / total;
                sum
            });
            let upto = upto.collect();
            parts.push(Part { from_us: phase.from_us, per_us: phase.per_s / 1e6, upto });
        }
        Self { parts, last_us: 0.0 }
    }

    /// The arrival after the one before: when, and at which node. `None`: there are no more.
    pub fn next(&mut self, random: &mut Random) -> Option<(u64, usize)> {
        loop {
            let at = self.parts.partition_point(|part| part.from_us as f64 <= self.last_us);
            let end_us = self.parts.get(at).map(|part| part.from_us as f64);
            let part = at.checked_sub(1).and_then(|at| self.parts.get(at)).filter(|part| part.per_us > 0.0);
            let Some(part) = part else {
                self.last_us = end_us?;
                continue;
            };
            self.last_us += -(1.0 - random.unit()).ln() / part.per_us;
            if let Some(end_us) = end_us.filter(|end_us| self.last_us >= *end_us) {
                self.last_us = end_us;
                continue;
            }
            let draw = random.unit();
            let node = part.upto.partition_point(|upto| *upto <= draw).min(part.upto.len() - 1);
            return Some((self.last_us as u64, node));
        }
    }
}

/// Always the same.
pub fn steady(per_s: f64, shape: Shape) -> Vec<Phase> {
    vec![Phase { from_us: 0, per_s, shape, moves: false }]
}

/// The same in all, but every `every_us` the nodes change their ranks.
pub fn moving(per_s: f64, shape: &Shape, every_us: u64, until_us: u64) -> Vec<Phase> {
    let starts = (0..).map(|number| number * every_us).take_while(|from_us| *from_us < until_us);
    starts.map(|from_us| Phase { from_us, per_s, shape: shape.clone(), moves: true }).collect()
}

/// Next to nothing until `at_us`, then a crowd until `end_us`, then nobody.
pub fn flash(before_per_s: f64, crowd_per_s: f64, shape: &Shape, at_us: u64, end_us: u64) -> Vec<Phase> {
    let phase = |from_us, per_s| Phase { from_us, per_s, shape: shape.clone(), moves: false };
    vec![phase(0, before_per_s), phase(at_us, crowd_per_s), phase(end_us, 0.0)]
}

fn weights(shape: &Shape, order: &[usize]) -> Vec<f64> {
    let mut weights = vec![0.0; order.len()];
    match shape {
        Shape::Even => weights.fill(1.0),
        Shape::Zipf => {
            for (rank, node) in order.iter().enumerate() {
                weights[*node] = 1.0 / (rank + 1) as f64;
            }
        }
        Shape::One(node) => weights[*node] = 1.0,
    }
    weights
}

fn shuffle(order: &mut [usize], random: &mut Random) {
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last + 1));
    }
}
