//! The player of recorded conversations with Kong (`tests/scenarios`).

pub mod client;
pub mod matching;
pub mod player;
pub mod text;
pub mod upstream;
