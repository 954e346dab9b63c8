//! A rate in two bytes: the logarithm, as forecasts care about shares and not about digits.
//!
//! Rates from 2^-10 to 2^22 a second in steps of 2^(1/2048), 0.034 %. A float of two bytes lost: its steps are a tenth of
//! a per cent, and it spends bits on a sign.

/// Steps to a doubling.
const STEPS: f64 = 2_048.0;
/// Binary logarithm of the least rate that is said.
const LEAST: f64 = -10.0;

/// Events a second as a code; 0 for none, and for less than the least that can be said. What is above the most becomes
/// the most.
pub fn encode(per_s: f64) -> u16 {
    if per_s.is_nan() || per_s <= 0.0 {
        return 0;
    }
    let step = ((per_s.log2() - LEAST) * STEPS).round() + 1.0;
    // A cast of a float saturates.
    if step < 1.0 { 0 } else { step as u16 }
}

/// The rate that a code stands for, in events a second.
pub fn decode(code: u16) -> f64 {
    if code == 0 { 0.0 } else { ((f64::from(code) - 1.0) / STEPS + LEAST).exp2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stay() {
        for (rate, code) in [(0.0, 0), (2f64.powi(-10), 1), (1.0, 20_481), (2.0, 22_529), (600.0, 39_382)] {
            assert_eq!(encode(rate), code, "{rate}");
        }
        for nothing in [-1.0, f64::NAN, f64::NEG_INFINITY, 0.000_9] {
            assert_eq!(encode(nothing), 0, "{nothing}");
        }
        assert_eq!((encode(f64::INFINITY), encode(1e12)), (u16::MAX, u16::MAX));
    }

    #[test]
    fn every_code_means_itself() {
        for code in 0..=u16::MAX {
            assert_eq!(encode(decode(code)), code);
        }
    }

    #[test]
    fn a_rate_comes_back_within_a_step() {
        let mut rate = 0.001;
        while rate < 4e6 {
            let error = (decode(encode(rate)) / rate - 1.0).abs();
            assert!(error < 0.000_18, "{rate}: off by {error}");
            rate *= 1.003_7;
        }
    }
}
