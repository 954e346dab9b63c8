//! State machines without IO: `now` is an argument, frames go in, frames and orders come out.

pub mod clock;
pub mod keeper;
pub mod members;
pub mod registers;
pub mod replica;
pub mod rights;
pub mod solo;
pub mod tally;
pub mod time;
pub mod view;
