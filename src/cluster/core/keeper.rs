//! What the cluster layer asks of whoever keeps the entities; the node puts the ledger behind it.

use futures_util::future::BoxFuture;
use tidegate_proto::Vector;
use tidegate_proto::frame::{Span, WholeRecord};

/// The entities of this node and their history.
pub trait Keeper: Send + Sync + 'static {
    /// Everything up to here is in.
    fn vector(&self) -> Vector;

    /// Takes transactions in. Spans that are known, or that come too early, are left alone; the answer is where the node
    /// stands afterwards. An error is a disk's.
    fn take(&self, spans: Vec<Span>) -> BoxFuture<'_, Result<Vector, String>>;

    /// Takes a whole configuration in: in the embedded store merged record by record, with Postgres put in the place of
    /// what was there when `vector` is ahead.
    fn adopt(&self, vector: Vector, records: Vec<WholeRecord>) -> BoxFuture<'_, Result<Vector, String>>;

    /// At most `size_max` bytes of records (tombstones included) in order of (kind, id) after a place, and whether that
    /// was all.
    fn records(&self, after: Option<(String, [u8; 16])>, size_max: usize) -> (Vec<WholeRecord>, bool);
}
