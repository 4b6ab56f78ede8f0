//! How the text of a value is read: Flink's durations (TimeUtils), memory sizes (MemorySize), numbers and names.

use std::fmt;
use std::time::Duration;

/// A type that a configuration value can have.
pub trait ConfigValue: Sized + 'static {
    /// What a value must be, in words that follow "is expected": "a whole number from 0".
    const EXPECTED: &'static str;

    /// Reads a trimmed text; `None` = not a value of this type.
    fn parse(text: &str) -> Option<Self>;

    /// The value of an option that is not set and has no default; `None` = it must be set.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

macro_rules! parsed_by_from_str {
    ($($type:ty: $expected:literal),+) => {
        $(impl ConfigValue for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })+
    };
}

parsed_by_from_str! {
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    i32: "a whole number",
    i64: "a whole number",
    u64: "a whole number from 0"
}

impl ConfigValue for String {
    const EXPECTED: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl ConfigValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

impl ConfigValue for f64 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl ConfigValue for Duration {
    const EXPECTED: &'static str = "a duration such as \"10 s\", \"100 ms\", \"5 min\", \"1 h\" or \"1 d\"";

    fn parse(text: &str) -> Option<Self> {
        parse_duration(text)
    }
}

/// A number of bytes, as Flink's MemorySize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemorySize(pub u64);

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "tb"), (1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
        match units
            .into_iter()
            .find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size))
        {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl ConfigValue for MemorySize {
    const EXPECTED: &'static str = "a memory size such as \"512mb\", \"1g\" or \"1024 bytes\"";

    fn parse(text: &str) -> Option<Self> {
        parse_memory_size(text).map(MemorySize)
    }
}

/// `restart-strategy.type`, with every spelling that Flink reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartStrategyKind {
    /// `none`, `off`, `disable`
    None,
    /// `fixed-delay`, `fixeddelay`
    FixedDelay,
    /// `failure-rate`, `failurerate`
    FailureRate,
    /// `exponential-delay`, `exponentialdelay`
    ExponentialDelay,
}

impl ConfigValue for RestartStrategyKind {
    const EXPECTED: &'static str = "none, fixed-delay, failure-rate or exponential-delay";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" | "off" | "disable" => Some(Self::None),
            "fixed-delay" | "fixeddelay" => Some(Self::FixedDelay),
            "failure-rate" | "failurerate" => Some(Self::FailureRate),
            "exponential-delay" | "exponentialdelay" => Some(Self::ExponentialDelay),
            _ => None,
        }
    }
}

/// `jobmanager.execution.failover-strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverStrategy {
    /// `region`: the pipelined region of the failed task.
    Region,
    /// `full`: the whole job.
    Full,
}

impl ConfigValue for FailoverStrategy {
    const EXPECTED: &'static str = "region or full";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "region" => Some(Self::Region),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// `execution.state-recovery.claim-mode`: whose the snapshot is that a job starts from. Flink's RecoveryClaimMode without LEGACY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClaimMode {
    /// It stays its owner's; the job's first checkpoint refers to none of its files.
    #[default]
    NoClaim,
    /// It is the job's, which deletes it when it needs it no more.
    Claim,
}

impl ConfigValue for ClaimMode {
    const EXPECTED: &'static str = "NO_CLAIM or CLAIM";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "NO_CLAIM" => Some(Self::NoClaim),
            "CLAIM" => Some(Self::Claim),
            _ => None,
        }
    }
}

/// `state.backend.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateBackend {
    /// `hashmap`: in memory.
    HashMap,
    /// `rocksdb` and `forst`: in memory and, what memory has no room for, on the local disk.
    RocksDb,
}

impl ConfigValue for StateBackend {
    const EXPECTED: &'static str = "hashmap, rocksdb or forst";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "hashmap" => Some(Self::HashMap),
            "rocksdb" | "forst" => Some(Self::RocksDb),
            _ => None,
        }
    }
}

/// `execution.checkpointing.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointingMode {
    /// `EXACTLY_ONCE`: barriers are aligned, or overtake.
    ExactlyOnce,
    /// `AT_LEAST_ONCE`: no channel waits for a barrier; rows behind it may be in the state too.
    AtLeastOnce,
}

impl ConfigValue for CheckpointingMode {
    const EXPECTED: &'static str = "EXACTLY_ONCE or AT_LEAST_ONCE";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().replace('-', "_").as_str() {
            "EXACTLY_ONCE" => Some(Self::ExactlyOnce),
            "AT_LEAST_ONCE" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

/// `execution.checkpointing.externalized-checkpoint-retention`: what becomes of the newest checkpoints when a job ends.
/// When it finishes they are deleted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointRetention {
    /// `DELETE_ON_CANCELLATION`: kept when it fails.
    DeleteOnCancellation,
    /// `RETAIN_ON_CANCELLATION`: kept when it fails or is canceled.
    RetainOnCancellation,
    /// `NO_EXTERNALIZED_CHECKPOINTS`: never kept.
    None,
}

impl ConfigValue for CheckpointRetention {
    const EXPECTED: &'static str =
        "NO_EXTERNALIZED_CHECKPOINTS, DELETE_ON_CANCELLATION or RETAIN_ON_CANCELLATION";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "DELETE_ON_CANCELLATION" => Some(Self::DeleteOnCancellation),
            "RETAIN_ON_CANCELLATION" => Some(Self::RetainOnCancellation),
            "NO_EXTERNALIZED_CHECKPOINTS" => Some(Self::None),
            _ => None,
        }
    }
}

/// `high-availability.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HighAvailabilityKind {
    /// `NONE`: one JobManager.
    #[default]
    None,
    /// `kubernetes`: a Lease says who leads.
    Kubernetes,
    /// `storage`: the log in `high-availability.storageDir` alone says who leads.
    Storage,
}

impl ConfigValue for HighAvailabilityKind {
    const EXPECTED: &'static str =
        "NONE, kubernetes, or storage (there is no ZooKeeper here: outside Kubernetes use storage)";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Some(Self::None),
            "kubernetes" => Some(Self::Kubernetes),
            "storage" => Some(Self::Storage),
            _ => None,
        }
    }
}

/// `execution.runtime-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeMode {
    /// `STREAMING`
    Streaming,
    /// `BATCH`
    Batch,
    /// `AUTOMATIC`
    Automatic,
}

impl ConfigValue for RuntimeMode {
    const EXPECTED: &'static str = "STREAMING, BATCH or AUTOMATIC";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "STREAMING" => Some(Self::Streaming),
            "BATCH" => Some(Self::Batch),
            "AUTOMATIC" => Some(Self::Automatic),
            _ => None,
        }
    }
}

/// Splits "12 min" into 12 and "min"; `None` without digits or with more than fit.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_ascii_lowercase()))
}

/// A duration as Flink's TimeUtils reads it: a whole number and a unit, milliseconds without one. Also ISO-8601 in its
/// time parts ("PT10S").
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(parts) = text.trim().to_ascii_uppercase().strip_prefix("PT") {
        return parse_iso_time(parts);
    }
    let (number, unit) = number_and_unit(text)?;
    let nanoseconds: u64 = match unit.as_str() {
        "d" | "day" | "days" => 86_400_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        _ => return None,
    };
    duration_of(number, nanoseconds)
}

/// "1H30M5S"
fn parse_iso_time(parts: &str) -> Option<Duration> {
    let mut rest = parts;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number = rest[..digits].parse().ok()?;
        let seconds = match rest.as_bytes()[digits] {
            b'H' => 3600,
            b'M' => 60,
            b'S' => 1,
            _ => return None,
        };
        total = total.checked_add(duration_of(number, seconds * 1_000_000_000)?)?;
        rest = &rest[digits + 1..];
    }
    (!parts.is_empty()).then_some(total)
}

fn duration_of(number: u64, nanoseconds: u64) -> Option<Duration> {
    let total = u128::from(number) * u128::from(nanoseconds);
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    // as Flink, whose durations are a long of milliseconds
    (total / 1_000_000 <= i64::MAX as u128).then(|| Duration::new(seconds, (total % 1_000_000_000) as u32))
}

/// A duration as one writes it in a configuration, in the largest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let units: [(u128, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    match units
        .into_iter()
        .find(|(size, _)| nanoseconds > 0 && nanoseconds.is_multiple_of(*size))
    {
        Some((size, unit)) => format!("{} {unit}", nanoseconds / size),
        None if nanoseconds == 0 => "0 ms".to_owned(),
        None => format!("{nanoseconds} ns"),
    }
}

/// A number of bytes as Flink's MemorySize reads it: a whole number and a unit, bytes without one; units are powers of 1024.
pub fn parse_memory_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let size: u64 = match unit.as_str() {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kb" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(size).filter(|bytes| *bytes <= i64::MAX as u64)
}
