//! Time zones: `table.local-time-zone` and those that functions are given.

use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// A zone of the IANA database, or a fixed distance from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// In seconds east.
    Fixed(i64),
    /// With its history.
    Named(Tz),
}

impl Zone {
    /// "Europe/Berlin", "UTC", "Z", "+02:00", "GMT+8", "UTC-03:30".
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if matches!(name, "Z" | "UTC" | "GMT" | "UT") {
            return Some(Self::Fixed(0));
        }
        let offset = ["UTC", "GMT", "UT"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        if offset.starts_with(['+', '-']) {
            return parse_offset(offset).map(Self::Fixed);
        }
        Tz::from_str(name).ok().map(Self::Named)
    }

    /// Seconds east of UTC at an instant, given in seconds since the epoch.
    pub(crate) fn offset_at(&self, instant: i64) -> i64 {
        match self {
            Self::Fixed(offset) => *offset,
            Self::Named(zone) => DateTime::from_timestamp(instant, 0).map_or(0, |instant| {
                i64::from(
                    zone.offset_from_utc_datetime(&instant.naive_utc())
                        .fix()
                        .local_minus_utc(),
                )
            }),
        }
    }

    /// The instant of a local time, both in seconds since the epoch; as `LocalDateTime.atZone`: the earlier of two, and behind a gap as far as the
    /// gap is long.
    pub(crate) fn instant_of(&self, local: i64) -> i64 {
        let zone = match self {
            Self::Fixed(offset) => return local - offset,
            Self::Named(zone) => zone,
        };
        let Some(naive) = DateTime::from_timestamp(local, 0).map(|time| time.naive_utc()) else {
            return local;
        };
        match zone.offset_from_local_datetime(&naive) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
                local - i64::from(offset.fix().local_minus_utc())
            }
            LocalResult::None => local - offset_before_gap(zone, &naive),
        }
    }
}

/// The offset that held before the gap in which a local time falls: with it the time comes out behind the gap.
fn offset_before_gap(zone: &Tz, local: &NaiveDateTime) -> i64 {
    // No gap is longer than a day.
    let before = zone.offset_from_utc_datetime(&(*local - chrono::TimeDelta::days(1)));
    i64::from(before.fix().local_minus_utc())
}

/// "+8", "+08", "+0800", "+08:00", "-03:30:15".
fn parse_offset(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text[1..].chars().filter(|character| *character != ':').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits.get(range).and_then(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = match digits.len() {
        1 => (number(0..1)?, 0, 0),
        2 => (number(0..2)?, 0, 0),
        4 => (number(0..2)?, number(2..4)?, 0),
        6 => (number(0..2)?, number(2..4)?, number(4..6)?),
        _ => return None,
    };
    let seconds = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds <= 18 * 3600).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    #[test]
    fn zones_are_names_or_distances() {
        assert_eq!(Zone::parse("GMT+8"), Some(Zone::Fixed(8 * HOUR)));
        assert_eq!(Zone::parse("-03:30"), Some(Zone::Fixed(-12_600)));
        assert!(matches!(Zone::parse("Europe/Berlin"), Some(Zone::Named(_))));
        for wrong in ["", "Nowhere/Town", "+99:00", "+", "+1x"] {
            assert_eq!(Zone::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_in_a_gap_is_behind_it_and_of_two_the_earlier_counts() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let local = |text: &str| {
            NaiveDateTime::parse_from_str(text, "%F %T")
                .unwrap()
                .and_utc()
                .timestamp()
        };
        // 02:30 doesn't exist: 03:30 in summer time is 01:30 UTC.
        assert_eq!(
            berlin.instant_of(local("2024-03-31 02:30:00")),
            local("2024-03-31 01:30:00")
        );
        assert_eq!(
            berlin.instant_of(local("2024-10-27 02:30:00")),
            local("2024-10-27 00:30:00")
        );
        assert_eq!(berlin.offset_at(local("2024-07-01 00:00:00")), 2 * HOUR);
        assert_eq!(berlin.offset_at(local("2024-12-01 00:00:00")), HOUR);
    }
}
