//! Assembly: settings, publisher, tasks, telemetry, the command line.

pub mod command;
pub mod settings;

mod cluster;
mod demo;
mod edge;
mod follow;
mod identity;
mod keep;
mod outbound;
mod publisher;
mod signals;
mod start;
mod stores;
mod sweep;
mod telemetry;
mod tools;
