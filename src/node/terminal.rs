//! Output of commands on the terminal.

use std::io::{self, Write};

/// To stdout; a reader that has gone away is no failure.
pub(crate) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// To stderr; a reader that has gone away is no failure.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
