//! The program: hands the command line to `node::command`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::node::command::run()
}
