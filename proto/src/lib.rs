//! What tidegate nodes hand to each other and to disk.
//!
//! Vocabulary and codec only: no sockets, no clocks. `bincode` lives here and nowhere else, always behind a
//! byte limit, with a version byte in front and nothing allowed behind.

mod bound;
mod check;
pub mod close;
pub mod codec;
mod counts;
pub mod demand;
pub mod frame;
pub mod kind;
mod malformed;
mod more;
mod revision;
mod sizes;
mod snapshot;
mod stamp;
#[cfg(test)]
mod tests;
mod vector;
mod versions;

pub use revision::Revision;
pub use sizes::ORIGINS_MAX;
pub use snapshot::{Malformed, Pieces, Record, SNAPSHOT_LEN_MAX, SNAPSHOT_VERSION, Snapshot};
pub use stamp::Stamp;
pub use vector::Vector;
