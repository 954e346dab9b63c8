//! A command's own access to the store, without a node.

use crate::node::command::failure::Failure;
use crate::node::settings::Settings;
use crate::node::stores;
use crate::plugin;
use crate::store::ledger::Ledger;

/// Runs `work` on a ledger that holds what the store holds now.
pub fn with_ledger(settings: &Settings, work: impl AsyncFnOnce(&Ledger) -> Result<(), String>) -> Result<(), Failure> {
    let plugins = plugin::declarations();
    block_on(async {
        let opened = stores::open(settings, &plugins).await?;
        opened.ledger.catch_up().await.map_err(|error| error.to_string())?;
        work(&opened.ledger).await
    })
}

/// Runs one future on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    Ok(runtime.block_on(work)?)
}
