//! What goes wrong in a run, decided beforehand by its seed, so that a run can be repeated with fewer faults.

use crate::random::Random;

/// Nodes are numbers; those from `MEMBERS` on join later.
pub const NODES: usize = 5;
pub const MEMBERS: usize = 3;

#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing passes between the two sides, or one way only.
    Cut {
        side: [bool; NODES],
        one_way: bool,
    },
    Heal,
    /// Shares of frames lost and doubled, and the longest delay.
    Network {
        loss: f64,
        duplication: f64,
        delay_ms: u64,
    },
    /// kill -9, and the start of the next process; a new disk now and then.
    Crash {
        node: usize,
        pause_ms: u64,
        new_disk: bool,
    },
    /// A node is told to stop, hands over what it holds, and starts again.
    Stop {
        node: usize,
        pause_ms: u64,
    },
    /// Its clock is found to be far off, or near again, rightly or not.
    Skewed {
        node: usize,
        skewed: bool,
    },
    /// The clock jumps.
    Clock {
        node: usize,
        by_ms: i64,
    },
    /// Somebody changes the weights at this node.
    Weights {
        node: usize,
        parts: [u64; NODES],
    },
    /// A limit changes, and other nodes hear of it later.
    Limit {
        subject: usize,
        factor: f64,
    },
    /// Writes fail, or succeed again.
    Disk {
        node: usize,
        fails: bool,
    },
    /// Traffic goes elsewhere.
    Traffic {
        shares: [u64; NODES],
    },
}

/// Storms of 30 s, a fault in every second or so, with quiet between in which weights and rights can settle.
pub fn plan(seed: u64, until_ms: u64) -> Vec<(u64, Fault)> {
    let mut random = Random(seed ^ 0x5eed_fa17);
    let mut faults = Vec::new();
    let mut at_ms = 26_000;
    while at_ms < until_ms {
        let over_ms = at_ms + random.between(1_000, 30_000);
        while at_ms < over_ms {
            faults.push((at_ms, fault(&mut random)));
            at_ms += random.between(1, 3_000);
        }
        faults.push((at_ms, Fault::Heal));
        faults.push((at_ms, Fault::Network { loss: 0.0, duplication: 0.1, delay_ms: 60 }));
        faults.extend((0..NODES).map(|node| (at_ms, Fault::Disk { node, fails: false })));
        faults.extend((0..NODES).map(|node| (at_ms, Fault::Skewed { node, skewed: false })));
        // Now and then somebody is restarted and the weights change while nothing else is wrong.
        let quiet_ms = random.between(5_000, 45_000);
        for part in 1..4 {
            let pick = random.below(4);
            let parts = std::array::from_fn(|_| random.between(0, 5));
            let node = random.below(NODES);
            match pick {
                0 => faults.push((at_ms + quiet_ms / 4 * part, Fault::Weights { node, parts })),
                1 => faults.push((at_ms + quiet_ms / 4 * part, Fault::Crash { node, pause_ms: 500, new_disk: false })),
                2 => faults.push((at_ms + quiet_ms / 4 * part, Fault::Stop { node, pause_ms: 500 })),
                _ => {}
            }
        }
        at_ms += quiet_ms;
    }
    faults
}

fn fault(random: &mut Random) -> Fault {
    let node = random.below(NODES);
    match random.below(18) {
        0 | 1 => {
            let side = std::array::from_fn(|_| random.chance(0.5));
            Fault::Cut { side, one_way: random.chance(0.3) }
        }
        2 | 3 => Fault::Heal,
        4 => {
            let loss = [0.0, 0.01, 0.05, 0.3][random.below(4)];
            Fault::Network { loss, duplication: [0.0, 0.1, 0.5][random.below(3)], delay_ms: random.between(1, 400) }
        }
        5..=7 => Fault::Crash { node, pause_ms: random.between(1, 5_000), new_disk: random.chance(0.2) },
        8 => Fault::Clock { node, by_ms: random.between(0, 6_000) as i64 - 3_000 },
        9 => Fault::Clock { node, by_ms: random.between(0, 240_000) as i64 - 120_000 },
        10 | 11 => Fault::Weights { node, parts: std::array::from_fn(|_| random.between(0, 5)) },
        12 => Fault::Limit { subject: random.below(4), factor: [0.1, 0.5, 2.0, 5.0][random.below(4)] },
        13 => Fault::Disk { node, fails: random.chance(0.4) },
        14 => Fault::Stop { node, pause_ms: random.between(1, 5_000) },
        15 => Fault::Skewed { node, skewed: random.chance(0.5) },
        _ => Fault::Traffic { shares: std::array::from_fn(|_| random.between(0, 9).pow(2)) },
    }
}
