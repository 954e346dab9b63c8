//! What tidegate nodes hand to each other and to disk.
//!
//! Vocabulary and codec only: no sockets, no clocks. `bincode` lives here and nowhere else, always behind a
//! byte limit, with a version byte in front and nothing allowed behind.

mod revision;

pub use revision::Revision;
