//! One suite for every store: what a store promises, and what only one of them can break.

use std::sync::Arc;

use tidegate::store::Store;
use tidegate::store::postgres::Postgres;

use crate::postgres::Server;

#[tokio::test]
async fn smoke() {
    let database = Server::shared().create_database();
    let store: Arc<dyn Store> = Arc::new(Postgres::new(database.options()).unwrap());
    println!("{:?}", store.load().await.unwrap());
}
