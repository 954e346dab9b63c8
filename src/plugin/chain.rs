//! Which instances run for a request, in which order.

/// The plugin names in use for one route, highest priority first, each with the instances it may run.
#[derive(Default)]
pub struct Chain {}
