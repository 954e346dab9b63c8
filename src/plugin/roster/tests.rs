//! Precedence and order, tried by instances that write down when they ran.

use std::sync::Mutex;

use http::StatusCode;

use super::*;
use crate::http1::response::ResponseHead;
use crate::plugin::chain::Run;
use crate::plugin::directory::{Directory, Principal};
use crate::plugin::testing::{Stage, directory, instance, principal, told};
use crate::plugin::{Answer, Exchange, Plugin, Step, Wants};

/// What ran, in order: `LABEL` for access, `LABEL~` for header_filter.
type Log = Arc<Mutex<Vec<String>>>;

/// Writes down that it ran.
struct Probe {
    label: String,
    log: Log,
    access: fn(&mut Exchange<'_>) -> Step,
}

impl Plugin for Probe {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        self.log.lock().unwrap().push(self.label.clone());
        (self.access)(exchange)
    }

    fn header_filter(&self, _: &mut Exchange<'_>, _: &mut ResponseHead) {
        self.log.lock().unwrap().push(format!("{}~", self.label));
    }

    fn wants(&self) -> Wants {
        Wants { header_filter: true, request_body: self.label.len(), ..Wants::default() }
    }
}

fn probe(log: &Log, name: &str, priority: i32, label: &str, access: fn(&mut Exchange<'_>) -> Step) -> Arc<Instance> {
    instance(name, priority, Probe { label: label.to_owned(), log: Arc::clone(log), access })
}

fn quiet(_: &mut Exchange<'_>) -> Step {
    Step::Continue
}

fn refuse(_: &mut Exchange<'_>) -> Step {
    Step::Respond(Answer::Error { status: StatusCode::FORBIDDEN, message: "no".into(), headers: Vec::new() })
}

const ROUTE: Uuid = Uuid::from_u128(1);
const SERVICE: Uuid = Uuid::from_u128(2);
const OTHER: Uuid = Uuid::from_u128(3);
const ANN: Uuid = Uuid::from_u128(10);
const BOB: Uuid = Uuid::from_u128(11);

fn scope(route: Option<Uuid>, service: Option<Uuid>, consumer: Option<Uuid>) -> Scope {
    Scope { route, service, consumer }
}

/// One world to run chains in: Ann and Bob, and a request.
fn ann_and_bob() -> Arc<Directory> {
    let (ann, bob): (Arc<Principal>, Arc<Principal>) =
        (principal(10, Some("ann"), None), principal(11, Some("bob"), None));
    directory(&[(&ann, "ann-key", None), (&bob, "bob-key", None)])
}

/// Runs access and header_filter of `chain` for `consumer`; what ran, and how access ended.
fn run(chain: &Chain, log: &Log, consumer: Option<&str>) -> (Vec<String>, String) {
    let people = ann_and_bob();
    let mut stage = Stage::get("/").with_directory(&people);
    let mut exchange = stage.exchange();
    exchange.consumer = consumer.and_then(|name| people.consumer(name));
    let mut run = Run::default();
    let step = chain.access(&mut exchange, &mut run);
    chain.header_filter(&run, &mut exchange, &mut ResponseHead::default());
    (std::mem::take(&mut *log.lock().unwrap()), told(&step))
}

/// The eight levels, nearest first. Each is tried with all farther ones present.
#[test]
fn the_nearest_scope_runs() {
    let levels = [
        ("route service consumer", scope(Some(ROUTE), Some(SERVICE), Some(ANN))),
        ("route consumer", scope(Some(ROUTE), None, Some(ANN))),
        ("service consumer", scope(None, Some(SERVICE), Some(ANN))),
        ("route service", scope(Some(ROUTE), Some(SERVICE), None)),
        ("consumer", scope(None, None, Some(ANN))),
        ("route", scope(Some(ROUTE), None, None)),
        ("service", scope(None, Some(SERVICE), None)),
        ("global", scope(None, None, None)),
    ];
    // What each consumer gets when the levels from this one on are there.
    let expected = [
        ("route service consumer", "route service"),
        ("route consumer", "route service"),
        ("service consumer", "route service"),
        ("route service", "route service"),
        ("consumer", "route"),
        ("route", "route"),
        ("service", "service"),
        ("global", "global"),
    ];
    for (from, (ann, others)) in expected.into_iter().enumerate() {
        let log = Log::default();
        let mut present: Vec<_> =
            levels[from..].iter().map(|(label, scope)| (*scope, probe(&log, "p", 1, label, quiet))).collect();
        // Instances that apply elsewhere change nothing.
        for elsewhere in [scope(Some(OTHER), Some(SERVICE), None), scope(Some(ROUTE), Some(OTHER), Some(ANN))] {
            present.push((elsewhere, probe(&log, "p", 1, "elsewhere", quiet)));
        }
        for reversed in [false, true] {
            let mut present = present.clone();
            if reversed {
                present.reverse();
            }
            let roster = Roster::new(present);
            let chain = roster.chain(roster.place(Some(ROUTE), Some(SERVICE)));
            assert_eq!(run(&chain, &log, Some("ann")).0, [ann.to_owned(), format!("{ann}~")], "from {from}");
            assert_eq!(run(&chain, &log, Some("bob")).0, [others.to_owned(), format!("{others}~")], "from {from}");
            assert_eq!(run(&chain, &log, None).0, [others.to_owned(), format!("{others}~")], "from {from}");
        }
    }
}

#[test]
fn consumer_instances_alone_run_for_their_consumer_only() {
    let log = Log::default();
    let roster = Roster::new([
        (scope(None, None, Some(BOB)), probe(&log, "p", 1, "bob", quiet)),
        (scope(Some(ROUTE), None, Some(ANN)), probe(&log, "p", 1, "ann", quiet)),
    ]);
    let here = roster.chain(roster.place(Some(ROUTE), None));
    let there = roster.chain(roster.place(Some(OTHER), Some(SERVICE)));
    assert_eq!(run(&here, &log, Some("ann")).0, ["ann", "ann~"]);
    assert_eq!(run(&here, &log, Some("bob")).0, ["bob", "bob~"]);
    assert!(run(&here, &log, None).0.is_empty());
    assert!(run(&there, &log, Some("ann")).0.is_empty());
    assert_eq!(run(&there, &log, Some("bob")).0, ["bob", "bob~"]);
    assert!(run(&roster.unmatched(), &log, Some("bob")).0.is_empty());
}

#[test]
fn a_chain_filters_when_one_of_its_instances_does() {
    struct Silent;
    impl Plugin for Silent {}
    let silent = || (scope(None, None, None), instance("silent", 1, Silent));
    assert!(!Roster::new([silent()]).chain(Place::default()).wants().header_filter);
    let probed = (scope(None, None, Some(ANN)), probe(&Log::default(), "a", 5, "a", quiet));
    assert!(Roster::new([silent(), probed]).chain(Place::default()).wants().header_filter);
}

#[test]
fn names_run_once_by_priority_then_name_descending() {
    let log = Log::default();
    let roster = Roster::new([
        (scope(None, None, None), probe(&log, "a", 5, "a", quiet)),
        (scope(Some(ROUTE), None, None), probe(&log, "c", 5, "c", quiet)),
        (scope(None, None, None), probe(&log, "c", 5, "global c", quiet)),
        (scope(None, Some(SERVICE), None), probe(&log, "z", 1, "z", quiet)),
        (scope(None, None, None), probe(&log, "b", 1000, "b", quiet)),
    ]);
    let chain = roster.chain(roster.place(Some(ROUTE), Some(SERVICE)));
    assert_eq!(run(&chain, &log, None).0, ["b", "c", "a", "z", "b~", "c~", "a~", "z~"]);
    assert_eq!(chain.wants().request_body, 1);
}

#[test]
fn an_identified_consumer_decides_for_lower_priorities() {
    fn authenticate(exchange: &mut Exchange<'_>) -> Step {
        exchange.consumer = exchange.directory.consumer("ann");
        Step::Continue
    }
    let log = Log::default();
    let roster = Roster::new([
        (scope(None, None, None), probe(&log, "before", 9, "before", quiet)),
        (scope(None, None, Some(ANN)), probe(&log, "before", 9, "before ann", quiet)),
        (scope(None, None, None), probe(&log, "auth", 5, "auth", authenticate)),
        (scope(None, None, None), probe(&log, "after", 1, "after", quiet)),
        (scope(None, None, Some(ANN)), probe(&log, "after", 1, "after ann", quiet)),
    ]);
    let chain = roster.chain(Place::default());
    assert_eq!(run(&chain, &log, None).0, ["before", "auth", "after ann", "before~", "auth~", "after ann~"]);
}

#[test]
fn collection_goes_on_after_the_end_of_an_exchange() {
    for (last, told) in [(refuse as fn(&mut Exchange<'_>) -> Step, "403 no"), (|_| Step::Fail("why".into()), "fail")] {
        let log = Log::default();
        let roster = Roster::new([
            (scope(None, None, None), probe(&log, "a", 3, "a", quiet)),
            (scope(None, None, None), probe(&log, "b", 2, "b", last)),
            (scope(None, None, None), probe(&log, "c", 1, "c", refuse)),
        ]);
        let (ran, verdict) = run(&roster.chain(Place::default()), &log, None);
        assert_eq!(ran, ["a", "b", "a~", "b~", "c~"]);
        assert_eq!(verdict, told);
    }
}

#[test]
fn unmatched_requests_see_the_global_instances_on_their_way_out() {
    let log = Log::default();
    let roster = Roster::new([
        (scope(None, None, None), probe(&log, "a", 1, "a", refuse)),
        (scope(None, None, None), probe(&log, "b", 2, "b", refuse)),
        (scope(Some(ROUTE), None, None), probe(&log, "a", 1, "route", refuse)),
    ]);
    let chain = roster.unmatched();
    let mut stage = Stage::get("/");
    chain.header_filter(&chain.collect(), &mut stage.exchange(), &mut ResponseHead::default());
    assert_eq!(*log.lock().unwrap(), ["b~", "a~"]);
}

#[test]
fn routes_that_no_instance_names_share_a_place() {
    let log = Log::default();
    let roster = Roster::new([(scope(None, Some(SERVICE), None), probe(&log, "a", 1, "a", quiet))]);
    assert_eq!(roster.place(Some(ROUTE), Some(SERVICE)), roster.place(Some(OTHER), Some(SERVICE)));
    assert_eq!(roster.place(Some(ROUTE), Some(OTHER)), Place::default());
    assert!(roster.chain(Place::default()).is_empty());
}

#[test]
fn chains_are_the_same_while_their_instances_are() {
    let log = Log::default();
    let global = probe(&log, "a", 1, "a", quiet);
    let ann = probe(&log, "a", 1, "ann", quiet);
    let make = |instances: &[(Scope, &Arc<Instance>)]| {
        Roster::new(instances.iter().map(|(scope, instance)| (*scope, Arc::clone(instance)))).chain(Place::default())
    };
    let (everybody, for_ann, for_bob) =
        (scope(None, None, None), scope(None, None, Some(ANN)), scope(None, None, Some(BOB)));
    let both = make(&[(everybody, &global), (for_ann, &ann)]);
    assert!(both.same(&make(&[(for_ann, &ann), (everybody, &global)])));
    assert!(!both.same(&make(&[(everybody, &global)])));
    assert!(!both.same(&make(&[(everybody, &global), (for_bob, &ann)])));
    assert!(!both.same(&make(&[(everybody, &ann), (for_ann, &ann)])));
}
