//! The log document.

/// Placeholder until the log document is merged.
#[derive(Debug, Default)]
pub struct Entry;
