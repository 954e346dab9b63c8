//! What the mesh gets from the settings.

use std::net::SocketAddr;

use tidegate_proto::frame::Hello;

use crate::cluster::transport::identity::Identity;

/// Options of the mesh.
pub struct Options {
    pub listen: SocketAddr,
    /// What peers dial; may differ from `listen` (a relay, a NAT).
    pub advertise: SocketAddr,
    pub identity: Identity,
    /// This node's Hello; `address`, `oldest`, `newest` and `cluster_id` (as `identity::cluster_id` has it) are filled in
    /// here.
    pub hello: Hello,
    /// Generic segmentation offload: off on Fly.
    pub segmentation_offload: bool,
}
