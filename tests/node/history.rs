//! Histories: spans between nodes over one PostgreSQL, hints, databases that were replaced by other copies of
//! themselves, and embedded files that outlive their process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::entity::{Entity, Kind};
use tidegate::store::embedded::Embedded;
use tidegate::store::ledger::Ledger;
use tidegate::store::local::Local;
use tidegate::store::{Contents, Store, StoreError};
use tidegate_proto::frame::Span;
use tidegate_proto::{Revision, Vector};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::postgres::{Database, Server};
use crate::store::{postgres_in, service};

fn ledger(database: &Database) -> Ledger {
    Ledger::new(postgres_in(database), Contents::default())
}

/// One transaction that leaves these (id, host).
async fn leave(ledger: &Ledger, services: &[(u128, &str)]) -> Revision {
    ledger.replace_all(services.iter().map(|(number, host)| service(*number, host)).collect()).await.unwrap()
}

fn hosts(ledger: &Ledger) -> Vec<(u128, String)> {
    let host = |entity: &Arc<Entity>| (entity.id().as_u128(), entity.doc()["host"].as_str().unwrap().to_owned());
    ledger.entities().0.iter().map(host).collect()
}

fn told(spans: &mut broadcast::Receiver<Arc<Span>>) -> Vec<Span> {
    std::iter::from_fn(|| spans.try_recv().ok()).map(|span| Span::clone(&span)).collect()
}

fn admin(database: &Database) -> Database {
    Database { port: database.port, name: "postgres".to_owned() }
}

fn disconnect(database: &Database) {
    let name = &database.name;
    admin(database)
        .sql(&format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"));
}

/// A backup of a database as it is now.
fn backup(database: &Database) -> Database {
    disconnect(database);
    let copy = Database { name: format!("{}_copy", database.name), ..database.clone() };
    admin(database).sql(&format!("CREATE DATABASE {} TEMPLATE {}", copy.name, database.name));
    copy
}

/// Puts a backup in a database's place.
fn restore(database: &Database, copy: &Database) {
    disconnect(copy);
    let (name, copy) = (&database.name, &copy.name);
    admin(database).sql(&format!("DROP DATABASE {name} WITH (FORCE)"));
    admin(database).sql(&format!("ALTER DATABASE {copy} RENAME TO {name}"));
}

#[tokio::test]
async fn what_one_node_commits_the_others_take_from_it() {
    let database = Server::shared().create_database();
    let (here, there) = (ledger(&database), ledger(&database));
    here.catch_up().await.unwrap();
    there.catch_up().await.unwrap();
    let mut spans = here.spans();
    leave(&here, &[(1, "a")]).await;
    leave(&here, &[(1, "b"), (2, "b")]).await;
    let spans = told(&mut spans);
    // Too early, then in order, then again.
    assert_eq!(there.take_spans(spans[1..].to_vec()).await.unwrap(), Vector::of_database(Revision::new(1, 0)));
    assert_eq!(there.take_spans(spans.clone()).await.unwrap(), here.vector());
    assert_eq!(there.take_spans(spans).await.unwrap(), here.vector());
    assert_eq!(there.entities(), here.entities());
    // The database confirms it; nothing is new.
    assert!(!there.catch_up().await.unwrap());
    let other_epoch = Span { epoch: 2, origin: String::new(), after: 0, upto: 9, changes: Vec::new() };
    assert_eq!(there.take_spans(vec![other_epoch]).await.unwrap(), here.vector());

    // What a person writes is told to peers by whoever asks the database.
    let mut spans = there.spans();
    database.sql("UPDATE entities SET doc = doc || '{\"host\": \"by hand\"}'");
    assert!(there.catch_up().await.unwrap());
    assert_eq!(here.take_spans(told(&mut spans)).await.unwrap(), there.vector());
    assert_eq!(here.entities(), there.entities());
    assert!(!here.catch_up().await.unwrap());
    assert_eq!((here.epochs_adopted(), there.epochs_adopted()), (0, 0));
}

#[tokio::test]
async fn the_whole_of_a_peer_does_for_the_database() {
    let database = Server::shared().create_database();
    let here = ledger(&database);
    leave(&here, &[(1, "a"), (2, "b"), (3, "c")]).await;
    let joining = ledger(&Database { port: 1, ..database.clone() });
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let (some, last) = here.records(after.take(), 100);
        after = some.last().map(|record| (record.kind.clone(), record.id));
        records.extend(some);
        if last {
            break;
        }
    }
    assert_eq!(joining.adopt(here.vector(), records.clone()).await.unwrap(), here.vector());
    assert_eq!(joining.entities(), here.entities());
    // What is not ahead is left alone.
    assert_eq!(joining.adopt(here.vector(), Vec::new()).await.unwrap(), here.vector());
    assert_eq!(joining.entities(), here.entities());
    let next = Vector::of_database(Revision::new(2, 0));
    assert_eq!(joining.adopt(next.clone(), records[..1].to_vec()).await.unwrap(), next);
    assert_eq!((joining.entities().0.len(), joining.epochs_adopted()), (1, 1));
}

#[tokio::test]
async fn an_older_copy_that_grew_past_what_was_seen_is_another_history() {
    let database = Server::shared().create_database();
    let (asking, following, idle) = (ledger(&database), ledger(&database), ledger(&database));
    let directory = tempfile::tempdir().unwrap();
    let local = Local::new(directory.path(), "postgres", "here");
    leave(&asking, &[(1, "a"), (2, "a")]).await;
    for ledger in [&following, &idle] {
        ledger.catch_up().await.unwrap();
    }
    let copy = backup(&database);
    // The future that will be lost. One node takes it from the other, one does not hear of it.
    let mut spans = asking.spans();
    leave(&asking, &[(1, "lost"), (2, "a"), (3, "lost")]).await;
    leave(&asking, &[(1, "lost"), (2, "a"), (3, "lost"), (4, "lost")]).await;
    following.take_spans(told(&mut spans)).await.unwrap();
    assert_eq!(following.entities(), asking.entities());
    local.keep(&asking.contents()).unwrap();
    // The copy grew past it before anybody asked.
    for host in ["b", "c", "d"] {
        copy.sql(&format!(
            "UPDATE entities SET doc = doc || '{{\"host\": \"{host}\"}}' WHERE doc ->> 'host' <> 'lost'"
        ));
    }
    restore(&database, &copy);

    let expected = [(1, "d".to_owned()), (2, "d".to_owned())];
    assert!(idle.catch_up().await.unwrap());
    assert_eq!((hosts(&idle), idle.vector().revision()), (expected.to_vec(), Revision::new(1, 4)), "knows of no other");
    assert!(following.catch_up().await.unwrap());
    assert_eq!((hosts(&following), following.vector().revision()), (expected.to_vec(), Revision::new(2, 4)));
    for ledger in [&asking, &idle] {
        assert!(ledger.catch_up().await.unwrap());
        assert_eq!(ledger.entities(), following.entities());
        assert_eq!(ledger.epochs_adopted(), 1);
    }
    // A node that was off meanwhile knows by the mark that it kept.
    database.sql("UPDATE revision SET epoch = 1");
    let restarted = Ledger::new(postgres_in(&database), local.load().contents.unwrap());
    assert_eq!(restarted.vector().revision(), Revision::new(1, 3));
    assert!(restarted.catch_up().await.unwrap());
    assert_eq!((hosts(&restarted), restarted.vector().revision()), (expected.to_vec(), Revision::new(2, 4)));
    // A writer adopts before it decides, too.
    let late = Ledger::new(postgres_in(&database), local.load().contents.unwrap());
    database.sql("UPDATE revision SET epoch = 1");
    assert_eq!(leave(&late, &[(1, "d"), (9, "new")]).await, Revision::new(2, 5));
}

#[tokio::test]
async fn a_standby_that_lacks_the_last_commits_is_another_history() {
    let database = Server::shared().create_database();
    let (asking, following) = (ledger(&database), ledger(&database));
    leave(&asking, &[(1, "a")]).await;
    following.catch_up().await.unwrap();
    let copy = backup(&database);
    let mut spans = asking.spans();
    leave(&asking, &[(1, "lost")]).await;
    following.take_spans(told(&mut spans)).await.unwrap();
    restore(&database, &copy);
    // It asks about what the database confirmed to it, and hears that there is nothing after that.
    assert!(following.catch_up().await.unwrap());
    assert_eq!((hosts(&following), following.vector().revision()), (vec![(1, "a".to_owned())], Revision::new(2, 1)));
    assert!(asking.catch_up().await.unwrap());
    assert_eq!(asking.entities(), following.entities());
}

#[tokio::test]
async fn the_history_a_node_goes_on_with_needs_no_new_epoch() {
    let database = Server::shared().create_database();
    let (here, there) = (ledger(&database), ledger(&database));
    let mut spans = here.spans();
    there.catch_up().await.unwrap();
    for number in 0..20u128 {
        let host = number.to_string();
        leave(if number % 3 == 0 { &there } else { &here }, &[(number % 4, &host), (7, &host)]).await;
        there.take_spans(told(&mut spans)).await.unwrap();
        if number % 5 == 0 {
            database.sql(&format!("UPDATE entities SET doc = doc || '{{\"host\": \"by hand {number}\"}}'"));
            here.catch_up().await.unwrap();
        }
    }
    // Marks that nobody knows any more are no reason for anything.
    database.sql("DELETE FROM marks");
    here.catch_up().await.unwrap();
    there.catch_up().await.unwrap();
    assert_eq!(here.entities(), there.entities());
    assert_eq!((here.vector().epoch, here.epochs_adopted(), there.epochs_adopted()), (1, 0, 0));
}

#[tokio::test]
async fn an_edit_in_sql_is_hinted_at() {
    let database = Server::shared().create_database();
    let ledger = ledger(&database);
    leave(&ledger, &[(1, "a")]).await;
    let asked = Instant::now();
    let hinted = async {
        ledger.hinted().await;
        asked.elapsed()
    };
    // Somebody edits again and again, as the connection that listens comes up when it does.
    let editing = async {
        for number in 0.. {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let database = database.clone();
            let edit = format!("UPDATE entities SET doc = doc || '{{\"host\": \"h{number}\"}}'");
            tokio::task::spawn_blocking(move || database.sql(&edit)).await.unwrap();
        }
    };
    tokio::select! {
        after = hinted => assert!(after < Duration::from_secs(10), "{after:?}"),
        () = editing => {}
    }
    assert!(ledger.catch_up().await.unwrap());
}

fn embedded(directory: &std::path::Path) -> Arc<Embedded> {
    // The thread of the one before closes the file a moment after the last handle is gone.
    loop {
        match Embedded::open(directory, "node") {
            Ok(store) => return Arc::new(store),
            Err(StoreError::Unavailable(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn an_embedded_file_keeps_everybodys_history() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = async |directory: &tempfile::TempDir| {
        let store = embedded(directory.path());
        let contents = store.load().await.unwrap();
        Ledger::new(store, contents)
    };
    let (one, two) = (open(&here).await, open(&there).await);
    let mut spans = one.spans();
    leave(&one, &[(1, "a"), (2, "a")]).await;
    leave(&one, &[(1, "b")]).await;
    two.take_spans(told(&mut spans)).await.unwrap();
    leave(&two, &[(1, "c")]).await;
    let (vector, records) = (two.vector(), two.records(None, usize::MAX));
    assert_eq!((vector.counts.len(), vector.revision()), (2, Revision::new(1, 3)));
    assert!(vector.counts.keys().all(|origin| origin.starts_with("node.")));
    assert_eq!(records.0.iter().filter(|record| record.text.is_none()).count(), 1);
    drop((one, two));
    let two = open(&there).await;
    assert_eq!((two.vector(), two.records(None, usize::MAX)), (vector.clone(), records));
    assert_eq!(leave(&two, &[(1, "d")]).await, Revision::new(1, 4));
    // The other one gets all of it at once.
    let one = open(&here).await;
    one.adopt(two.vector(), two.records(None, usize::MAX).0).await.unwrap();
    assert_eq!((one.vector(), one.entities()), (two.vector(), two.entities()));
    assert!(!one.catch_up().await.unwrap());
    let end = one.write(0, |draft| draft.delete(Kind::SERVICES, Uuid::from_u128(1))).await.unwrap();
    assert_eq!(end, (true, Revision::new(1, 5)));
}
