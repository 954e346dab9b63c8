//! One cluster across regions: who is in it, and a configuration that is the same everywhere.
//!
//! Decisions are in `core`, without IO; `transport` moves frames over QUIC, `membership` finds peers, `driver` ties them
//! to a clock. This module cannot name `store`: what peers sent is handed to whoever keeps entities (`Keeper`).

pub mod core;
pub mod driver;
pub mod membership;
pub mod transport;
