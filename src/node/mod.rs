//! Assembly: settings, publisher, tasks, telemetry, the command line.

pub mod command;
pub mod settings;

mod cluster;
mod demo;
mod edge;
mod follow;
mod identity;
mod instance;
mod keep;
mod local_http;
mod outbound;
mod publisher;
mod signals;
mod start;
mod stores;
mod sweep;
mod telemetry;
mod terminal;
mod tools;
