//! The text format of metrics.

use std::fmt::{Display, Write};

/// A page of metrics in Prometheus' text format.
pub(super) struct Page(pub(super) String);

impl Page {
    /// Begins a family of samples: its description and its type.
    pub(super) fn family(&mut self, name: &str, kind: &str, what: &str) {
        let _ = writeln!(self.0, "# HELP {name} {what}\n# TYPE {name} {kind}");
    }

    /// Adds a sample; `labels` without braces.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let _ = writeln!(self.0, "{name}{open}{labels}{close} {value}");
    }
}

/// The value of a label, with backslashes, quotes and line ends escaped.
pub(super) fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
