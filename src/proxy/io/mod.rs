//! Buffers, timers and writes that the client's and the upstream's side share.

pub mod buffer;
pub mod deadline;
pub mod outgoing;
