//! What the benchmarks share: gateways as processes, the load and the clock of the kernel for those of whole nodes, and
//! an order without a pattern for those of parts.
//!
//! A library, as each program of this package is a crate of its own; including the files in both lost, as every part
//! that one of them does not use is dead code there.

pub mod cpu;
pub mod message;
pub mod peer;
pub mod random;
pub mod wire;
pub mod work;

/// Whatever went wrong, in words: a benchmark ends there.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
