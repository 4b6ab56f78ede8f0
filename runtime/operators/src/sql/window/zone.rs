//! Local times and instants, as Flink's TimeWindowUtil converts them.
//!
//! Where clocks are turned back a local time stands for two instants: a window's end is over at the later one. Where they are
//! turned forward a local time stands for none: it is over at the turn.

use std::fmt;
use std::sync::Arc;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A time zone by its offset at each instant; UTC has none.
#[derive(Clone, Default)]
pub(crate) struct Zone {
    offset: Option<Arc<OffsetAt>>,
}

/// Milliseconds that local time is ahead of UTC, at an instant in milliseconds since the epoch.
pub(crate) type OffsetAt = dyn Fn(i64) -> i64 + Send + Sync;

impl Zone {
    /// UTC, and times without a zone.
    pub(crate) fn utc() -> Self {
        Self::default()
    }

    /// The zone of this name: UTC, or a fixed offset as "+08:00", "GMT+8"; else a message.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let offset = fixed_offset(name).ok_or_else(|| format!("the time zone {name:?} is not known"))?;
        Ok(match offset {
            0 => Self::utc(),
            offset => Self::with_offsets(move |_| offset),
        })
    }

    /// With these offsets.
    pub(crate) fn with_offsets(offset: impl Fn(i64) -> i64 + Send + Sync + 'static) -> Self {
        Self {
            offset: Some(Arc::new(offset)),
        }
    }

    /// The local time of an instant.
    #[inline]
    pub(crate) fn to_local(&self, instant: i64) -> i64 {
        match &self.offset {
            None => instant,
            Some(offset) => instant.saturating_add(offset(instant)),
        }
    }

    /// The instant of a local time: the earlier of two; behind the turn if there is none.
    pub(crate) fn to_instant(&self, local: i64) -> i64 {
        let Some(offset) = &self.offset else { return local };
        let before = offset(local.saturating_sub(DAY_MS));
        let after = offset(local.saturating_add(DAY_MS));
        let (by_before, by_after) = (local.saturating_sub(before), local.saturating_sub(after));
        if offset(by_before) == before || offset(by_after) != after {
            by_before
        } else {
            by_after
        }
    }

    /// The instant at which a local time is over for good.
    pub(crate) fn timer(&self, local: i64) -> i64 {
        if self.offset.is_none() || local == i64::MAX {
            return local;
        }
        let instant = self.to_instant(local);
        let hour_later = self.to_instant(local.saturating_add(HOUR_MS));
        if hour_later - instant > HOUR_MS {
            hour_later - HOUR_MS
        } else if hour_later == instant {
            instant - instant % HOUR_MS
        } else {
            instant
        }
    }
}

/// The milliseconds that a zone without changes is ahead of UTC.
fn fixed_offset(name: &str) -> Option<i64> {
    let prefixes = ["UTC", "GMT", "UT"];
    let rest = prefixes
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    if (rest.is_empty() && !name.is_empty()) || rest == "Z" {
        return Some(0);
    }
    let (sign, digits) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_valid = (0..=18).contains(&hours) && (0..60).contains(&minutes);
    is_valid.then_some(sign * (hours * 60 + minutes) * 60_000)
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset.as_ref().map(|offset| offset(0));
        f.debug_struct("Zone")
            .field("offset at the epoch", &offset)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours ahead until 100 h, then one: clocks are turned back from 102:00 to 101:00.
    fn back() -> Zone {
        Zone::with_offsets(|instant| {
            if instant < 100 * HOUR_MS {
                2 * HOUR_MS
            } else {
                HOUR_MS
            }
        })
    }

    /// One hour ahead until 100 h, then two: clocks are turned forward from 101:00 to 102:00.
    fn forward() -> Zone {
        Zone::with_offsets(|instant| {
            if instant < 100 * HOUR_MS {
                HOUR_MS
            } else {
                2 * HOUR_MS
            }
        })
    }

    #[test]
    fn zones_are_found_by_name() {
        for (name, hours) in [
            ("UTC", 0),
            ("Z", 0),
            ("GMT+8", 8),
            ("-03:00", -3),
            ("UTC+05:00", 5),
        ] {
            assert_eq!(Zone::named(name).unwrap().to_local(0), hours * HOUR_MS, "{name}");
        }
        for name in ["", "Mars/Olympus", "+99", "8"] {
            assert!(Zone::named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn local_times_come_back_from_their_instants() {
        for zone in [Zone::utc(), back(), forward()] {
            for instant in [0, 50 * HOUR_MS, 98 * HOUR_MS, 102 * HOUR_MS, 200 * HOUR_MS] {
                assert_eq!(zone.to_instant(zone.to_local(instant)), instant, "{zone:?}");
            }
        }
    }

    #[test]
    fn a_window_that_ends_in_the_hour_that_comes_twice_ends_at_the_second() {
        let end = 101 * HOUR_MS + HOUR_MS / 2;
        assert_eq!(back().to_instant(end), 99 * HOUR_MS + HOUR_MS / 2);
        assert_eq!(back().timer(end), 100 * HOUR_MS + HOUR_MS / 2);
    }

    #[test]
    fn a_window_that_ends_in_the_hour_that_is_left_out_ends_at_the_turn() {
        let end = 101 * HOUR_MS + HOUR_MS / 2;
        assert_eq!(forward().timer(end), 100 * HOUR_MS);
    }
}
