//! Limits that are the cluster's, simulated: the production counters and their exchange under a virtual clock.
//!
//! `SEED=7 cargo test --test sim limits::NAME` repeats the run that a failure named. The same code fills the table in
//! `bench/README.md`, where scenarios have names:
//!
//!     cargo run --release -p tidegate-bench --bin tidegate-bench-limits -- even-10x
//!     TRACE=1 cargo run --release -p tidegate-bench --bin tidegate-bench-limits -- even-10x
//!
//! Held at each step: own slots grow (I1), no slot is more than was admitted there and in that window (I3, I4), usage
//! that was told never falls, frames and what a poll gives out are bounded (I8), nobody runs in circles (I12). Held at the
//! end, where a test is about it: equal slots, equal values (I2); overshoot within what the delays explain (I5); all nodes
//! equal to the oracle (I10).

pub mod network;
pub mod oracle;
pub mod process;
pub mod scenario;
pub mod table;
pub mod trace;
pub mod traffic;
pub mod world;
