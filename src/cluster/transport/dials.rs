//! Dials that are under way: how often an address is dialled, and how many addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Pause between two dials of one address.
const DIAL_PAUSE: Duration = Duration::from_millis(450);
/// Dials of one address at once.
const DIALS_MAX: usize = 3;
/// Addresses dialled at once; above it a dial is not begun.
const DIALLED_MAX: usize = 256;

/// When dials of each address that are under way began.
#[derive(Default)]
pub struct Dials(HashMap<SocketAddr, Vec<Instant>>);

impl Dials {
    /// Notes that a dial begins; false: it is too soon for this address, or too many are dialled.
    pub fn begin(&mut self, address: SocketAddr, now: Instant) -> bool {
        if !self.0.contains_key(&address) && self.0.len() >= DIALLED_MAX {
            return false;
        }
        let under_way = self.0.entry(address).or_default();
        let recent = under_way.last().is_some_and(|began| now.duration_since(*began) < DIAL_PAUSE);
        if recent || under_way.len() >= DIALS_MAX {
            return false;
        }
        under_way.push(now);
        true
    }

    /// Removes a dial that ended.
    pub fn end(&mut self, address: SocketAddr, began: Instant) {
        if let Some(under_way) = self.0.get_mut(&address) {
            under_way.retain(|other| *other != began);
            if under_way.is_empty() {
                self.0.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_dialled_with_pauses_and_not_too_often() {
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let (start, mut dials) = (Instant::now(), Dials::default());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(dials.begin(address, at(0)));
        assert!(!dials.begin(address, at(100)));
        assert!(dials.begin(address, at(500)));
        assert!(dials.begin(address, at(1000)));
        assert!(!dials.begin(address, at(1500)), "three are under way");
        dials.end(address, at(0));
        assert!(dials.begin(address, at(1500)));
        for ms in [500, 1000, 1500] {
            dials.end(address, at(ms));
        }
        assert!(dials.0.is_empty());
    }

    #[test]
    fn not_every_address_that_somebody_names_is_dialled() {
        let mut dials = Dials::default();
        let begun = (0..1000u16).filter(|port| dials.begin(([127, 0, 0, 1], *port).into(), Instant::now())).count();
        assert_eq!(begun, DIALLED_MAX);
    }
}
