//! Assembly: settings, publisher, tasks, telemetry, the command line.

pub mod settings;
pub mod telemetry;
