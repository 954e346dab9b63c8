//! The parameters of a queue, as plugin configs hold them.

use std::time::Duration;

use serde_json::Value;

use crate::entity::Doc;
use crate::entity::declare::{Check, Field, Literal, Record};

/// The member `queue` of a plugin config, declared as Kong does (`kong/plugins.json`). Plugins refer to it with
/// `Field::record("queue", &RECORD).required()`.
pub static RECORD: Record = Record {
    fields: &[
        Field::integer("max_batch_size").default(Literal::Int(1)).checks(&[Check::Between(1, 1_000_000)]),
        Field::number("max_coalescing_delay").default(Literal::Int(1)).checks(&[Check::Between(0, 3_600)]),
        Field::integer("max_entries").default(Literal::Int(10_000)).checks(&[Check::Between(1, 1_000_000)]),
        Field::integer("max_bytes"),
        Field::number("max_retry_time").default(Literal::Int(60)),
        Field::number("initial_retry_delay").default(Literal::Float(0.01)).checks(&[Check::Custom(retry_delay)]),
        Field::number("max_retry_delay").default(Literal::Int(60)).checks(&[Check::Custom(retry_delay)]),
        Field::integer("concurrency_limit").default(Literal::Int(1)).checks(&[Check::OneOfInt(&[-1, 1])]),
    ],
    shorthands: &[],
    rules: &[],
};

/// Longest time that a member can give, in seconds: ten years. Sums of a moment and such a time cannot overflow.
const SECONDS_MAX: f64 = 10.0 * 365.0 * 86_400.0;

/// Parameters of one queue. Names are Kong's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Entries in one delivery, at most. A batch of this size is sent at once.
    pub max_batch_size: usize,
    /// Longest time that an incomplete batch waits for further entries.
    pub max_coalescing_delay: Duration,
    /// Entries that wait while a batch is being delivered, at most; one more evicts the oldest.
    pub max_entries: usize,
    /// Sum of the sizes of waiting entries, at most; an entry that does not fit evicts the oldest. `None`: no limit.
    pub max_bytes: Option<usize>,
    /// A batch whose delivery fails later than this after its first attempt is dropped. Zero: one attempt.
    pub max_retry_time: Duration,
    /// Pause before the second attempt; doubles with each further attempt.
    pub initial_retry_delay: Duration,
    /// Longest pause between two attempts.
    pub max_retry_delay: Duration,
    /// Kong's `concurrency_limit` of -1: every entry is a delivery of its own and starts at once. Kong sets no limit to
    /// these deliveries; here at most `max_entries` run, and a further entry is dropped.
    pub unlimited: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            max_batch_size: 1,
            max_coalescing_delay: Duration::from_secs(1),
            max_entries: 10_000,
            max_bytes: None,
            max_retry_time: Duration::from_secs(60),
            initial_retry_delay: Duration::from_millis(10),
            max_retry_delay: Duration::from_secs(60),
            unlimited: false,
        }
    }
}

impl QueueOptions {
    /// The parameters in a checked plugin config. Absent and null members have Kong's defaults. The older members
    /// (`queue_size`, `batch_span_count`, `flush_timeout`, `batch_flush_delay`) win where they differ from their own
    /// defaults (`kong/observability.md` §4).
    pub fn of_plugin(config: &Doc) -> Self {
        let mut options = config.get("queue").and_then(Value::as_object).map_or_else(Self::default, Self::of_record);
        for (name, default) in [("queue_size", 1), ("batch_span_count", 200)] {
            let set = count(config, name).filter(|size| *size != default);
            options.max_batch_size = set.map_or(options.max_batch_size, |size| size.max(1));
        }
        for (name, default) in [("flush_timeout", 2), ("batch_flush_delay", 3)] {
            let set = seconds(config, name).filter(|delay| *delay != Duration::from_secs(default));
            options.max_coalescing_delay = set.unwrap_or(options.max_coalescing_delay);
        }
        options
    }

    fn of_record(queue: &Doc) -> Self {
        let default = Self::default();
        Self {
            max_batch_size: count(queue, "max_batch_size").unwrap_or(default.max_batch_size).max(1),
            max_coalescing_delay: seconds(queue, "max_coalescing_delay").unwrap_or(default.max_coalescing_delay),
            max_entries: count(queue, "max_entries").unwrap_or(default.max_entries).max(1),
            max_bytes: count(queue, "max_bytes"),
            max_retry_time: seconds(queue, "max_retry_time").unwrap_or(default.max_retry_time),
            initial_retry_delay: seconds(queue, "initial_retry_delay").unwrap_or(default.initial_retry_delay),
            max_retry_delay: seconds(queue, "max_retry_delay").unwrap_or(default.max_retry_delay),
            unlimited: queue.get("concurrency_limit").and_then(Value::as_i64) == Some(-1),
        }
    }

    /// The pause after failed attempt number `attempts` (1 is the first) of a batch.
    pub fn retry_delay(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.initial_retry_delay.saturating_mul(factor).min(self.max_retry_delay)
    }
}

/// A negative number counts as 0.
fn count(doc: &Doc, name: &str) -> Option<usize> {
    let number = doc.get(name)?.as_f64()?;
    // Saturates: a float beyond `usize` becomes its largest value, a negative one 0.
    Some(number as usize)
}

/// A negative number counts as 0, a greater one than `SECONDS_MAX` as that.
fn seconds(doc: &Doc, name: &str) -> Option<Duration> {
    let number = doc.get(name)?.as_f64()?.clamp(0.0, SECONDS_MAX);
    Duration::try_from_secs_f64(number).ok()
}

fn retry_delay(value: &Value) -> Result<(), String> {
    let within = value.as_f64().is_none_or(|number| (0.001..=1_000_000.0).contains(&number));
    if within { Ok(()) } else { Err("value should be between 0.001 and 1000000".to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::Kind;
    use crate::entity::declare::{PluginDeclaration, Plugins};
    use crate::entity::write::{Intent, prepare_alone};

    fn options(config: Value) -> QueueOptions {
        QueueOptions::of_plugin(config.as_object().unwrap())
    }

    #[test]
    fn absent_and_null_members_have_the_defaults_of_kong() {
        assert_eq!(options(json!({})), QueueOptions::default());
        assert_eq!(options(json!({"queue": null})), QueueOptions::default());
        assert_eq!(options(json!({"queue": {"max_batch_size": null, "max_bytes": null}})), QueueOptions::default());
    }

    #[test]
    fn every_member_is_read() {
        let queue = json!({
            "max_batch_size": 7, "max_coalescing_delay": 0.5, "max_entries": 9, "max_bytes": 100, "max_retry_time": -1,
            "initial_retry_delay": 0.2, "max_retry_delay": 1e300, "concurrency_limit": -1
        });
        let expected = QueueOptions {
            max_batch_size: 7,
            max_coalescing_delay: Duration::from_millis(500),
            max_entries: 9,
            max_bytes: Some(100),
            max_retry_time: Duration::ZERO,
            initial_retry_delay: Duration::from_millis(200),
            max_retry_delay: Duration::from_secs(315_360_000),
            unlimited: true,
        };
        assert_eq!(options(json!({ "queue": queue })), expected);
    }

    #[test]
    fn older_members_win_where_they_differ_from_their_defaults() {
        let check = |config: Value, size: usize, delay_ms: u64| {
            let read = options(config.clone());
            assert_eq!(
                (read.max_batch_size, read.max_coalescing_delay.as_millis()),
                (size, delay_ms.into()),
                "{config}"
            );
        };
        let queue = json!({"max_batch_size": 5, "max_coalescing_delay": 4});
        check(json!({"queue": queue, "queue_size": 1, "flush_timeout": 2}), 5, 4_000);
        check(json!({"queue": queue, "queue_size": 8, "flush_timeout": 0.5}), 8, 500);
        check(json!({"queue": queue, "batch_span_count": 200, "batch_flush_delay": 3}), 5, 4_000);
        check(json!({"queue": queue, "batch_span_count": 50, "batch_flush_delay": 1}), 50, 1_000);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = QueueOptions { max_retry_delay: Duration::from_millis(50), ..QueueOptions::default() };
        let pauses = [1, 2, 3, 4, 33, u32::MAX].map(|attempts| options.retry_delay(attempts).as_millis());
        assert_eq!(pauses, [10, 20, 40, 50, 50, 50]);
    }

    static PLUGIN: PluginDeclaration = PluginDeclaration {
        name: "probe",
        priority: 1,
        config: Record { fields: &[Field::record("queue", &RECORD).required()], shorthands: &[], rules: &[] },
        rules: &[],
        consumer_scope: true,
        protocols: &["grpc", "grpcs", "http", "https"],
        notices: &[],
    };

    /// The member `config.queue` of a checked plugin, or what is wrong with it.
    fn checked(queue: Value) -> Result<Value, Value> {
        let input = json!({"name": "probe", "config": {"queue": queue}}).as_object().unwrap().clone();
        let plugins = Plugins::new([&PLUGIN]);
        match prepare_alone(Kind::PLUGINS, input, Intent::Insert, &plugins, 1) {
            Ok(checked) => Ok(checked.doc()["config"]["queue"].clone()),
            Err(rejection) => Err(rejection.body()["fields"]["config"]["queue"].clone()),
        }
    }

    #[test]
    fn defaults_fill_the_record() {
        let expected = json!({
            "max_batch_size": 1, "max_coalescing_delay": 1, "max_entries": 10_000, "max_bytes": null,
            "max_retry_time": 60, "initial_retry_delay": 0.01, "max_retry_delay": 60, "concurrency_limit": 1
        });
        assert_eq!(checked(json!({})), Ok(expected));
        assert_eq!(checked(json!({})).map(|queue| options(json!({ "queue": queue }))), Ok(QueueOptions::default()));
    }

    #[test]
    fn values_outside_of_their_ranges_are_refused() {
        let between = |low: &str, high: &str| format!("value should be between {low} and {high}");
        let wrong = json!({
            "max_batch_size": 0, "max_coalescing_delay": 4000, "max_entries": -1, "initial_retry_delay": 0,
            "max_retry_delay": 1e7, "concurrency_limit": 2
        });
        let expected = json!({
            "max_batch_size": between("1", "1000000"), "max_coalescing_delay": between("0", "3600"),
            "max_entries": between("1", "1000000"), "initial_retry_delay": between("0.001", "1000000"),
            "max_retry_delay": between("0.001", "1000000"), "concurrency_limit": "expected one of: -1, 1"
        });
        assert_eq!(checked(wrong), Err(expected));
    }

    #[test]
    fn retry_delays_outside_of_the_range_are_refused() {
        assert!(retry_delay(&json!(0.001)).is_ok());
        assert_eq!(retry_delay(&json!(0)), Err("value should be between 0.001 and 1000000".to_owned()));
        assert!(retry_delay(&json!(1_000_001)).is_err());
    }
}
