//! Kong's delivery queue (`kong/observability.md` §4), shared by all plugins that send batches of entries somewhere:
//! http-log, opentelemetry, zipkin, datadog and statsd.
//!
//! `core` decides: a state machine that gets the time as an argument. `driver` runs the state machine on a background
//! task and gives plugins a handle whose `push` never waits. `options` reads the parameters of a plugin config.
//!
//! Kong has one queue per worker process; a node here has one queue per plugin instance, shared by its worker threads.

pub mod core;
pub mod driver;
pub mod options;
