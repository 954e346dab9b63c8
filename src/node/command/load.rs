//! Settings for commands.

use std::path::{Path, PathBuf};

use crate::node::command::failure::Failure;
use crate::node::command::words::Invocation;
use crate::node::settings::Settings;
use crate::node::settings::said::{self, Sources};

/// Settings for a command; of several mistakes the first is shown.
pub(crate) fn load(invocation: &Invocation) -> Result<Settings, Failure> {
    let file = invocation.option("--conf").map(PathBuf::from);
    let prefix = invocation.option("--prefix").map(str::to_owned);
    load_from(file, prefix).map_err(|mut problems| Failure::from(problems.swap_remove(0)))
}

/// Never an empty list of mistakes.
pub(crate) fn load_from(file: Option<PathBuf>, prefix: Option<String>) -> Result<Settings, Vec<String>> {
    let (environment, mut problems) = said::environment();
    let read_file = |path: &Path| std::fs::read(path);
    match Settings::load(&Sources { environment, file, prefix, read_file: &read_file }) {
        Ok(settings) if problems.is_empty() => Ok(settings),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}
