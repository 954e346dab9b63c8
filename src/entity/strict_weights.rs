//! The kind `strict_weights`: what share of every strict limit each node holds from the start of a window.
//!
//! Ours, not Kong's. Of several the one with the greatest epoch counts. `cluster::core::rights` has the rules by which
//! nodes move from one to the next; what can be seen in the documents alone is checked here: shares add up to at most the
//! whole, epochs grow, and no node that has a share is forgotten (it gets 0, or, when it will never run again, is
//! listed in `gone`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::entity::catalog::Draft;
use crate::entity::declare::{Check, Complaint, Declaration, Field, Rule, Written};
use crate::entity::fields::{CREATED_AT, ID, TAGS, UPDATED_AT};
use crate::entity::problem::Violations;
use crate::entity::{Doc, Kind};

/// Nodes at most, those that are gone included.
pub const NODES_MAX: usize = 1_000;
/// The longest node id, in bytes.
const NODE_LEN_MAX: usize = 64;
/// Weights that fractions of ten cannot say exactly may add up to so little more than 1.
const SLACK: f64 = 1e-9;

pub static DECLARATION: Declaration = Declaration {
    name: "strict_weights",
    path: Some("strict_weights"),
    nested_path: "strict_weights",
    endpoint_key: Some("name"),
    fields: &[
        ID,
        CREATED_AT,
        UPDATED_AT,
        Field::string("name").required().unique(),
        Field::integer("epoch").required().checks(&[Check::Between(1, 1 << 53)]),
        Field::map("weights", &NODE, &WEIGHT).required().checks(&[Check::LenMin(1), Check::Custom(few)]),
        Field::set("gone", &NODE).checks(&[Check::Custom(few)]),
        TAGS,
    ],
    rules: &[Rule::Custom { name: "", fields: &["weights", "gone"], check: adds_up }],
    row_check: Some(follows),
    ..Declaration::EMPTY
};

static NODE: Field = Field::string("").required().checks(&[Check::Custom(short)]);
static WEIGHT: Field = Field::number("").required().checks(&[Check::Between(0, 1)]);

/// The weights as nodes read them.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct StrictWeights {
    pub epoch: u64,
    pub weights: BTreeMap<String, f64>,
    #[serde(default)]
    pub gone: Option<BTreeSet<String>>,
}

impl StrictWeights {
    /// Every node that it knows of.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.weights.keys().chain(self.gone.iter().flatten())
    }
}

fn short(value: &Value) -> Result<(), String> {
    let fits = value.as_str().is_none_or(|name| name.len() <= NODE_LEN_MAX);
    if fits { Ok(()) } else { Err(format!("length must be at most {NODE_LEN_MAX}")) }
}

fn few(value: &Value) -> Result<(), String> {
    let len = value.as_object().map_or(0, serde_json::Map::len).max(value.as_array().map_or(0, Vec::len));
    if len <= NODES_MAX { Ok(()) } else { Err(format!("length must be at most {NODES_MAX}")) }
}

fn adds_up(doc: &Doc) -> Vec<Complaint> {
    let Some(said) = read(doc) else { return Vec::new() };
    let sum: f64 = said.weights.values().sum();
    let mut complaints = Vec::new();
    if sum > 1.0 + SLACK {
        complaints.push(Complaint::Field("weights", format!("must add up to at most 1, not {sum}")));
    }
    if let Some(both) = said.gone.iter().flatten().find(|name| said.weights.contains_key(*name)) {
        complaints.push(Complaint::Field("gone", format!("'{both}' has a weight")));
    }
    complaints
}

/// What follows on the weights that are stored.
fn follows(written: &Written<'_>, draft: &Draft<'_>) -> Result<(), Violations> {
    let Some(said) = read(written.doc) else { return Ok(()) };
    let stored = draft.catalog().all(Kind::STRICT_WEIGHTS).filter_map(|entity| read(&entity.doc()));
    let Some(last) = stored.max_by_key(|stored| stored.epoch) else { return Ok(()) };
    if said == last {
        return Ok(());
    }
    if said.epoch <= last.epoch {
        let text = format!("must be greater than {}, the epoch of the weights that are stored", last.epoch);
        return Err(Violations::field("epoch", text));
    }
    if let Some(name) = last.names().find(|name| said.names().all(|other| other != *name)) {
        let text = format!("must name '{name}': with weight 0, or in 'gone' when it will never run again");
        return Err(Violations::field("weights", text));
    }
    Ok(())
}

fn read(doc: &Doc) -> Option<StrictWeights> {
    serde_json::from_value(Value::Object(doc.clone())).ok()
}
