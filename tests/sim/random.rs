//! The one source of chance in a run: the same seed, the same run.

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// At least 0, less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Runs `scenario` under each seed, or under `$SEED` alone. A run that fails says which seed repeats it.
pub fn seeds(count: u64, scenario: impl Fn(u64)) {
    let chosen = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let all: Vec<u64> = chosen.map_or_else(|| (1..=count).collect(), |seed| vec![seed]);
    for seed in all {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scenario(seed)));
        if let Err(panic) = run {
            eprintln!("repeat with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
