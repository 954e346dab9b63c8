//! Background tasks of plugins.

use std::fmt;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Makes the future of a task. The token is cancelled when the node stops: the task then has five seconds to end by
/// itself before it is dropped.
pub type BackgroundTask = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// Starts background tasks on the node's main runtime.
pub trait Tasks: Send + Sync {
    /// Starts a task. A panic in it is logged with `name` and ends the task only.
    fn spawn(&self, name: &'static str, task: BackgroundTask) -> Result<(), TasksEnded>;
}

/// The node stops or was never there: the task was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TasksEnded;

impl fmt::Display for TasksEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("background tasks have ended")
    }
}

impl std::error::Error for TasksEnded {}
