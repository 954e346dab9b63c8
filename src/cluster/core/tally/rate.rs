//! How often something happens: an average that forgets.

/// Events per ms, over about the last `tau_ms`. What was before the first look does not pull it down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    sum: f64,
    weight: f64,
}

impl Rate {
    pub fn observe(&mut self, events: u64, elapsed_ms: u64, tau_ms: f64) {
        if elapsed_ms == 0 {
            return;
        }
        let share = -(-(elapsed_ms as f64) / tau_ms).exp_m1();
        self.sum += (events as f64 / elapsed_ms as f64 - self.sum) * share;
        self.weight += (1.0 - self.weight) * share;
    }

    pub fn per_ms(&self) -> f64 {
        // A burst in a moment is no rate yet: what was seen counts as a fifth of the memory at least.
        self.sum / self.weight.max(0.2)
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
}
