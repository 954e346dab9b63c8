//! One suite for every store: what a store promises, and what only one of them can break.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::entity::catalog::Draft;
use tidegate::entity::declare::Plugins;
use tidegate::entity::problem::Rejection;
use tidegate::entity::write::{Intent, prepare};
use tidegate::entity::{Change, Entity, Kind};
use tidegate::store::declarative::Declarative;
use tidegate::store::embedded::Embedded;
use tidegate::store::ledger::{Ledger, WriteError};
use tidegate::store::postgres::{self, Options, Postgres, Status};
use tidegate::store::{Contents, Missed, Store, StoreError};
use tidegate_proto::Revision;
use uuid::Uuid;

use crate::postgres::{Database, Server};

type Shared = Arc<dyn Store>;

/// What stands, by id.
type Standing = BTreeMap<Uuid, Arc<Entity>>;

fn embedded(directory: &Path) -> Shared {
    // The thread of the one before closes the file a moment after the last handle is gone.
    loop {
        match Embedded::open(directory, "here") {
            Ok(store) => return Arc::new(store),
            Err(StoreError::Unavailable(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn postgres_in(database: &Database) -> Shared {
    Arc::new(Postgres::new(database.options()).unwrap())
}

/// Runs `check` on each writable store, empty. The function opens another handle on the same store, as another
/// node (or another task, with the embedded one) has it.
async fn each(check: impl AsyncFn(&dyn Fn() -> Shared)) {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path());
    check(&|| store.clone()).await;
    let database = Server::shared().create_database();
    check(&|| postgres_in(&database)).await;
}

pub(crate) fn service(number: u128, host: &str) -> Arc<Entity> {
    let id = Uuid::from_u128(number);
    Arc::new(Entity::from_text(Kind::SERVICES, &format!(r#"{{"id":"{id}","host":"{host}"}}"#)).unwrap())
}

fn put(number: u128, host: &str) -> Change {
    let entity = service(number, host);
    Change { kind: entity.kind(), id: entity.id(), entity: Some(entity) }
}

fn end(number: u128) -> Change {
    Change { kind: Kind::SERVICES, id: Uuid::from_u128(number), entity: None }
}

async fn commit(store: &Shared, seen: Revision, changes: Vec<Change>) -> Revision {
    store.begin(seen).await.unwrap().commit(changes).await.unwrap()
}

fn standing(entities: impl IntoIterator<Item = Arc<Entity>>) -> Standing {
    entities.into_iter().map(|entity| (entity.id(), entity)).collect()
}

fn take(standing: &mut Standing, missed: Missed) -> Revision {
    match missed {
        Missed::Everything(contents) => {
            *standing = self::standing(contents.entities);
            contents.revision
        }
        Missed::Changes { changes, revision } => {
            for change in changes {
                match change.entity {
                    Some(entity) => drop(standing.insert(change.id, entity)),
                    None => drop(standing.remove(&change.id)),
                }
            }
            revision
        }
    }
}

fn no_changes(missed: Missed) -> Revision {
    match missed {
        Missed::Changes { changes, revision } if changes.is_empty() => revision,
        other => panic!("{other:?}"),
    }
}

fn schema_problem<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Schema(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("no problem"),
    }
}

#[tokio::test]
async fn a_new_store_is_empty() {
    each(async |open| {
        let store = open();
        let contents = store.load().await.unwrap();
        assert_eq!((contents.revision, contents.entities.len()), (Revision::new(1, 0), 0));
        assert!(matches!(store.since(Revision::default()).await.unwrap(), Missed::Everything(_)));
        assert_eq!(no_changes(store.since(contents.revision).await.unwrap()), contents.revision);
    })
    .await;
}

#[tokio::test]
async fn every_range_of_the_log_leads_to_what_stands() {
    each(async |open| {
        let (store, other) = (open(), open());
        let transactions = [
            vec![put(1, "a"), put(2, "a")],
            vec![put(1, "b")],
            vec![end(2), put(3, "c")],
            vec![end(9)],
            vec![put(2, "d"), end(1)],
        ];
        let mut revision = store.load().await.unwrap().revision;
        let mut states = vec![(revision, Standing::new())];
        for changes in transactions {
            let mut state = states.last().unwrap().1.clone();
            let next = commit(&store, revision, changes.clone()).await;
            assert_eq!(next, revision.next());
            revision = take(&mut state, Missed::Changes { changes, revision: next });
            states.push((revision, state));
        }
        let last = states.last().unwrap().1.clone();
        assert_eq!(standing(other.load().await.unwrap().entities), last);
        for (seen, mut state) in states {
            assert_eq!(take(&mut state, other.since(seen).await.unwrap()), revision, "since {seen}");
            assert_eq!(state, last, "since {seen}");
        }
        if store.name() == "postgres" {
            let expected = [end(9), put(2, "d"), end(1)];
            let missed = other.since(Revision::new(1, 3)).await.unwrap();
            assert!(matches!(missed, Missed::Changes { changes, .. } if changes == expected));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_leave_no_gap_and_miss_nothing() {
    const WRITERS: u128 = 6;
    const WRITES: u128 = 5;
    each(async |open| {
        let writers = (0..WRITERS).map(|writer| {
            let store = open();
            tokio::spawn(async move {
                let (mut seen, mut state, mut mine) = (Revision::default(), Standing::new(), Vec::new());
                for write in 0..WRITES {
                    let mut transaction = store.begin(seen).await.unwrap();
                    seen = take(&mut state, transaction.missed());
                    // Everybody adds one to the same entity, from what the transaction says it is.
                    let count = state
                        .get(&Uuid::from_u128(0))
                        .map_or(0, |entity| entity.doc()["host"].as_str().unwrap().parse().unwrap());
                    let changes = vec![put(0, &format!("{}", count + 1)), put(1 + writer * 100 + write, "x")];
                    let next = transaction.commit(changes.clone()).await.unwrap();
                    assert_eq!(next, seen.next());
                    seen = take(&mut state, Missed::Changes { changes, revision: next });
                    mine.push(next.number);
                }
                mine
            })
        });
        let mut numbers = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            numbers.extend(writer.await.unwrap());
        }
        numbers.sort_unstable();
        let all = WRITERS * WRITES;
        assert_eq!(numbers, (1..=u64::try_from(all).unwrap()).collect::<Vec<_>>());
        let contents = standing(open().load().await.unwrap().entities);
        assert_eq!(contents[&Uuid::from_u128(0)], service(0, &all.to_string()));
        assert_eq!(contents.len(), usize::try_from(all).unwrap() + 1);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_transaction_never_was() {
    each(async |open| {
        let (store, other) = (open(), open());
        let first = commit(&store, Revision::new(1, 0), vec![put(1, "a")]).await;
        drop(store.begin(first).await.unwrap());
        drop(other.begin(first).await.unwrap().commit(vec![put(1, "never polled")]));
        assert_eq!(no_changes(other.since(first).await.unwrap()), first);
        assert_eq!(commit(&other, first, vec![put(1, "b")]).await, first.next());
        assert_eq!(commit(&store, first, vec![put(1, "c")]).await, first.next().next());
    })
    .await;
}

#[tokio::test]
async fn a_reader_from_the_future_takes_everything() {
    each(async |open| {
        let store = open();
        let first = commit(&store, Revision::new(1, 0), vec![put(1, "a")]).await;
        for seen in [Revision::new(1, 40), Revision::new(7, 0)] {
            let Missed::Everything(contents) = store.since(seen).await.unwrap() else { panic!("{seen}") };
            assert_eq!((contents.revision.number, contents.entities), (first.number, vec![service(1, "a")]));
        }
        let mut transaction = store.begin(Revision::new(99, 0)).await.unwrap();
        assert!(matches!(transaction.missed(), Missed::Everything(_)));
    })
    .await;
}

#[tokio::test]
async fn what_the_log_forgot_is_everything() {
    let database = Server::shared().create_database();
    let store = postgres_in(&database);
    for number in 0..3 {
        commit(&store, Revision::new(1, number), vec![put(1, "a"), put(2, "a")]).await;
    }
    database.sql("DELETE FROM changes WHERE ordinal <= 3");
    assert!(matches!(store.since(Revision::new(1, 1)).await.unwrap(), Missed::Everything(_)));
    assert!(
        matches!(store.since(Revision::new(1, 2)).await.unwrap(), Missed::Changes { changes, .. } if changes.len() == 2)
    );
}

#[tokio::test]
async fn the_embedded_file_outlives_its_process_and_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path());
    let revision = commit(&store, Revision::new(1, 0), vec![put(1, "a")]).await;
    let second = Embedded::open(directory.path(), "here").err();
    assert!(matches!(&second, Some(StoreError::Unavailable(why)) if why.contains("in use")), "{second:?}");
    drop(store);
    let contents = embedded(directory.path()).load().await.unwrap();
    assert_eq!((contents.revision, contents.entities), (revision, vec![service(1, "a")]));
}

#[tokio::test]
async fn a_declarative_set_is_replaced_whole_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let open = |entities| {
        let (store, problems) = Declarative::open(directory.path(), entities);
        assert_eq!(problems, [""; 0]);
        Ledger::new(Arc::new(store), Contents::default())
    };
    let ledger = open(None);
    assert!(!ledger.catch_up().await.unwrap());
    let revision = ledger.replace_all(vec![service(1, "a"), service(2, "a")]).await.unwrap();
    assert_eq!(ledger.entities(), (vec![service(1, "a"), service(2, "a")], revision));
    let refused = ledger.write(0, |_| Ok(())).await.err();
    assert!(matches!(refused, Some(WriteError::Store(StoreError::ReadOnly))));
    assert!(matches!(ledger.store().begin(revision).await.err(), Some(StoreError::ReadOnly)));

    let again = open(None);
    assert!(again.catch_up().await.unwrap() && !again.catch_up().await.unwrap());
    assert_eq!(again.entities().0.len(), 2);
    let same = open(Some(vec![service(1, "a"), service(2, "a")])).store().load().await.unwrap();
    assert_eq!(same.revision, revision);
    let other = open(Some(vec![service(3, "a")])).store().load().await.unwrap();
    assert_eq!((other.revision, other.entities.len()), (revision.next(), 1));
}

#[tokio::test]
async fn ledgers_replace_everything_in_writable_stores_too() {
    each(async |open| {
        let (ledger, other) = (Ledger::new(open(), Contents::default()), Ledger::new(open(), Contents::default()));
        ledger.replace_all(vec![service(1, "a"), service(2, "a")]).await.unwrap();
        let revision = other.replace_all(vec![service(2, "b"), service(3, "a")]).await.unwrap();
        let mut announced = ledger.revisions();
        assert!(ledger.catch_up().await.unwrap());
        assert_eq!(*announced.borrow_and_update(), revision);
        assert_eq!(ledger.entities(), (vec![service(2, "b"), service(3, "a")], revision));
        assert_eq!(ledger.entities(), other.entities());
        // Nothing to change, nothing committed.
        assert_eq!(other.replace_all(vec![service(3, "a"), service(2, "b")]).await.unwrap(), revision);
    })
    .await;
}

/// What `POST` does.
fn insert(draft: &mut Draft<'_>, kind: Kind, body: Value) -> Result<Uuid, Rejection> {
    let Value::Object(body) = body else { panic!("{body}") };
    let checked = prepare(kind, body, Intent::Insert, draft, &Plugins::default(), 0)?;
    draft.insert(checked).map(|entity| entity.id())
}

async fn post(ledger: &Ledger, kind: Kind, body: Value) -> Result<Uuid, WriteError> {
    ledger.write(0, |draft| insert(draft, kind, body)).await.map(|(id, _)| id)
}

async fn delete(ledger: &Ledger, kind: Kind, id: Uuid) -> Result<bool, WriteError> {
    ledger.write(0, |draft| draft.delete(kind, id)).await.map(|(deleted, _)| deleted)
}

fn rejection<T>(result: Result<T, WriteError>) -> Rejection {
    match result {
        Err(WriteError::Rejected(rejection)) => rejection,
        Err(WriteError::Store(error)) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn rules_hold_between_nodes_that_know_nothing_of_each_other_yet() {
    each(async |open| {
        let (here, there) = (Ledger::new(open(), Contents::default()), Ledger::new(open(), Contents::default()));
        let service = post(&here, Kind::SERVICES, json!({"name": "s", "host": "h"})).await.unwrap();
        let taken = rejection(post(&there, Kind::SERVICES, json!({"name": "s", "host": "h"})).await);
        assert!(matches!(taken, Rejection::UniqueTaken { .. }), "{taken:?}");
        let route = json!({"name": "r", "hosts": ["a.test"], "service": {"name": "s"}});
        let route = post(&there, Kind::ROUTES, route).await.unwrap();
        let kept = rejection(delete(&here, Kind::SERVICES, service).await);
        assert_eq!(kept, Rejection::StillReferenced { kind: Kind::SERVICES, by: Kind::ROUTES });
        assert!(delete(&here, Kind::ROUTES, route).await.unwrap());
        assert!(delete(&there, Kind::SERVICES, service).await.unwrap());

        // Longer than an index takes.
        let long = "u".repeat(9_000);
        let consumer = post(&here, Kind::CONSUMERS, json!({"username": long})).await.unwrap();
        assert!(matches!(
            rejection(post(&there, Kind::CONSUMERS, json!({"username": long})).await),
            Rejection::UniqueTaken { .. }
        ));
        let key = json!({"key": "k", "consumer": {"id": consumer}});
        post(&there, Kind::KEYAUTH_CREDENTIALS, key).await.unwrap();
        // As every store hands it back: member for member, in the order of the declaration.
        assert_eq!(standing(open().load().await.unwrap().entities), standing(there.entities().0));
        assert!(delete(&here, Kind::CONSUMERS, consumer).await.unwrap());
        assert!(there.catch_up().await.unwrap());
        assert_eq!((there.entities().0.len(), here.entities().0.len()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn keys_and_references_edited_by_hand_hold_from_the_next_write_on() {
    let database = Server::shared().create_database();
    let ledger = Ledger::new(postgres_in(&database), Contents::default());
    let bob = post(&ledger, Kind::CONSUMERS, json!({"username": "bob"})).await.unwrap();
    let key = json!({"key": "k", "consumer": {"id": bob}});
    post(&ledger, Kind::KEYAUTH_CREDENTIALS, key).await.unwrap();
    let keys = || database.sql("SELECT string_agg(key, ' ' ORDER BY key) FROM entity_keys");
    let references = || database.sql("SELECT string_agg(field || ' ' || on_delete, ', ') FROM entity_refs");
    assert_eq!((keys(), references()), ("key=k username=bob".into(), "consumer cascade".into()));

    database.sql("UPDATE entities SET doc = doc || '{\"username\": \"eve\"}' WHERE kind = 'consumers'");
    // A second eve: the first keeps the key.
    database.sql(
        "INSERT INTO entities (kind, id, doc) SELECT 'consumers', id, jsonb_build_object('id', id, 'username', 'eve')
         FROM (SELECT gen_random_uuid() AS id) AS new",
    );
    database.sql("INSERT INTO entities (kind, id, doc) SELECT 'things', id, jsonb_build_object('id', id) FROM (SELECT gen_random_uuid() AS id) AS new");
    let taken = rejection(post(&ledger, Kind::CONSUMERS, json!({"username": "eve"})).await);
    assert!(matches!(taken, Rejection::UniqueTaken { .. }));
    post(&ledger, Kind::CONSUMERS, json!({"username": "bob"})).await.unwrap();
    assert_eq!((keys(), references()), ("key=k username=bob username=eve".into(), "consumer cascade".into()));
    assert_eq!(database.sql("SELECT count(*) FROM entities WHERE by_hand"), "0");

    database.sql(&format!("DELETE FROM entities WHERE id = '{bob}'"));
    assert!(ledger.catch_up().await.unwrap());
    assert_eq!(ledger.read(|catalog| catalog.count(Kind::KEYAUTH_CREDENTIALS)), 0, "went along");
    assert_eq!(ledger.read(|catalog| catalog.count(Kind::CONSUMERS)), 2);

    let service = post(&ledger, Kind::SERVICES, json!({"host": "h"})).await.unwrap();
    post(&ledger, Kind::ROUTES, json!({"hosts": ["a"], "service": {"id": service}})).await.unwrap();
    let refused = database.try_sql(&format!("DELETE FROM entities WHERE id = '{service}'")).unwrap_err();
    assert!(refused.contains("still referenced"), "{refused}");
}

#[tokio::test]
async fn edits_by_hand_have_revisions_and_a_place_in_the_log() {
    let database = Server::shared().create_database();
    let store = postgres_in(&database);
    let first = commit(&store, Revision::new(1, 0), vec![put(1, "a"), put(2, "a"), put(3, "a")]).await;
    database.sql(
        "BEGIN;
         UPDATE entities SET doc = doc || '{\"host\": \"by hand\"}' WHERE doc ->> 'host' = 'a' AND id <> '00000000-0000-0000-0000-000000000003';
         DELETE FROM entities WHERE id = '00000000-0000-0000-0000-000000000003';
         INSERT INTO entities (kind, id, doc) SELECT kind, id, jsonb_build_object('id', id)
         FROM (VALUES ('things', gen_random_uuid()), ('consumers', gen_random_uuid())) AS new (kind, id);
         COMMIT;",
    );
    let Missed::Changes { changes, revision } = store.since(first).await.unwrap() else { panic!("everything") };
    let expected = [put(1, "by hand"), put(2, "by hand"), end(3)];
    assert_eq!((&changes[..3], changes.len(), revision), (&expected[..], 5, first.next()));
    // The thing is of a kind that nobody here knows, and is kept for those who do.
    assert!(changes[3].kind.is_stranger() && changes[4].kind == Kind::CONSUMERS);
    assert_eq!(store.load().await.unwrap().entities.len(), 4);
    database.sql("UPDATE entities SET doc = doc WHERE kind = 'nothing'");
    assert_eq!(no_changes(store.since(revision).await.unwrap()), revision);

    let next = commit(&store, revision, vec![put(4, "a")]).await;
    assert_eq!(next, revision.next());
    assert_eq!(database.sql("SELECT count(*) FROM entities WHERE by_hand"), "0");
    for refused in [
        "TRUNCATE entities CASCADE",
        "INSERT INTO entities (kind, id, doc) VALUES ('services', gen_random_uuid(), '{}')",
        "UPDATE entities SET doc = '[]'",
    ] {
        database.try_sql(refused).unwrap_err();
    }
    assert_eq!(no_changes(store.since(next).await.unwrap()), next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_by_hand_and_writers_do_not_deadlock() {
    let database = Server::shared().create_database();
    let store = postgres_in(&database);
    commit(&store, Revision::new(1, 0), (0..20).map(|number| put(number, "a")).collect()).await;
    let hand = database.clone();
    let by_hand = std::thread::spawn(move || {
        for _ in 0..10 {
            hand.sql("UPDATE entities SET doc = doc || '{\"path\": \"/\"}'");
        }
    });
    let mut seen = Revision::new(1, 1);
    while !by_hand.is_finished() {
        let mut transaction = store.begin(seen).await.unwrap();
        drop(transaction.missed());
        seen = transaction.commit((0..20).rev().map(|number| put(number, "b")).collect()).await.unwrap();
    }
    by_hand.join().unwrap();
}

#[tokio::test]
async fn views_show_entities_to_people() {
    let database = Server::shared().create_empty_database();
    database.sql("CREATE TABLE services (id uuid)");
    postgres::bootstrap(database.options()).await.unwrap();
    commit(&postgres_in(&database), Revision::new(1, 0), vec![put(1, "example.test")]).await;
    assert_eq!(database.sql("SELECT host FROM tidegate_services"), "example.test");
    assert_eq!(database.sql("SELECT count(*) FROM routes, consumers, plugins, keyauth_credentials"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_migrators_at_once_migrate_once() {
    let database = Server::shared().create_empty_database();
    let migrators: Vec<_> = (0..6).map(|_| tokio::spawn(postgres::bootstrap(database.options()))).collect();
    let mut applied = Vec::new();
    for migrator in migrators {
        applied.extend(migrator.await.unwrap().unwrap());
    }
    let status = postgres::status(database.options()).await.unwrap();
    assert_eq!(applied, ["0001_entities", "0002_edits_by_hand", "0003_views", "0004_marks"]);
    assert_eq!(status, Status { applied, ..Status::default() });
    assert_eq!(postgres::up(database.options()).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn an_unfit_schema_says_which_command_to_run() {
    let database = Server::shared().create_empty_database();
    let store = || postgres_in(&database);
    let every_call = async |command: &str| {
        let seen = Revision::new(1, 0);
        for problem in [
            schema_problem(store().load().await),
            schema_problem(store().since(seen).await),
            schema_problem(store().begin(seen).await),
        ] {
            assert!(problem.contains(command), "{problem}");
        }
    };
    every_call("`tidegate migrations bootstrap`").await;
    assert!(schema_problem(postgres::up(database.options()).await).contains("`tidegate migrations bootstrap`"));
    postgres::bootstrap(database.options()).await.unwrap();

    // As a program with one more migration finds it.
    database.sql("DELETE FROM tidegate_migrations WHERE number = 3; DROP VIEW services, routes, consumers, plugins, keyauth_credentials");
    every_call("`tidegate migrations up`").await;
    assert_eq!(postgres::up(database.options()).await.unwrap(), ["0003_views"]);
    let running = store();
    running.load().await.unwrap();

    database.sql("INSERT INTO tidegate_migrations VALUES (9999, 'later', 'x')");
    every_call("upgrade tidegate").await;
    assert!(schema_problem(postgres::bootstrap(database.options()).await).contains("upgrade tidegate"));
    // During a deploy the nodes of this version go on, also over new connections.
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    running.load().await.unwrap();

    database.sql("DELETE FROM tidegate_migrations WHERE number = 9999; UPDATE tidegate_migrations SET checksum = 'x' WHERE number = 2");
    every_call("0002_edits_by_hand").await;
    database.sql("DROP TABLE tidegate_migrations, revision");
    assert!(schema_problem(running.load().await).contains("tidegate migrations"));
    assert!(schema_problem(running.load().await).contains("`tidegate migrations bootstrap`"));
}

#[tokio::test]
async fn another_schema_is_made_and_used() {
    let database = Server::shared().create_empty_database();
    let options = Options { schema: Some("Kong's \"own\"".into()), ..database.options() };
    postgres::bootstrap(options.clone()).await.unwrap();
    let store: Shared = Arc::new(Postgres::new(options).unwrap());
    let revision = commit(&store, Revision::new(1, 0), vec![put(1, "a")]).await;
    // By hand, from a session whose search path is elsewhere.
    database.sql(r#"DELETE FROM "Kong's ""own""".entities"#);
    assert!(matches!(store.since(revision).await.unwrap(), Missed::Changes { changes, .. } if changes == [end(1)]));
    assert_eq!(database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[tokio::test]
async fn tls_is_used_and_verified_as_asked() {
    let server = Server::shared();
    let database = server.create_database();
    let load = async |options: Options| Postgres::new(options).unwrap().load().await.map(|contents| contents.revision);
    let any = Options { ssl: true, ..database.options() };
    assert_eq!(load(any.clone()).await.unwrap(), Revision::new(1, 0));
    let verified = Options { ssl_verify: true, ..any };
    let refused = load(verified.clone()).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("certificate")), "{refused:?}");
    let trusted = Options { roots: vec![server.certificate.clone().into_bytes()], ..verified.clone() };
    assert_eq!(load(trusted.clone()).await.unwrap(), Revision::new(1, 0));
    let elsewhere = Options { host: "localhost".into(), ..trusted };
    assert!(matches!(load(elsewhere).await, Err(StoreError::Unavailable(_))));
    assert!(Postgres::new(Options { roots: vec![b"-----BEGIN CERTIFICATE-----\n!".to_vec()], ..verified }).is_err());
}

#[tokio::test]
async fn a_connection_cut_while_idle_is_replaced_unnoticed() {
    let database = Server::shared().create_database();
    let store = postgres_in(&database);
    let mut revision = Revision::new(1, 0);
    for _ in 0..3 {
        revision = commit(&store, revision, vec![put(1, "a")]).await;
        assert_eq!(no_changes(store.since(revision).await.unwrap()), revision);
        database.sql("SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    }
    assert_eq!(commit(&store, revision, vec![put(1, "b")]).await, Revision::new(1, 4));
}

#[tokio::test]
async fn a_standby_counts_as_an_outage() {
    let database = Server::shared().create_database();
    database.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name));
    let store = postgres_in(&database);
    store.load().await.unwrap();
    let refused = store.begin(Revision::new(1, 0)).await.err();
    assert!(matches!(&refused, Some(StoreError::Unavailable(why)) if why.contains("25006")), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let options = Options { password: Some("wrong".into()), ..Server::shared().create_database().options() };
    let refused = Postgres::new(options).unwrap().load().await.err();
    assert!(matches!(&refused, Some(StoreError::Unavailable(why)) if why.contains("password")), "{refused:?}");
}

#[tokio::test]
async fn a_restored_backup_is_a_new_epoch() {
    let database = Server::shared().create_database();
    let (ledger, other) = (
        Ledger::new(postgres_in(&database), Contents::default()),
        Ledger::new(postgres_in(&database), Contents::default()),
    );
    for host in ["a", "b", "c"] {
        ledger.replace_all(vec![service(1, host)]).await.unwrap();
    }
    other.catch_up().await.unwrap();
    database.sql("SET tidegate.writer = 'on'; UPDATE entities SET doc = doc || '{\"host\": \"a\"}'; DELETE FROM changes WHERE number > 1; UPDATE revision SET number = 1");
    assert!(ledger.catch_up().await.unwrap());
    assert_eq!(ledger.entities(), (vec![service(1, "a")], Revision::new(2, 1)));
    // A writer that saw the lost future adopts the new past before it decides.
    let revision = other.replace_all(vec![service(1, "a"), service(2, "d")]).await.unwrap();
    assert_eq!(revision, Revision::new(2, 2));
    assert!(ledger.catch_up().await.unwrap());
    assert_eq!(ledger.entities(), other.entities());
}

#[tokio::test]
async fn an_outage_is_told_fast_and_ends_by_itself() {
    let server = Server::start();
    let database = server.create_database();
    let ledger = Ledger::new(postgres_in(&database), Contents::default());
    ledger.replace_all(vec![service(1, "a")]).await.unwrap();
    server.stop();
    for _ in 0..3 {
        let asked = Instant::now();
        let refused = ledger.write(0, |draft| draft.delete(Kind::SERVICES, Uuid::from_u128(1))).await.err();
        assert!(matches!(&refused, Some(WriteError::Store(StoreError::Unavailable(_)))), "{refused:?}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert!(!ledger.reachable());
        assert!(ledger.catch_up().await.is_err());
    }
    assert_eq!(ledger.entities().0.len(), 1);
    server.start_again();
    let (deleted, revision) = ledger.write(0, |draft| draft.delete(Kind::SERVICES, Uuid::from_u128(1))).await.unwrap();
    assert!(deleted && ledger.reachable());
    assert_eq!((revision, ledger.entities().0.len()), (Revision::new(1, 2), 0));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options =
        Options { port: silent.local_addr().unwrap().port(), ..Database { port: 0, name: "any".into() }.options() };
    let ledger = Ledger::new(Arc::new(Postgres::new(options).unwrap()), Contents::default());
    let asked = Instant::now();
    let refused = ledger.write(0, |_| Ok(())).await.err();
    assert!(matches!(refused, Some(WriteError::Store(StoreError::Unavailable(_)))));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_write_waits_for_a_lock_no_longer_than_promised() {
    let database = Server::shared().create_database();
    let (ledger, other) = (Ledger::new(postgres_in(&database), Contents::default()), postgres_in(&database));
    ledger.replace_all(vec![service(1, "a")]).await.unwrap();
    let holding = other.begin(Revision::new(1, 1)).await.unwrap();
    let asked = Instant::now();
    let refused = ledger.write(0, |draft| draft.delete(Kind::SERVICES, Uuid::from_u128(1))).await.err();
    assert!(matches!(refused, Some(WriteError::Store(StoreError::Unavailable(_)))));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    holding.commit(vec![put(2, "b")]).await.unwrap();
    let (_, revision) = ledger.write(0, |draft| draft.delete(Kind::SERVICES, Uuid::from_u128(1))).await.unwrap();
    assert_eq!((revision, ledger.entities().0), (Revision::new(1, 3), vec![service(2, "b")]));
}

#[tokio::test]
async fn thousands_of_changes_are_one_transaction() {
    each(async |open| {
        let ledger = Ledger::new(open(), Contents::default());
        let entities: Vec<_> = (0..1_500).map(|number| service(number, "a")).collect();
        assert_eq!(ledger.replace_all(entities.clone()).await.unwrap(), Revision::new(1, 1));
        assert_eq!(ledger.entities().0, entities);
        assert_eq!(standing(open().load().await.unwrap().entities), standing(entities));
    })
    .await;
}
