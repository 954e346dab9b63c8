#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entity::declare::{Declaration, Field, OnDelete};
use crate::entity::problem::{Rejection, Violations};
use crate::entity::write::{Checked, expired};

static OWNERS: Kind = Kind(&Declaration {
    name: "a_owners",
    fields: &[Field::string("id"), Field::string("name").unique()],
    ..Declaration::EMPTY
});
static PETS: Kind = Kind(&Declaration {
    name: "b_pets",
    fields: &[
        Field::string("id"),
        Field::string("name"),
        Field::string("chip").unique(),
        Field::foreign("owner", "a_owners", OnDelete::Cascade),
    ],
    unique_together: &["name", "owner"],
    ttl: true,
    ..Declaration::EMPTY
});
static LEASES: Kind = Kind(&Declaration {
    name: "c_leases",
    fields: &[
        Field::string("id"),
        Field::foreign("pet", "b_pets", OnDelete::Restrict),
        Field::foreign("owner", "a_owners", OnDelete::Cascade),
        Field::foreign("place", "undeclared", OnDelete::Restrict),
    ],
    ..Declaration::EMPTY
});

const NOW_S: i64 = 1_000;

fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn reference(number: u8) -> Value {
    json!({"id": id(number)})
}

fn checked(kind: Kind, number: u8, members: Value) -> Checked {
    let mut doc = Doc::from_iter([("id".to_owned(), json!(id(number)))]);
    doc.extend(members.as_object().unwrap().clone());
    Checked::trusted(Entity::from_doc(kind, &doc).unwrap())
}

/// A catalog after inserting all of these.
fn catalog(entities: impl IntoIterator<Item = Checked>) -> Catalog {
    let mut catalog = Catalog::default();
    let mut draft = Draft::new(&catalog, NOW_S);
    for entity in entities {
        draft.insert(entity).unwrap();
    }
    let changes = draft.into_changes();
    catalog.apply(&changes, Revision::new(1, 1));
    catalog
}

fn household() -> Catalog {
    catalog([
        checked(OWNERS, 1, json!({"name": "ada", "tags": ["x", "y"]})),
        checked(OWNERS, 2, json!({"name": "bob", "tags": ["y"]})),
        checked(PETS, 3, json!({"name": "rex", "chip": "c3", "owner": reference(1), "tags": ["y"]})),
        checked(PETS, 4, json!({"name": "rex", "chip": null, "owner": reference(2)})),
        checked(PETS, 5, json!({"name": "tom", "owner": null})),
        checked(LEASES, 6, json!({"pet": reference(3), "owner": reference(1)})),
    ])
}

fn ids(entities: &[Arc<Entity>]) -> Vec<Uuid> {
    entities.iter().map(|entity| entity.id()).collect()
}

#[test]
fn writes_are_refused_by_rule() {
    let base = household();
    let check = |entity: Checked, inserted: Option<Rejection>, put: Option<Rejection>| {
        assert_eq!(Draft::new(&base, NOW_S).insert(entity.clone()).err(), inserted, "insert {entity:?}");
        assert_eq!(Draft::new(&base, NOW_S).put(entity.clone()).err(), put, "put {entity:?}");
    };
    let taken = |members: Value| Some(Rejection::UniqueTaken { key: members.as_object().unwrap().clone() });
    let dangling = |field, kind, number| Some(Rejection::DanglingReference { field, kind, id: id(number) });

    check(checked(OWNERS, 9, json!({"name": "ada"})), taken(json!({"name": "ada"})), taken(json!({"name": "ada"})));
    check(checked(OWNERS, 9, json!({"name": null})), None, None);
    check(checked(OWNERS, 1, json!({"name": "eve"})), Some(Rejection::PrimaryKeyTaken { id: id(1) }), None);
    check(checked(OWNERS, 1, json!({"name": "ada"})), taken(json!({"name": "ada"})), None);

    let together = json!({"name": "rex", "owner": reference(1)});
    check(checked(PETS, 9, together.clone()), taken(together.clone()), taken(together.clone()));
    let both = json!({"name": "rex", "owner": reference(1), "chip": "c3"});
    check(checked(PETS, 9, both.clone()), taken(together.clone()), taken(together));
    let unowned = json!({"name": "tom", "owner": null});
    check(checked(PETS, 9, json!({"name": "tom"})), taken(unowned.clone()), taken(unowned));
    check(checked(PETS, 9, json!({"name": "tom", "owner": reference(1)})), None, None);

    let nobody = json!({"name": "tom", "owner": reference(7)});
    check(checked(PETS, 9, nobody.clone()), dangling("owner", "a_owners", 7), dangling("owner", "a_owners", 7));
    check(checked(PETS, 3, nobody), Some(Rejection::PrimaryKeyTaken { id: id(3) }), dangling("owner", "a_owners", 7));
    let nowhere = checked(LEASES, 9, json!({"place": reference(1)}));
    check(nowhere, dangling("place", "undeclared", 1), dangling("place", "undeclared", 1));

    let nul = Some(Rejection::Schema(Violations::field("name", "must not contain a null character")));
    check(checked(OWNERS, 9, json!({"name": "a\0b"})), nul.clone(), nul);
    check(checked(OWNERS, 9, json!({"name": "a\\u0000b"})), None, None);
}

#[test]
fn a_delete_cascades_and_stops_at_a_restricting_reference() {
    let base = household();
    let mut draft = Draft::new(&base, NOW_S);
    assert_eq!(draft.delete(PETS, id(3)), Err(Rejection::StillReferenced { kind: PETS, by: LEASES }));
    assert!(draft.get(PETS, id(3)).is_some());
    // The lease restricts the end of the pet, but goes with the owner too.
    assert_eq!(draft.delete(OWNERS, id(1)), Ok(true));
    assert_eq!(draft.delete(OWNERS, id(1)), Ok(false));
    let ends: Vec<_> = draft.into_changes().into_iter().map(|change| (change.kind, change.id, change.entity)).collect();
    assert_eq!(ends, [(LEASES, id(6), None), (PETS, id(3), None), (OWNERS, id(1), None)]);
}

#[test]
fn a_refused_cascade_changes_nothing() {
    let base = catalog([
        checked(OWNERS, 1, json!({})),
        checked(PETS, 2, json!({"owner": reference(1)})),
        checked(LEASES, 3, json!({"pet": reference(2)})),
    ]);
    let mut draft = Draft::new(&base, NOW_S);
    assert_eq!(draft.delete(OWNERS, id(1)), Err(Rejection::StillReferenced { kind: PETS, by: LEASES }));
    assert_eq!(draft.into_changes(), []);
}

#[test]
fn a_draft_sees_its_own_writes() {
    let base = household();
    let mut draft = Draft::new(&base, NOW_S);
    draft.put(checked(OWNERS, 1, json!({"name": "eve"}))).unwrap();
    draft.insert(checked(OWNERS, 9, json!({"name": "ada"}))).unwrap();
    assert_eq!(draft.by_key(OWNERS, "name", "ada").unwrap().id(), id(9));
    assert_eq!(draft.by_key(OWNERS, "name", "eve").unwrap().id(), id(1));
    draft.put(checked(PETS, 4, json!({"name": "moved", "owner": reference(1)}))).unwrap();
    assert_eq!(ids(&draft.children(PETS, "owner", id(1))), [id(3), id(4)]);
    assert!(draft.children(PETS, "owner", id(2)).is_empty());
    assert!(draft.children(PETS, "colour", id(2)).is_empty());
    draft.insert(checked(PETS, 10, json!({"name": "brief"}))).unwrap();
    assert_eq!(draft.delete(PETS, id(10)), Ok(true));
    assert!(draft.into_changes().iter().all(|change| change.id != id(10)), "never was");
}

#[test]
fn a_key_moves_between_entities_within_one_change_set() {
    let mut base = household();
    let mut draft = Draft::new(&base, NOW_S);
    draft.put(checked(OWNERS, 2, json!({"name": "eve"}))).unwrap();
    draft.put(checked(OWNERS, 1, json!({"name": "bob"}))).unwrap();
    let changes = draft.into_changes();
    base.apply(&changes, Revision::new(1, 2));
    assert_eq!(base.by_key(OWNERS, "name", "bob").unwrap().id(), id(1));
    assert_eq!(base.by_key(OWNERS, "name", "eve").unwrap().id(), id(2));
    assert!(base.by_key(OWNERS, "name", "ada").is_none());
}

#[test]
fn pages_follow_each_other() {
    let base = household();
    let check = |filter: Filter, after: Option<u8>, size: usize, expected: &[u8], next: Option<u8>| {
        let page = base.page(PETS, &filter, after.map(id), size);
        assert_eq!(ids(&page.entities), expected.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{filter:?} {after:?}");
        assert_eq!(page.next, next.map(id), "{filter:?} {after:?}");
    };
    let parent = |number| Filter { parent: Some(("owner", id(number))), tags: None };
    check(Filter::default(), None, 2, &[3, 4], Some(4));
    check(Filter::default(), Some(4), 2, &[5], None);
    check(Filter::default(), None, 3, &[3, 4, 5], None);
    check(parent(1), None, 1, &[3], None);
    check(parent(1), Some(3), 1, &[], None);
    check(parent(7), None, 1, &[], None);
    assert!(base.page(Kind::ROUTES, &Filter::default(), None, 5).entities.is_empty());
}

#[test]
fn tags_filter_and_list() {
    let base = household();
    let check = |tags: Tags, after: Option<u8>, expected: &[u8]| {
        let filter = Filter { parent: None, tags: Some(tags) };
        let expected: Vec<_> = expected.iter().map(|n| id(*n)).collect();
        assert_eq!(ids(&base.page(OWNERS, &filter, after.map(id), 9).entities), expected, "{filter:?}");
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    check(Tags::All(names(&["x", "y"])), None, &[1]);
    check(Tags::All(names(&["y"])), None, &[1, 2]);
    check(Tags::All(names(&["y"])), Some(1), &[2]);
    check(Tags::All(names(&["y", "z"])), None, &[]);
    check(Tags::Any(names(&["x", "y", "z"])), None, &[1, 2]);
    check(Tags::Any(names(&["x", "y"])), Some(2), &[]);

    let all = [("x", OWNERS, 1), ("y", OWNERS, 1), ("y", OWNERS, 2), ("y", PETS, 3)];
    let all = all.map(|(tag, kind, number)| (tag.to_owned(), kind, id(number)));
    assert_eq!(base.tagged(None, None, 9), all);
    assert_eq!(base.tagged(None, None, 2), all[..2]);
    assert_eq!(base.tagged(None, Some(("y", OWNERS, id(1))), 9), all[2..]);
    assert_eq!(base.tagged(None, Some(("xx", OWNERS, id(1))), 9), all[1..]);
    assert_eq!(base.tagged(Some("x"), None, 9), all[..1]);
    assert_eq!(base.tagged(Some("y"), Some(("y", OWNERS, id(2))), 9), all[3..]);
    assert_eq!(base.tagged(Some("x"), Some(("y", OWNERS, id(2))), 9), []);
    assert_eq!(base.tagged(Some("none"), None, 9), []);
}

#[test]
fn the_expired_do_not_exist_and_make_way() {
    let base = catalog([
        checked(OWNERS, 1, json!({})),
        checked(PETS, 3, json!({"name": "rex", "chip": "c", "owner": reference(1), "expires_at": NOW_S + 5})),
        checked(LEASES, 6, json!({"pet": reference(3)})),
    ]);
    let later_s = NOW_S + 60;
    let draft = Draft::new(&base, later_s);
    assert_eq!(draft.get(PETS, id(3)), None);
    assert_eq!(draft.by_key(PETS, "chip", "c"), None);
    assert_eq!(draft.children(PETS, "owner", id(1)), []);
    assert!(Draft::new(&base, NOW_S).get(PETS, id(3)).is_some());

    let mut draft = Draft::new(&base, later_s);
    assert_eq!(draft.delete(PETS, id(3)), Ok(false));
    let lease = checked(LEASES, 7, json!({"pet": reference(3)}));
    let dangling = Rejection::DanglingReference { field: "pet", kind: "b_pets", id: id(3) };
    assert_eq!(draft.insert(lease), Err(dangling));
    draft.insert(checked(PETS, 8, json!({"name": "rex", "chip": "c", "owner": reference(1)}))).unwrap();
    let changes = draft.into_changes();
    let touched: Vec<_> = changes.iter().map(|change| (change.id, change.entity.is_some())).collect();
    assert_eq!(touched, [(id(3), false), (id(8), true)]);

    let mut draft = Draft::new(&base, later_s);
    draft.insert(checked(PETS, 3, json!({"name": "new"}))).unwrap();
    assert_eq!(draft.into_changes().len(), 1);
}

#[test]
fn a_sweep_takes_the_expired_among_the_candidates() {
    let key = |number: u8, ends: Value| {
        checked(Kind::KEYAUTH_CREDENTIALS, number, json!({"key": number.to_string(), "expires_at": ends}))
    };
    let base =
        catalog([key(1, json!(NOW_S + 1)), key(2, json!(NOW_S + 1)), key(3, json!(NOW_S + 2)), key(4, Value::Null)]);
    let check = |now_s: i64, candidates: &[u8], expected: &[u8]| {
        let candidates: Vec<_> = candidates.iter().map(|number| (Kind::KEYAUTH_CREDENTIALS, id(*number))).collect();
        let mut draft = Draft::new(&base, now_s);
        assert_eq!(draft.sweep(&candidates), expected.len());
        let ends: Vec<_> = draft.into_changes().iter().map(|change| (change.id, change.entity.is_none())).collect();
        assert_eq!(ends, expected.iter().map(|number| (id(*number), true)).collect::<Vec<_>>(), "at {now_s}");
    };
    check(NOW_S, &[1, 2, 3, 4], &[]);
    check(NOW_S + 1, &[1, 2, 3, 4], &[1, 2]);
    check(NOW_S + 9, &[1, 2, 3, 4, 5], &[1, 2, 3]);
    check(NOW_S + 9, &[2], &[2]);
}

/// The rules once more, by looking at everything every time.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<(Kind, Uuid), Doc>);

impl Model {
    fn alive(&self, kind: Kind, id: Uuid) -> bool {
        self.0.get(&(kind, id)).is_some_and(|doc| !expired(kind, doc, NOW_S))
    }

    fn write(&mut self, entity: &Checked, insert: bool) -> Result<(), Rejection> {
        let (kind, id) = (entity.kind(), entity.id());
        for (key, members) in unique_keys(kind, &entity.doc()) {
            let holder = self.0.iter().find(|((other_kind, other), doc)| {
                *other_kind == kind
                    && (insert || *other != id)
                    && unique_keys(kind, doc).iter().any(|(other_key, _)| *other_key == key)
            });
            let Some((_, holder)) = holder.map(|(at, _)| *at) else { continue };
            if self.alive(kind, holder) {
                return Err(Rejection::UniqueTaken { key: members });
            }
            self.0.remove(&(kind, holder));
        }
        if insert && self.alive(kind, id) {
            return Err(Rejection::PrimaryKeyTaken { id });
        }
        let doc = entity.doc();
        for (field, parent) in [("pet", PETS), ("owner", OWNERS)] {
            let named = doc.get(field).and_then(|it| it.get("id")).and_then(Value::as_str);
            if let Some(parent_id) = named.and_then(|text| text.parse().ok())
                && !self.alive(parent, parent_id)
            {
                return Err(Rejection::DanglingReference { field, kind: parent.name, id: parent_id });
            }
        }
        self.0.insert((kind, id), entity.doc());
        Ok(())
    }

    fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, Rejection> {
        if !self.alive(kind, id) {
            return Ok(false);
        }
        let refers = |doc: &Doc, field: &str, to: Uuid| doc.get(field) == Some(&json!({"id": to}));
        let mut doomed = BTreeSet::from([(kind, id)]);
        loop {
            let before = doomed.len();
            for ((child_kind, child), doc) in &self.0 {
                let owner_goes = doomed.iter().any(|(kind, id)| *kind == OWNERS && refers(doc, "owner", *id));
                if owner_goes {
                    doomed.insert((*child_kind, *child));
                }
            }
            if doomed.len() == before {
                break;
            }
        }
        for ((lease, lease_id), doc) in &self.0 {
            let held = doomed.iter().any(|(kind, id)| *kind == PETS && refers(doc, "pet", *id));
            if held && !doomed.contains(&(*lease, *lease_id)) {
                return Err(Rejection::StillReferenced { kind: PETS, by: LEASES });
            }
        }
        self.0.retain(|key, _| !doomed.contains(key));
        Ok(true)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Checked),
    Put(Checked),
    Delete(Kind, Uuid),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let reference = || prop_oneof![Just(Value::Null), (0u8..3).prop_map(reference)];
    let name = || prop_oneof![Just(Value::Null), "[ab]".prop_map(Value::from)];
    let ends = prop_oneof![3 => Just(Value::Null), 1 => Just(json!(NOW_S - 10)), 1 => Just(json!(NOW_S + 10))];
    let tags = proptest::collection::vec("[xyz]", 0..3);
    let owner =
        (0u8..3, name(), tags).prop_map(|(n, name, tags)| checked(OWNERS, n, json!({"name": name, "tags": tags})));
    let pet = (0u8..3, name(), name(), reference(), ends).prop_map(|(n, name, chip, owner, ends)| {
        checked(PETS, n, json!({"name": name, "chip": chip, "owner": owner, "expires_at": ends}))
    });
    let lease = (0u8..3, reference(), reference())
        .prop_map(|(n, pet, owner)| checked(LEASES, n, json!({"pet": pet, "owner": owner})));
    let entity = prop_oneof![owner, pet, lease];
    let kind = prop_oneof![Just(OWNERS), Just(PETS), Just(LEASES)];
    let op = (entity, kind, 0u8..3, 0u8..3).prop_map(|(entity, kind, number, verb)| match verb {
        0 => Op::Insert(entity),
        1 => Op::Put(entity),
        _ => Op::Delete(kind, id(number)),
    });
    proptest::collection::vec(op, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drafts_agree_with_the_naive_model(transactions in proptest::collection::vec(ops(), 1..5)) {
        let mut catalog = Catalog::default();
        let mut model = Model::default();
        for (ops, number) in transactions.into_iter().zip(1..) {
            let mut draft = Draft::new(&catalog, NOW_S);
            for op in ops {
                match op {
                    Op::Insert(entity) => {
                        // A refused write may have cleared the expired away; compare on the model's terms.
                        let expected = model.write(&entity, true);
                        prop_assert_eq!(draft.insert(entity).map(drop), expected);
                    }
                    Op::Put(entity) => {
                        let expected = model.write(&entity, false);
                        prop_assert_eq!(draft.put(entity).map(drop), expected);
                    }
                    Op::Delete(kind, id) => prop_assert_eq!(draft.delete(kind, id), model.delete(kind, id)),
                }
            }
            let changes = draft.into_changes();
            catalog.apply(&changes, Revision::new(1, number));
            let alive = |(kind, id): &(Kind, Uuid), doc: &Doc| (!expired(*kind, doc, NOW_S)).then_some((*kind, *id, doc.clone()));
            let stands: Vec<_> = catalog.everything().filter_map(|it| alive(&(it.kind(), it.id()), &it.doc())).collect();
            let expected: Vec<_> = model.0.iter().filter_map(|(key, doc)| alive(key, doc)).collect();
            prop_assert_eq!(stands, expected);
            prop_assert_eq!(fingerprint(&catalog), fingerprint(&Catalog::of(catalog.everything().cloned(), catalog.revision())));
        }
    }
}

/// Every index of a catalog, to compare one that grew with one that was built at once.
fn fingerprint(catalog: &Catalog) -> String {
    let shelves = catalog.shelves.values().filter(|shelf| !shelf.entities.is_empty());
    let shelves: Vec<_> = shelves
        .map(|shelf| (shelf.keys.iter().collect::<BTreeMap<_, _>>(), &shelf.children, shelf.entities.len()))
        .collect();
    format!("{shelves:?} {:?}", catalog.tags)
}

#[test]
fn of_contested_keys_the_data_plane_runs_the_latest_claims() {
    let stamped = |kind: Kind, number: u8, members: Value, time: u64| {
        let entity = Some(checked(kind, number, members).into_entity());
        let stamp = tidegate_proto::Stamp { epoch: 1, time, origin: "o".to_owned() };
        crate::entity::Stamped { change: Change { kind, id: id(number), entity }, stamp }
    };
    let route = |host: &str| json!({"name": "r", "hosts": [host]});
    let service = |host: &str| json!({"name": "s", "host": host});
    let changes = vec![
        stamped(Kind::SERVICES, 1, service("late"), 9),
        stamped(Kind::SERVICES, 2, service("early"), 5),
        stamped(Kind::ROUTES, 3, route("late"), 9),
        stamped(Kind::ROUTES, 4, route("early"), 5),
        stamped(Kind::ROUTES, 5, json!({"name": "other"}), 1),
    ];
    for changes in [changes.clone(), changes.into_iter().rev().collect()] {
        let mut catalog = Catalog::of_stamped(changes, Revision::new(1, 5));
        let names = |catalog: &Catalog| {
            catalog.in_force().iter().map(|it| (it.id(), it.doc()["name"].clone())).collect::<BTreeMap<_, _>>()
        };
        let (r, s) = (json!("r"), json!("s"));
        let expected = [(id(1), s), (id(2), Value::Null), (id(3), r.clone()), (id(5), json!("other"))];
        assert_eq!(names(&catalog), BTreeMap::from(expected));
        let losers: Vec<_> = catalog.conflicts().into_iter().map(|it| (it.kind, it.winner, it.losers)).collect();
        assert_eq!(losers, [(Kind::ROUTES, id(3), vec![id(4)]), (Kind::SERVICES, id(1), vec![id(2)])]);
        // In a transaction, too, the loser stands in for a winner that is deleted.
        let mut draft = Draft::new(&catalog, NOW_S);
        draft.delete(Kind::ROUTES, id(3)).unwrap();
        assert_eq!(draft.by_key(Kind::ROUTES, "name", "r").map(|it| it.id()), Some(id(4)));
        let renamed = stamped(Kind::ROUTES, 3, json!({"name": "renamed"}), 10);
        catalog.merge([renamed], Revision::new(1, 6));
        assert_eq!(names(&catalog).get(&id(4)), Some(&r));
        assert_eq!(catalog.conflicts().len(), 1);
    }
}
