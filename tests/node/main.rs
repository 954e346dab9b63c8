//! The ring of real sockets, a real PostgreSQL and real processes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod postgres;
mod store;
