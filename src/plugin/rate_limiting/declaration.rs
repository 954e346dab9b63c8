//! The config of `rate-limiting` (`kong/plugins.md` D.1).
//!
//! Kong: with `database=off` the policy `cluster` is refused there, for want of a database to count in. Here counters
//! live in the nodes, so it is accepted in every mode.

use serde_json::Value;

use crate::counter::Period;
use crate::entity::Doc;
use crate::entity::declare::{
    Check, Complaint, Field, Literal, Match, PluginDeclaration, Record, Rule, Shorthand, Type,
};
use crate::entity::format;

pub(crate) static DECLARATION: PluginDeclaration = PluginDeclaration {
    name: "rate-limiting",
    priority: 910,
    config: Record { fields: FIELDS, shorthands: ALIASES, rules: &[] },
    rules: RULES,
    consumer_scope: true,
    protocols: &["grpc", "grpcs", "http", "https"],
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
];

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

#[cfg(test)]
mod tests {
    use super::*;

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
