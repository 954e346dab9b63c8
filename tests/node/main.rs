//! The ring of real sockets, a real PostgreSQL and real processes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod command;
mod gateway;
mod lifecycle;
mod postgres;
mod relay;
mod store;
