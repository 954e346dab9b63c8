//! The config of `rate-limiting` (`kong/plugins.md` D.1).
//!
//! Kong: with `database=off` the policy `cluster` is refused there, for want of a database to count in. Here counters
//! live in the nodes, so it is accepted in every mode.

use serde_json::Value;

use crate::counter::Period;
use crate::entity::Doc;
use crate::entity::declare::{
    Check, Complaint, Field, Literal, Match, Notice, PluginDeclaration, Record, Rule, Shorthand, Type,
};
use crate::entity::format;

pub(crate) static DECLARATION: PluginDeclaration = PluginDeclaration {
    name: "rate-limiting",
    priority: 910,
    config: Record { fields: FIELDS, shorthands: ALIASES, rules: &[] },
    rules: RULES,
    consumer_scope: true,
    protocols: &["grpc", "grpcs", "http", "https"],
    notices: &[Notice {
        field: "policy",
        when: Match::Eq("redis"),
        text: "rate-limiting: redis is not contacted, policy redis is served as cluster: the nodes count together",
    }],
};

static FIELDS: &[Field] = &[
    limit("second"),
    limit("minute"),
    limit("hour"),
    limit("day"),
    limit("month"),
    limit("year"),
    Field::string("limit_by").default(Literal::Str("consumer")).checks(&[Check::OneOf(&[
        "consumer",
        "credential",
        "ip",
        "service",
        "header",
        "path",
    ])]),
    Field::string("header_name").checks(&[Check::Format(&format::HEADER_NAME)]),
    Field::string("path").checks(&[Check::Format(&format::PATH)]),
    Field::string("policy")
        .default(Literal::Str("local"))
        .checks(&[Check::LenMin(0), Check::OneOf(&["local", "cluster", "redis"])]),
    Field::boolean("fault_tolerant").required().default(Literal::Bool(true)),
    Field::record("redis", &REDIS).required(),
    Field::boolean("hide_client_headers").required().default(Literal::Bool(false)),
    Field::number("error_code").default(Literal::Int(429)).checks(&[Check::GreaterThan(0)]),
    Field::string("error_message").default(Literal::Str("API rate limit exceeded")),
    Field::number("sync_rate").required().default(Literal::Int(-1)),
    Field::string("guarantee").ours().checks(&[Check::OneOf(&["forecast", "strict"])]),
];

static REDIS: Record = Record {
    fields: &[
        Field::string("host").checks(&[Check::Format(&format::HOST)]),
        Field::integer("port").default(Literal::Int(6379)).checks(&[Check::Between(0, 65_535)]),
        Field::integer("timeout").default(Literal::Int(2_000)).checks(&[Check::Between(0, 2_147_483_646)]),
        Field::string("username").referenceable(),
        Field::string("password").referenceable().checks(&[Check::LenMin(0)]),
        Field::integer("database").default(Literal::Int(0)),
        Field::boolean("ssl").default(Literal::Bool(false)),
        Field::boolean("ssl_verify").default(Literal::Bool(false)),
        Field::string("server_name").checks(&[Check::Format(&format::SNI)]),
    ],
    shorthands: &[],
    rules: &[],
};

/// The flat name that a member of `redis` had before it was a record.
macro_rules! alias {
    ($old:literal, $new:literal, $kind:expr) => {
        Shorthand::alias(
            $old,
            $kind,
            &["redis", $new],
            concat!("rate-limiting: config.", $old, " is deprecated, please use config.redis.", $new, " instead"),
        )
    };
}
static ALIASES: &[Shorthand] = &[
    alias!("redis_host", "host", Type::String),
    alias!("redis_port", "port", Type::Integer),
    alias!("redis_password", "password", Type::String),
    alias!("redis_username", "username", Type::String),
    alias!("redis_ssl", "ssl", Type::Boolean),
    alias!("redis_ssl_verify", "ssl_verify", Type::Boolean),
    alias!("redis_server_name", "server_name", Type::String),
    alias!("redis_timeout", "timeout", Type::Integer),
    alias!("redis_database", "database", Type::Integer),
];

static RULES: &[Rule] = &[
    Rule::AtLeastOneOf(&["config.second", "config.minute", "config.hour", "config.day", "config.month", "config.year"]),
    Rule::when("config.policy", Match::Eq("redis"), "config.redis.host", Match::Required),
    Rule::when("config.policy", Match::Eq("redis"), "config.redis.port", Match::Required),
    Rule::when("config.policy", Match::Eq("redis"), "config.redis.timeout", Match::Required),
    Rule::when("config.limit_by", Match::Eq("header"), "config.header_name", Match::Required),
    Rule::when("config.limit_by", Match::Eq("path"), "config.path", Match::Required),
    Rule::Custom { name: "", fields: &["config"], check: |plugin| refuse(plugin).into_iter().collect() },
    Rule::Custom { name: "", fields: &["config"], check: |plugin| too_small(plugin).into_iter().collect() },
];

/// The least limit of a second that can be strict: its rights are spread over nodes before they are asked for, and of
/// fewer too many would lie where nobody asks.
const STRICT_SECOND_MIN: f64 = 100.0;

const fn limit(name: &'static str) -> Field {
    Field::number(name).checks(&[Check::GreaterThan(0)])
}

/// What one look at several members of the config refuses: the first complaint, as Kong has it.
fn refuse(plugin: &Doc) -> Option<Complaint> {
    let config = plugin.get("config")?.as_object()?;
    let text = falling_limit(config).or_else(|| wrong_sync_rate(config).map(str::to_owned))?;
    Some(Complaint::Field("config", text))
}

/// A longer period has the lower limit.
fn falling_limit(config: &Doc) -> Option<String> {
    let limit = |period: Period| config.get(period.name()).and_then(Value::as_f64);
    for (at, lower) in Period::ALL.into_iter().enumerate() {
        let Some(least) = limit(lower) else { continue };
        for upper in Period::ALL.into_iter().skip(at + 1) {
            if let Some(most) = limit(upper).filter(|most| *most < least) {
                let (lower, upper) = (lower.name(), upper.name());
                return Some(format!(
                    "The limit for {upper}({most:.1}) cannot be lower than the limit for {lower}({least:.1})"
                ));
            }
        }
    }
    None
}

fn wrong_sync_rate(config: &Doc) -> Option<&'static str> {
    let rate = config.get("sync_rate").and_then(Value::as_f64).filter(|rate| *rate != -1.0)?;
    if config.get("policy").and_then(Value::as_str) != Some("redis") {
        return Some("sync_rate can only be used with the redis policy");
    }
    (rate < 0.02).then_some("sync_rate must be greater than 0.02, or -1 to disable")
}

/// What cannot be guaranteed: whoever counts for itself knows of nobody's spending, and parts of few rights, or of a
/// fraction of one, are none.
fn too_small(plugin: &Doc) -> Option<Complaint> {
    let config = plugin.get("config")?.as_object()?;
    let word = |name: &str| config.get(name).and_then(Value::as_str);
    if word("guarantee") != Some("strict") {
        return None;
    }
    let text = if matches!(word("policy"), Some("local") | None) {
        "strict needs the policy cluster: with local each node counts for itself".to_owned()
    } else {
        Period::ALL.into_iter().find_map(|period| {
            let limit = config.get(period.name()).and_then(Value::as_f64)?;
            match period {
                _ if limit < 1.0 || limit.fract() != 0.0 => {
                    Some(format!("strict needs limits that are whole numbers: {} is {limit}", period.name()))
                }
                Period::Second if limit < STRICT_SECOND_MIN => {
                    let least = STRICT_SECOND_MIN;
                    Some(format!(
                        "strict needs a limit of at least {least} where the window is a second: it is {limit}"
                    ))
                }
                _ => None,
            }
        })?
    };
    Some(Complaint::Field("config.guarantee", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_is_refused_where_rights_are_too_few_to_share() {
        let check = |config: Value, expected: Option<&str>| {
            let plugin = serde_json::json!({ "config": config });
            let complaint = plugin.as_object().and_then(too_small);
            let expected = expected.map(|text| Complaint::Field("config.guarantee", text.to_owned()));
            assert_eq!(complaint, expected, "{plugin}");
        };
        let strict = |config: Value, expected: Option<&str>| {
            let mut config = config;
            config["guarantee"] = "strict".into();
            check(config, expected);
        };
        check(serde_json::json!({"second": 1, "policy": "local"}), None);
        check(serde_json::json!({"second": 1, "policy": "local", "guarantee": "forecast"}), None);
        strict(serde_json::json!({"second": 100, "minute": 1000, "policy": "cluster"}), None);
        strict(serde_json::json!({"minute": 1, "policy": "redis"}), None);
        let local = Some("strict needs the policy cluster: with local each node counts for itself");
        strict(serde_json::json!({"minute": 600, "policy": "local"}), local);
        strict(serde_json::json!({"minute": 600, "policy": null}), local);
        strict(
            serde_json::json!({"second": 99, "policy": "cluster"}),
            Some("strict needs a limit of at least 100 where the window is a second: it is 99"),
        );
        strict(
            serde_json::json!({"hour": 0.5, "policy": "cluster"}),
            Some("strict needs limits that are whole numbers: hour is 0.5"),
        );
        strict(
            serde_json::json!({"second": 100, "minute": 600.5, "policy": "cluster"}),
            Some("strict needs limits that are whole numbers: minute is 600.5"),
        );
    }

    #[test]
    fn limits_grow_with_their_periods_and_sync_needs_redis() {
        let check = |config: Value, expected: Option<&str>| {
            let plugin = serde_json::json!({ "config": config });
            let complaints = plugin.as_object().and_then(refuse);
            let expected = expected.map(|text| Complaint::Field("config", text.to_owned()));
            assert_eq!(complaints, expected, "{plugin}");
        };
        check(serde_json::json!({"minute": 10, "hour": 10, "sync_rate": -1, "policy": "local"}), None);
        check(
            serde_json::json!({"minute": 10, "hour": 5}),
            Some("The limit for hour(5.0) cannot be lower than the limit for minute(10.0)"),
        );
        check(
            serde_json::json!({"second": 1.5, "day": null, "year": 1}),
            Some("The limit for year(1.0) cannot be lower than the limit for second(1.5)"),
        );
        check(
            serde_json::json!({"sync_rate": 1, "policy": "local"}),
            Some("sync_rate can only be used with the redis policy"),
        );
        check(
            serde_json::json!({"sync_rate": 0.01, "policy": "redis"}),
            Some("sync_rate must be greater than 0.02, or -1 to disable"),
        );
        check(serde_json::json!({"sync_rate": 0.02, "policy": "redis"}), None);
    }
}
