//! The ring of real sockets, a real PostgreSQL and real processes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod backend;
mod bad_input;
mod cluster;
mod command;
mod crash;
mod demo;
mod fleet;
mod history;
mod lifecycle;
mod limits;
mod limits_cluster;
mod limits_policy;
mod mesh;
mod outage;
mod postgres;
mod process;
mod relay;
mod scenario;
mod scenarios;
mod store;
mod strict;
