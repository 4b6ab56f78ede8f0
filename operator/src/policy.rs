//! What `kubernetes.operator.*` in a job's configuration asks of the operator: the official operator's keys. They are for the
//! operator alone: they reach no process, and a change of them restarts nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_crds::SavepointFormatType;

/// Keys that begin so are the operator's.
const PREFIX: &str = "kubernetes.operator.";
pub(crate) const SAVEPOINT_DIR: RequiredKey = (
    "execution.checkpointing.savepoint-dir",
    "state.savepoints.dir",
    "s3://bucket/savepoints",
);
pub(crate) const CHECKPOINT_DIR: RequiredKey = (
    "execution.checkpointing.dir",
    "state.checkpoints.dir",
    "s3://bucket/checkpoints",
);
/// A key that something can't work without, the name that it had in Flink 1, an example.
pub(crate) type RequiredKey = (&'static str, &'static str, &'static str);

const PERIODIC_SAVEPOINT: &str = "kubernetes.operator.periodic.savepoint.interval";
const PERIODIC_CHECKPOINT: &str = "kubernetes.operator.periodic.checkpoint.interval";
const FORMAT_TYPE: &str = "kubernetes.operator.savepoint.format.type";
const HISTORY_MAX_COUNT: &str = "kubernetes.operator.savepoint.history.max.count";
const HISTORY_MAX_AGE: &str = "kubernetes.operator.savepoint.history.max.age";
const CLEANUP_ENABLED: &str = "kubernetes.operator.savepoint.cleanup.enabled";
const DISPOSE_ON_DELETE: &str = "kubernetes.operator.savepoint.dispose-on-delete";
const SAVEPOINT_ON_DELETION: &str = "kubernetes.operator.job.savepoint-on-deletion";
const DRAIN_ON_DELETION: &str = "kubernetes.operator.job.drain-on-savepoint-deletion";
const CLEANUP_TIMEOUT: &str = "kubernetes.operator.resource.cleanup.timeout";
const CHECKPOINTS_RETAINED: [&str; 2] = [
    "execution.checkpointing.num-retained",
    "state.checkpoints.num-retained",
];

/// Savepoints and checkpoints that the operator takes by itself, and how long it keeps their resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) periodic_savepoint: Option<Duration>,
    pub(crate) periodic_checkpoint: Option<Duration>,
    pub(crate) format_type: SavepointFormatType,
    /// Savepoints of the operator's own whose resources are kept.
    pub(crate) history_max_count: usize,
    pub(crate) history_max_age: Duration,
    pub(crate) cleanup_enabled: bool,
    /// Of the operator's own: whether the savepoint goes with its resource.
    pub(crate) dispose_on_delete: bool,
    pub(crate) savepoint_on_deletion: bool,
    pub(crate) drain_on_deletion: bool,
    /// How long a deletion waits for its savepoint.
    pub(crate) cleanup_timeout: Duration,
    /// Checkpoints of the operator's own whose resources are kept.
    pub(crate) checkpoints_retained: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            periodic_savepoint: None,
            periodic_checkpoint: None,
            format_type: SavepointFormatType::Canonical,
            history_max_count: 10,
            history_max_age: Duration::from_secs(24 * 3600),
            cleanup_enabled: true,
            dispose_on_delete: false,
            savepoint_on_deletion: false,
            drain_on_deletion: false,
            cleanup_timeout: Duration::from_secs(300),
            checkpoints_retained: 1,
        }
    }
}

impl Policy {
    /// Reads it from a flat configuration; `problem` gets each key that can't be read, with what is wrong.
    pub(crate) fn parse(
        configuration: &BTreeMap<String, String>,
        mut problem: impl FnMut(&'static str, String),
    ) -> Self {
        let mut policy = Self::default();
        let mut read = Reader {
            configuration,
            problem: &mut problem,
        };
        policy.periodic_savepoint = read.interval(PERIODIC_SAVEPOINT);
        policy.periodic_checkpoint = read.interval(PERIODIC_CHECKPOINT);
        if let Some(age) = read.duration(HISTORY_MAX_AGE) {
            policy.history_max_age = age;
        }
        if let Some(timeout) = read.duration(CLEANUP_TIMEOUT) {
            policy.cleanup_timeout = timeout;
        }
        if let Some(count) = read.count(HISTORY_MAX_COUNT) {
            policy.history_max_count = count;
        }
        for key in CHECKPOINTS_RETAINED {
            if let Some(count) = read.count(key) {
                policy.checkpoints_retained = count;
                break;
            }
        }
        for (key, flag) in [
            (CLEANUP_ENABLED, &mut policy.cleanup_enabled),
            (DISPOSE_ON_DELETE, &mut policy.dispose_on_delete),
            (SAVEPOINT_ON_DELETION, &mut policy.savepoint_on_deletion),
            (DRAIN_ON_DELETION, &mut policy.drain_on_deletion),
        ] {
            if let Some(value) = read.flag(key) {
                *flag = value;
            }
        }
        match configuration
            .get(FORMAT_TYPE)
            .map(|text| text.to_ascii_uppercase())
        {
            None => {}
            Some(text) if text == "CANONICAL" => {}
            Some(text) if text == "NATIVE" => policy.format_type = SavepointFormatType::Native,
            Some(text) => problem(FORMAT_TYPE, format!("{text:?} is not CANONICAL or NATIVE")),
        }
        policy
    }

    /// Keys that what is asked for can't work without: what asks, and the key.
    pub(crate) fn needs(&self) -> Vec<(&'static str, RequiredKey)> {
        let mut needs = Vec::new();
        if self.periodic_savepoint.is_some() {
            needs.push((PERIODIC_SAVEPOINT, SAVEPOINT_DIR));
        }
        if self.savepoint_on_deletion {
            needs.push((SAVEPOINT_ON_DELETION, SAVEPOINT_DIR));
        }
        if self.periodic_checkpoint.is_some() {
            needs.push((PERIODIC_CHECKPOINT, CHECKPOINT_DIR));
        }
        needs
    }
}

/// Whether a flat configuration, or a nested one as it is in a spec, has keys of the operator's.
pub(crate) fn has_operator_keys<V>(configuration: Option<&BTreeMap<String, V>>) -> bool {
    configuration.is_some_and(|all| {
        all.keys()
            .any(|key| key == "kubernetes" || key.starts_with("kubernetes.operator"))
    })
}

/// Takes the operator's keys out.
pub(crate) fn strip(configuration: &mut BTreeMap<String, String>) {
    configuration.retain(|key, _| !key.starts_with(PREFIX));
}

struct Reader<'a> {
    configuration: &'a BTreeMap<String, String>,
    problem: &'a mut dyn FnMut(&'static str, String),
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let text = self.configuration.get(key)?.trim();
        let value = parse(text);
        if value.is_none() {
            (self.problem)(key, format!("{text:?} is not {expected}"));
        }
        value
    }

    fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, parse_duration, "a duration; write it as in 6 h or 30 min")
    }

    /// 0 switches it off; Flink's operator also takes a cron expression.
    fn interval(&mut self, key: &'static str) -> Option<Duration> {
        let is_cron = |text: &str| text.split_whitespace().count() >= 5;
        if self.configuration.get(key).is_some_and(|text| is_cron(text)) {
            let message = "cron expressions are not supported; write an interval, as in 6 h".to_owned();
            (self.problem)(key, message);
            return None;
        }
        self.duration(key).filter(|interval| !interval.is_zero())
    }

    fn count(&mut self, key: &'static str) -> Option<usize> {
        let parse = |text: &str| text.parse().ok().filter(|count| *count >= 1);
        self.read(key, parse, "a number from 1 on")
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(
            key,
            |text| text.to_ascii_lowercase().parse().ok(),
            "true or false",
        )
    }
}

/// Flink's notation: a number and a unit; without a unit milliseconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    // What is added to a point in time must stay one: a century is enough.
    let all = number.checked_mul(milliseconds)?;
    (all <= 100 * 366 * 86_400_000).then(|| Duration::from_millis(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> (Policy, Vec<String>) {
        let configuration = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut problems = Vec::new();
        let policy = Policy::parse(&configuration, |key, message| {
            problems.push(format!("{key}: {message}"));
        });
        (policy, problems)
    }

    #[test]
    fn without_keys_it_is_the_official_operators_default() {
        let (policy, problems) = parse(&[]);
        assert_eq!((policy, problems), (Policy::default(), vec![]));
    }

    #[test]
    fn the_official_operators_keys_are_read() {
        let (policy, problems) = parse(&[
            (PERIODIC_SAVEPOINT, "6h"),
            (PERIODIC_CHECKPOINT, "90 s"),
            (HISTORY_MAX_COUNT, "5"),
            (HISTORY_MAX_AGE, "2 d"),
            (DISPOSE_ON_DELETE, "true"),
            (SAVEPOINT_ON_DELETION, "TRUE"),
            (CLEANUP_TIMEOUT, "1 min"),
            (FORMAT_TYPE, "native"),
            ("state.checkpoints.num-retained", "3"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        let expected = Policy {
            periodic_savepoint: Some(Duration::from_secs(6 * 3600)),
            periodic_checkpoint: Some(Duration::from_secs(90)),
            format_type: SavepointFormatType::Native,
            history_max_count: 5,
            history_max_age: Duration::from_secs(2 * 86400),
            dispose_on_delete: true,
            savepoint_on_deletion: true,
            cleanup_timeout: Duration::from_secs(60),
            checkpoints_retained: 3,
            ..Policy::default()
        };
        assert_eq!(policy, expected);
        assert_eq!(policy.needs().len(), 3);
    }

    #[test]
    fn an_interval_of_0_is_none() {
        let (policy, problems) = parse(&[(PERIODIC_SAVEPOINT, "0")]);
        assert_eq!((policy.periodic_savepoint, problems), (None, vec![]));
    }

    #[test]
    fn what_can_not_be_read_is_named_with_its_key() {
        let (_, problems) = parse(&[
            (PERIODIC_SAVEPOINT, "0 0 12 * * ?"),
            (PERIODIC_CHECKPOINT, "often"),
            (HISTORY_MAX_COUNT, "0"),
            (SAVEPOINT_ON_DELETION, "maybe"),
            (FORMAT_TYPE, "avro"),
        ]);
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].contains("cron expressions are not supported"));
        assert!(problems[1].starts_with(PERIODIC_CHECKPOINT) && problems[1].contains("\"often\""));
    }

    #[test]
    fn the_operators_keys_are_taken_out_and_no_others() {
        let mut configuration: BTreeMap<String, String> =
            [PERIODIC_SAVEPOINT, "kubernetes.namespaces", "parallelism.default"]
                .into_iter()
                .map(|key| (key.to_owned(), "1".to_owned()))
                .collect();
        assert!(has_operator_keys(Some(&configuration)));
        strip(&mut configuration);
        assert_eq!(configuration.len(), 2);
        assert!(!has_operator_keys(Some(&configuration)));
    }
}
