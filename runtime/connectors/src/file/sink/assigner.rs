//! Which bucket, a folder below the sink's own, a row goes to. Flink's BucketAssigner.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arrow::array::RecordBatch;

/// Flink's default.
const DEFAULT_PATTERN: &str = "yyyy-MM-dd--HH";

/// A row, for a [`BucketAssigner::by_row`].
#[derive(Debug, Clone, Copy)]
pub struct BucketRow<'a> {
    /// The line that will be written; empty for bulk formats.
    pub value: &'a [u8],
    /// The rows that it is one of, with all columns.
    pub rows: &'a RecordBatch,
    /// Its place among them.
    pub row: usize,
    /// The row's event time in ms since the epoch; `None` if it has none.
    pub timestamp_ms: Option<i64>,
    /// The time now, the same for all rows of a batch.
    pub processing_time_ms: i64,
}

type ByRow = dyn Fn(&BucketRow<'_>, &mut String) + Send + Sync;

/// Says which folder a row goes to.
#[derive(Clone)]
pub struct BucketAssigner(pub(crate) Assign);

#[derive(Clone)]
pub(crate) enum Assign {
    BasePath,
    DateTime(Vec<Piece>),
    ByRow(Arc<ByRow>),
    /// Refused when the sink is built.
    Malformed(String),
}

/// Of a pattern for dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Default for BucketAssigner {
    /// A folder an hour, `yyyy-MM-dd--HH`.
    fn default() -> Self {
        Self::date_time(DEFAULT_PATTERN)
    }
}

impl BucketAssigner {
    /// By the time at which a row is written, in UTC. Of Java's patterns it knows `yyyy MM dd HH mm ss`, quoted text and signs;
    /// a `/` makes a folder in a folder. Flink's DateTimeBucketAssigner (whose zone is the machine's).
    pub fn date_time(pattern: &str) -> Self {
        Self(match pieces(pattern) {
            Ok(pieces) => Assign::DateTime(pieces),
            Err(what) => Assign::Malformed(format!("the pattern {pattern:?} of the bucket assigner: {what}")),
        })
    }

    /// All in the sink's folder itself. Flink's BasePathBucketAssigner.
    pub fn base_path() -> Self {
        Self(Assign::BasePath)
    }

    /// By the row: the function writes the folder's path, relative to the sink's, into an empty text; nothing = the sink's own.
    pub fn by_row(assign: impl Fn(&BucketRow<'_>, &mut String) + Send + Sync + 'static) -> Self {
        Self(Assign::ByRow(Arc::new(assign)))
    }
}

impl fmt::Debug for BucketAssigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Assign::BasePath => f.write_str("BasePath"),
            Assign::DateTime(pieces) => write!(f, "DateTime({pieces:?})"),
            Assign::ByRow(_) => f.write_str("ByRow"),
            Assign::Malformed(what) => write!(f, "Malformed({what})"),
        }
    }
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (quoted, behind) = rest[1..].split_once('\'').ok_or("a quote is not closed")?;
            text.push_str(if quoted.is_empty() { "'" } else { quoted });
            rest = behind;
            continue;
        }
        let end = rest.find(|next| next != first).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        let piece = match run {
            "yyyy" => Piece::Year,
            "MM" => Piece::Month,
            "dd" => Piece::Day,
            "HH" => Piece::Hour,
            "mm" => Piece::Minute,
            "ss" => Piece::Second,
            _ if first.is_ascii_alphabetic() || "[]{}#".contains(first) => {
                return Err(format!("{run:?} is not known: yyyy, MM, dd, HH, mm, ss are"));
            }
            _ => {
                text.push_str(run);
                continue;
            }
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(piece);
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// The bucket of a time, in ms since the epoch.
pub(crate) fn format_time(pieces: &[Piece], time_ms: i64, bucket: &mut String) {
    let seconds = time_ms.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    for piece in pieces {
        // Writing to a text can't fail.
        let _ = match piece {
            Piece::Text(text) => bucket.write_str(text),
            Piece::Year => write!(bucket, "{year:04}"),
            Piece::Month => write!(bucket, "{month:02}"),
            Piece::Day => write!(bucket, "{day:02}"),
            Piece::Hour => write!(bucket, "{:02}", second / 3_600),
            Piece::Minute => write!(bucket, "{:02}", second / 60 % 60),
            Piece::Second => write!(bucket, "{:02}", second % 60),
        };
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years are counted from March, so that a leap day ends one, in
/// eras of 400 years = 146,097 days.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Why this can't be a folder below the sink's.
pub(crate) fn refusal(bucket: &str) -> Option<&'static str> {
    if bucket.is_empty() {
        return None;
    }
    if bucket
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Some("its segments may not be empty, `.` or `..`");
    }
    bucket
        .chars()
        .any(char::is_control)
        .then_some("it has a control character in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(pattern: &str, time_ms: i64) -> String {
        let mut bucket = String::new();
        format_time(&pieces(pattern).unwrap(), time_ms, &mut bucket);
        bucket
    }

    #[test]
    fn times_are_written_as_java_does_in_utc() {
        assert_eq!(bucket(DEFAULT_PATTERN, 0), "1970-01-01--00");
        assert_eq!(bucket(DEFAULT_PATTERN, -1), "1969-12-31--23");
        assert_eq!(bucket(DEFAULT_PATTERN, 1_709_251_199_999), "2024-02-29--23");
        assert_eq!(bucket(DEFAULT_PATTERN, 1_709_251_200_000), "2024-03-01--00");
        assert_eq!(
            bucket("'dt='yyyyMMdd/HH'h'mmss''", 951_825_599_000),
            "dt=20000229/11h5959'"
        );
    }

    #[test]
    fn letters_that_are_not_known_are_refused() {
        for pattern in ["yyyy-MM-dd HH:mm:ss z", "yy", "MMM", "'open"] {
            assert!(pieces(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_bucket_leads_nowhere_else() {
        assert_eq!(refusal("a/b=1"), None);
        for bucket in ["/a", "a/", "a//b", "../a", "a/..", "a\nb"] {
            assert!(refusal(bucket).is_some(), "{bucket:?}");
        }
    }
}
