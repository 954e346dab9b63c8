//! How often something happens: an average that forgets.

/// A surge shows within about this time, ms.
const SURGE_MS: f64 = 30.0;
/// Rates that are averaged over longer than this have no surges: their windows leave time to find out.
const SURGE_TAU_MS: f64 = 1_000.0;

/// Events per ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    usual: Average,
    now: Average,
    /// Events of about the last `SURGE_MS`.
    lately: f64,
    /// `now` began with a surge.
    surged: bool,
}

/// Over about the last `tau_ms`. What was before the first look does not pull it down.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    sum: f64,
    weight: f64,
    /// What was seen counts as this much of the memory at least.
    weight_min: f64,
}

impl Rate {
    pub fn observe(&mut self, events: u64, elapsed_ms: u64, tau_ms: f64) {
        if elapsed_ms == 0 {
            return;
        }
        self.usual.observe(events, elapsed_ms, tau_ms);
        self.now.observe(events, elapsed_ms, tau_ms);
        self.lately = self.lately * (-(elapsed_ms as f64) / SURGE_MS).exp() + events as f64;
        let expected = self.per_ms() * SURGE_MS;
        if tau_ms < SURGE_TAU_MS && !self.is_young() && self.lately > expected + 3.0 * expected.sqrt() + 4.0 {
            // No chance: whoever forecasts from what was before would be wrong until the average has caught up.
            let weight_min = -(-SURGE_MS / tau_ms).exp_m1();
            self.now = Average { sum: 0.0, weight: 0.0, weight_min };
            self.surged = true;
        }
    }

    /// To forecast by: a surge shows at once.
    pub fn per_ms(&self) -> f64 {
        if self.is_young() { self.now.per_ms().max(self.lately / SURGE_MS) } else { self.now.per_ms() }
    }

    /// A surge began, and its average has seen too little of it.
    fn is_young(&self) -> bool {
        self.surged && self.now.weight < self.now.weight_min
    }

    /// To judge a surge by.
    pub fn usual_per_ms(&self) -> f64 {
        self.usual.per_ms()
    }
}

impl Average {
    fn observe(&mut self, events: u64, elapsed_ms: u64, tau_ms: f64) {
        let share = -(-(elapsed_ms as f64) / tau_ms).exp_m1();
        self.sum += (events as f64 / elapsed_ms as f64 - self.sum) * share;
        self.weight += (1.0 - self.weight) * share;
        if self.weight_min == 0.0 {
            // A burst in a moment is no rate yet.
            self.weight_min = 0.2;
        }
    }

    fn per_ms(&self) -> f64 {
        if self.weight_min == 0.0 { 0.0 } else { self.sum / self.weight.max(self.weight_min) }
    }
}

/// Over what time rates of a window of this length are averaged, ms.
pub fn tau_ms(length_s: u64) -> f64 {
    if length_s < 2 { 500.0 } else { 2_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_forgotten() {
        let mut rate = Rate::default();
        for _ in 0..40 {
            rate.observe(50, 5, 500.0);
        }
        assert!((rate.per_ms() - 10.0).abs() < 1e-9, "{}", rate.per_ms());
        for _ in 0..1_000 {
            rate.observe(0, 5, 500.0);
        }
        assert!(rate.per_ms() < 0.001);
    }

    #[test]
    fn a_surge_shows_at_once_and_is_not_usual() {
        let mut rate = Rate::default();
        (0..400).for_each(|look| rate.observe(look % 2, 5, 500.0));
        (0..8).for_each(|_| rate.observe(20, 5, 500.0));
        assert!((3.0..5.0).contains(&rate.per_ms()), "{}", rate.per_ms());
        assert!(rate.usual_per_ms() < 0.5, "{}", rate.usual_per_ms());
    }
}
