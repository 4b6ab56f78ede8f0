//! Dates, times and timestamps: `java.time`'s ISO forms and Flink's SQL forms.

use arrow::datatypes::TimeUnit;

const SECONDS_PER_DAY: i64 = 86_400;

/// `<format>.timestamp-format.standard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampFormat {
    /// "2020-12-30 12:13:14.123", "2020-12-30 12:13:14.123Z".
    #[default]
    Sql,
    /// "2020-12-30T12:13:14.123", "2020-12-30T12:13:14.123Z".
    Iso8601,
}

/// Seconds since the epoch and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Since 1970-01-01T00:00.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanos: u32,
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
pub fn days_of_date(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that a leap day ends one, in eras of 400 years.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of days since 1970-01-01.
pub fn date_of_days(days: i64) -> (i64, i64, i64) {
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
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads a text from its begin.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn literal(&mut self, byte: u8) -> Option<()> {
        let rest = self.0.strip_prefix(&[byte])?;
        self.0 = rest;
        Some(())
    }

    fn two_digits(&mut self) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(2)?;
        let value = number(digits)?;
        self.0 = rest;
        Some(value)
    }

    /// 4 digits, or more with a sign.
    fn year(&mut self) -> Option<i64> {
        let (sign, text) = match self.0 {
            [b'-', rest @ ..] => (-1, rest),
            [b'+', rest @ ..] => (1, rest),
            rest => (1, rest),
        };
        let signed = text.len() != self.0.len();
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let allowed = if signed { 4..=9 } else { 4..=4 };
        if !allowed.contains(&digits) {
            return None;
        }
        let year = number(&text[..digits])?;
        self.0 = &text[digits..];
        Some(sign * year)
    }

    /// A date; `strict`: the day is in its month, else it becomes the month's last.
    fn date(&mut self, strict: bool) -> Option<i64> {
        let year = self.year()?;
        self.literal(b'-')?;
        let month = self.two_digits().filter(|month| (1..=12).contains(month))?;
        self.literal(b'-')?;
        let day = self.two_digits().filter(|day| (1..=31).contains(day))?;
        let last = days_in_month(year, month);
        if strict && day > last {
            return None;
        }
        Some(days_of_date(year, month, day.min(last)))
    }

    /// A time of day in seconds and nanoseconds.
    fn time(&mut self, needs_seconds: bool) -> Option<(i64, u32)> {
        let hour = self.two_digits().filter(|hour| *hour < 24)?;
        self.literal(b':')?;
        let minute = self.two_digits().filter(|minute| *minute < 60)?;
        if !needs_seconds && self.0.first() != Some(&b':') {
            return Some((hour * 3_600 + minute * 60, 0));
        }
        self.literal(b':')?;
        let second = self.two_digits().filter(|second| *second < 60)?;
        Some((hour * 3_600 + minute * 60 + second, self.fraction()?))
    }

    fn fraction(&mut self) -> Option<u32> {
        let Some(text) = self.0.strip_prefix(b".") else {
            return Some(0);
        };
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 9 {
            return None;
        }
        let value = if digits == 0 { 0 } else { number(&text[..digits])? };
        self.0 = &text[digits..];
        Some((value * 10_i64.pow(9 - digits as u32)) as u32)
    }

    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// `yyyy-MM-dd`, as days since the epoch.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let mut reader = Reader(text);
    let days = reader.date(true)?;
    i32::try_from(reader.end(days)?).ok()
}

/// `HH:mm:ss[.fraction]` as milliseconds of the day; without `needs_seconds` also `HH:mm`.
pub fn parse_time(text: &[u8], needs_seconds: bool) -> Option<i32> {
    let mut reader = Reader(text);
    let (seconds, nanos) = reader.time(needs_seconds)?;
    reader.end((seconds * 1_000) as i32 + (nanos / 1_000_000) as i32)
}

/// A timestamp without a zone.
pub fn parse_timestamp(text: &[u8], format: TimestampFormat) -> Option<Instant> {
    let mut reader = Reader(text);
    let instant = timestamp(&mut reader, format)?;
    reader.end(instant)
}

/// A timestamp with "Z" behind it.
pub fn parse_timestamp_ltz(text: &[u8], format: TimestampFormat) -> Option<Instant> {
    let mut reader = Reader(text);
    let instant = timestamp(&mut reader, format)?;
    reader.literal(b'Z')?;
    reader.end(instant)
}

fn timestamp(reader: &mut Reader<'_>, format: TimestampFormat) -> Option<Instant> {
    let days = reader.date(false)?;
    let (separator, needs_seconds) = match format {
        TimestampFormat::Sql => (b' ', true),
        TimestampFormat::Iso8601 => (b'T', false),
    };
    reader.literal(separator)?;
    let (seconds, nanos) = reader.time(needs_seconds)?;
    Some(Instant {
        seconds: days * SECONDS_PER_DAY + seconds,
        nanos,
    })
}

/// A timestamp in a column's unit, what is finer cut off; `None` beyond the unit's range.
pub fn unit_value(instant: Instant, unit: TimeUnit) -> Option<i64> {
    let (per_second, nanos_each) = match unit {
        TimeUnit::Second => return Some(instant.seconds),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    let whole = i128::from(instant.seconds) * per_second;
    i64::try_from(whole + i128::from(instant.nanos / nanos_each)).ok()
}

/// The timestamp of a column's value.
pub fn instant_of(value: i64, unit: TimeUnit) -> Instant {
    let (per_second, nanos_each) = match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    Instant {
        seconds: value.div_euclid(per_second),
        nanos: value.rem_euclid(per_second) as u32 * nanos_each,
    }
}

fn write_two(out: &mut Vec<u8>, value: i64) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// `LocalDate.toString`: `yyyy-MM-dd`, a sign before longer years.
pub fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date_of_days(days);
    match year {
        0..=9_999 => {
            write_two(out, year / 100);
            write_two(out, year % 100);
        }
        _ => {
            out.push(if year < 0 { b'-' } else { b'+' });
            let digits = year.unsigned_abs().to_string();
            out.extend(std::iter::repeat_n(b'0', 4_usize.saturating_sub(digits.len())));
            out.extend_from_slice(digits.as_bytes());
        }
    }
    out.push(b'-');
    write_two(out, month);
    out.push(b'-');
    write_two(out, day);
}

/// `HH:mm:ss`, and a fraction as long as it has to be.
pub fn write_time(out: &mut Vec<u8>, seconds: i64, nanos: u32) {
    write_two(out, seconds / 3_600);
    out.push(b':');
    write_two(out, seconds / 60 % 60);
    out.push(b':');
    write_two(out, seconds % 60);
    if nanos == 0 {
        return;
    }
    let mut digits = [b'0'; 9];
    let mut rest = nanos;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let end = digits
        .iter()
        .rposition(|digit| *digit != b'0')
        .map_or(0, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..end]);
}

/// A timestamp; `zulu`: with "Z" behind it.
pub fn write_timestamp(out: &mut Vec<u8>, instant: Instant, format: TimestampFormat, zulu: bool) {
    write_date(out, instant.seconds.div_euclid(SECONDS_PER_DAY));
    out.push(match format {
        TimestampFormat::Sql => b' ',
        TimestampFormat::Iso8601 => b'T',
    });
    write_time(out, instant.seconds.rem_euclid(SECONDS_PER_DAY), instant.nanos);
    if zulu {
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLIS_PER_DAY: i64 = 86_400_000;

    fn millis(text: &str, format: TimestampFormat) -> Option<i64> {
        unit_value(parse_timestamp(text.as_bytes(), format)?, TimeUnit::Millisecond)
    }

    #[test]
    fn the_sql_form_has_a_space_and_seconds_the_iso_form_a_t() {
        use TimestampFormat::{Iso8601, Sql};
        assert_eq!(millis("1970-01-02 00:00:01.5", Sql), Some(MILLIS_PER_DAY + 1_500));
        assert_eq!(millis("1970-01-02T00:00", Iso8601), Some(MILLIS_PER_DAY));
        for wrong in ["1970-01-02 00:00", "1970-01-02T00:00:00", "1970-1-2 00:00:00", ""] {
            assert_eq!(millis(wrong, Sql), None, "{wrong}");
        }
        let instant = parse_timestamp_ltz(b"1970-01-01 00:00:00.000000001Z", Sql).unwrap();
        assert_eq!(unit_value(instant, TimeUnit::Nanosecond), Some(1));
        assert_eq!(parse_timestamp_ltz(b"1970-01-01 00:00:00", Sql), None);
    }

    #[test]
    fn a_day_behind_the_end_of_its_month_is_refused_in_a_date_and_the_last_in_a_timestamp() {
        assert_eq!(parse_date(b"2021-02-29"), None);
        assert_eq!(parse_date(b"2020-02-29"), Some(18_321));
        assert_eq!(
            millis("2021-02-30 00:00:00", TimestampFormat::Sql),
            millis("2021-02-28 00:00:00", TimestampFormat::Sql)
        );
    }

    #[test]
    fn a_timestamp_beyond_its_unit_is_no_value() {
        let instant = parse_timestamp(b"2300-01-01 00:00:00", TimestampFormat::Sql).unwrap();
        assert_eq!(unit_value(instant, TimeUnit::Nanosecond), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos in any::<i64>(), date in -3_650_000..3_650_000_i32) {
            for format in [TimestampFormat::Sql, TimestampFormat::Iso8601] {
                let instant = instant_of(nanos, TimeUnit::Nanosecond);
                let mut text = Vec::new();
                write_timestamp(&mut text, instant, format, true);
                prop_assert_eq!(parse_timestamp_ltz(&text, format), Some(instant));
            }
            let mut text = Vec::new();
            write_date(&mut text, i64::from(date));
            prop_assert_eq!(parse_date(&text), Some(date));
        }
    }
}
