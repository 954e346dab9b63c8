//! LISTEN, as an accelerator: who polls anyway may poll at once when somebody committed.
//!
//! A connection of its own, opened when somebody first waits for a hint and closed when nobody has for a while, so that
//! nodes that leave the polling to others cost the database nothing. A hint may be lost, or never come (a pooler in
//! transaction mode delivers none), and nothing depends on it: a connection that fails is tried again, ever more seldom.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_proto::Revision;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::store::postgres::connect::Connector;
use crate::store::postgres::fault::{Fault, within};

const LISTEN: &str = "LISTEN tidegate_revision";

/// Pauses between two tries to connect: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long nobody waits until the connection is closed.
const UNWANTED_AFTER: Duration = Duration::from_secs(60);

/// How often the connection is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What the database says about its revision.
pub struct Hints {
    connector: Arc<Connector>,
    told: Arc<watch::Sender<Revision>>,
    wanted: Arc<Mutex<Instant>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Hints {
    pub fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            told: Arc::new(watch::Sender::new(Revision::default())),
            wanted: Arc::new(Mutex::new(Instant::now())),
            listening: Mutex::default(),
        }
    }

    /// The next revision that is announced from now on. Without a connection it waits as long as it takes.
    pub async fn next(&self) -> Revision {
        let mut told = self.told.subscribe();
        self.want();
        // The sender is a part of this.
        let _ = told.changed().await;
        *told.borrow()
    }

    fn want(&self) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.as_ref().is_none_or(JoinHandle::is_finished) {
            let (connector, told, wanted) = (self.connector.clone(), self.told.clone(), self.wanted.clone());
            *listening = Some(tokio::spawn(listen(connector, told, wanted)));
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        if let Some(task) = self.listening.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

async fn listen(connector: Arc<Connector>, told: Arc<watch::Sender<Revision>>, wanted: Arc<Mutex<Instant>>) {
    let is_wanted = || wanted.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < UNWANTED_AFTER;
    let mut pause = PAUSE_MIN;
    while is_wanted() {
        match hear(&connector, &told, &is_wanted).await {
            Ok(()) => pause = PAUSE_MIN,
            Err(fault) => tracing::debug!(error = %fault.error, "no hints from the database"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Until the connection ends or nobody wants it.
async fn hear(
    connector: &Connector,
    told: &Arc<watch::Sender<Revision>>,
    is_wanted: &impl Fn() -> bool,
) -> Result<(), Fault> {
    let tell = told.clone();
    let hear = move |payload: &str| payload.parse().into_iter().for_each(|revision| _ = tell.send_replace(revision));
    let connection = connector.connect_hearing(hear).await?;
    within(connector.options.timeout, connection.client.batch_execute(LISTEN)).await?;
    while is_wanted() && !connection.client.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
        // Also keeps whatever stands between from forgetting the connection.
        within(connector.options.timeout, connection.client.batch_execute("")).await?;
    }
    Ok(())
}
