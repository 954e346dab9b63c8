//! Tidegate: an API gateway that speaks Kong's Admin API. `ARCHITECTURE.md` is the map.
//!
//! Modules stand on floors, lower first, and import from lower floors only (`tests/tidy.rs` keeps it so):
//! `pace` · `entity` · `http1` `router` `balancer` `counter` `listen` · `plugin` `cluster::core` · `snapshot` `store` · `proxy` `cluster`
//! `admin` · `node`.

pub mod admin;
pub mod balancer;
pub mod cluster;
pub mod counter;
pub mod entity;
pub mod http1;
pub mod listen;
pub mod node;
pub mod pace;
pub mod plugin;
pub mod proxy;
pub mod router;
pub mod snapshot;
pub mod store;

/// Our own version, as `Server: tidegate/VERSION` and `tidegate version` say it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The Kong whose Admin API and behaviour we speak.
pub const KONG_VERSION: &str = "3.9.3";
