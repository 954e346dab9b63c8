//! Certificates in files that change while the node runs.
//!
//! Read again every two seconds rather than watched: three small files cost nothing, and watching breaks with every
//! second way of replacing a file. Running connections keep what they began with.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::transport::endpoint::Configs;
use crate::cluster::transport::hub::Hub;
use crate::cluster::transport::identity::{Credentials, Identity};

const PERIOD: Duration = Duration::from_secs(2);

/// Follows the files until the mesh stops. What cannot be used is reported once and changes nothing.
pub async fn follow(hub: Arc<Hub>, identity: Identity) {
    let Identity::Files { cert, key, authority } = &identity else { return };
    let paths = [cert.as_path(), key.as_path(), authority.as_path()];
    let mut known = contents(paths).await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = hub.stop.cancelled() => return,
        }
        let present = contents(paths).await;
        if present == known {
            continue;
        }
        known = present;
        match load(&hub, &identity) {
            Ok(configs) => {
                hub.endpoint.set_server_config(Some(configs.server.clone()));
                hub.configs.store(Arc::new(configs));
                tracing::info!("cluster certificates were read again");
            }
            Err(error) => tracing::error!(%error, "cluster certificates changed and cannot be used; the old ones stay"),
        }
    }
}

fn load(hub: &Hub, identity: &Identity) -> io::Result<Configs> {
    Configs::new(Credentials::load(identity, &hub.hello.node_id)?, hub.segmentation_offload)
}

/// `None` for a file that cannot be read.
async fn contents(paths: [&Path; 3]) -> [Option<Vec<u8>>; 3] {
    let [cert, key, authority] = paths.map(tokio::fs::read);
    [cert.await.ok(), key.await.ok(), authority.await.ok()]
}
