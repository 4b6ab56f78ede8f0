//! Date patterns of `DateTimeFormatter` and `SimpleDateFormat`, compiled once a thread and kept.
//!
//! The two differ where they read: the first wants the whole text, as many digits as the pattern has letters (years and numbers of
//! one letter may have more) and values in their range; the second reads what it can from the front and carries values over.
//! Names of months and days are English.

use std::cell::RefCell;
use std::rc::Rc;

use super::units::MILLIS_PER_DAY;
use crate::casts::calendar::{date_of_days, days_in_month, days_of_date};

/// Whose pattern it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `java.time.format.DateTimeFormatter`.
    Formatter,
    /// `java.text.SimpleDateFormat`.
    Simple,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(String),
    /// A field and how many letters it has.
    Field(Field, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Era,
    Year,
    Month,
    Quarter,
    DayOfYear,
    Day,
    DayName,
    DayNumber,
    AmPm,
    /// 0 to 23, 1 to 24, 0 to 11, 1 to 12.
    Hour,
    HourFromOne,
    HourOfHalf,
    ClockHour,
    Minute,
    Second,
    /// Digits behind the second's point; of the simple dialect milliseconds.
    Fraction,
    Nano,
}

/// A compiled pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    items: Vec<Item>,
    dialect: Dialect,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Kept compiled patterns of a thread.
const MOST_KEPT: usize = 64;

type Compiled = Result<Rc<Pattern>, String>;

thread_local! {
    static KEPT: RefCell<Vec<(String, Dialect, Compiled)>> = const { RefCell::new(Vec::new()) };
}

/// The pattern; from those kept, if it was compiled before.
pub(super) fn compiled(pattern: &str, dialect: Dialect) -> Compiled {
    KEPT.with_borrow_mut(|kept| {
        let known = kept
            .iter()
            .position(|(known, of, _)| known == pattern && *of == dialect);
        if let Some(place) = known {
            kept[..=place].rotate_right(1);
        } else {
            kept.truncate(MOST_KEPT - 1);
            let compiled = compile(pattern, dialect).map(Rc::new);
            kept.insert(0, (pattern.to_owned(), dialect, compiled));
        }
        kept[0].2.clone()
    })
}

fn compile(pattern: &str, dialect: Dialect) -> Result<Pattern, String> {
    let mut items: Vec<Item> = Vec::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let length = rest.chars().take_while(|next| *next == character).count();
        if character.is_ascii_alphabetic() {
            let field = field_of(character, length, dialect).ok_or_else(|| {
                format!(
                    "'{}' of the date pattern '{pattern}' is not supported",
                    &rest[..length]
                )
            })?;
            items.push(Item::Field(field, length));
            rest = &rest[length..];
            continue;
        }
        if character == '\'' {
            rest = quoted(&rest[1..], &mut items)
                .ok_or_else(|| format!("the date pattern '{pattern}' has a quote without its end"))?;
            continue;
        }
        let has_sections = dialect == Dialect::Formatter && matches!(character, '[' | ']' | '{' | '}' | '#');
        if has_sections {
            return Err(format!(
                "'{character}' of the date pattern '{pattern}' is not supported"
            ));
        }
        push_literal(&mut items, character);
        rest = &rest[character.len_utf8()..];
    }
    Ok(Pattern { items, dialect })
}

fn push_literal(items: &mut Vec<Item>, character: char) {
    match items.last_mut() {
        Some(Item::Literal(text)) => text.push(character),
        _ => items.push(Item::Literal(character.into())),
    }
}

/// Two quotes are one.
fn quoted<'a>(mut rest: &'a str, items: &mut Vec<Item>) -> Option<&'a str> {
    if let Some(behind) = rest.strip_prefix('\'') {
        push_literal(items, '\'');
        return Some(behind);
    }
    loop {
        let character = rest.chars().next()?;
        rest = &rest[character.len_utf8()..];
        if character != '\'' {
            push_literal(items, character);
        } else if let Some(behind) = rest.strip_prefix('\'') {
            push_literal(items, '\'');
            rest = behind;
        } else {
            return Some(rest);
        }
    }
}

fn field_of(letter: char, length: usize, dialect: Dialect) -> Option<Field> {
    let formatter = dialect == Dialect::Formatter;
    let field = match letter {
        'G' if length <= 3 => Field::Era,
        'y' => Field::Year,
        'u' if formatter => Field::Year,
        'M' | 'L' if length <= 4 => Field::Month,
        'Q' if formatter && length <= 2 => Field::Quarter,
        'D' if length <= 3 => Field::DayOfYear,
        'd' if !formatter || length <= 2 => Field::Day,
        'E' if length <= 4 => Field::DayName,
        'u' => Field::DayNumber,
        'a' if !formatter || length == 1 => Field::AmPm,
        'H' if !formatter || length <= 2 => Field::Hour,
        'k' if !formatter || length <= 2 => Field::HourFromOne,
        'K' if !formatter || length <= 2 => Field::HourOfHalf,
        'h' if !formatter || length <= 2 => Field::ClockHour,
        'm' if !formatter || length <= 2 => Field::Minute,
        's' if !formatter || length <= 2 => Field::Second,
        'S' if length <= 9 => Field::Fraction,
        'n' if formatter => Field::Nano,
        _ => return None,
    };
    Some(field)
}

/// A local time in its parts.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    days: i64,
    /// Of the day.
    second: i64,
    nanos: u32,
}

impl Pattern {
    /// Writes a local time, given in seconds since the epoch.
    pub(super) fn write(&self, out: &mut impl std::fmt::Write, seconds: i64, nanos: u32) {
        let days = seconds.div_euclid(MILLIS_PER_DAY / 1000);
        let (year, month, day) = date_of_days(days);
        let parts = Parts {
            year,
            month,
            day,
            days,
            second: seconds.rem_euclid(MILLIS_PER_DAY / 1000),
            nanos,
        };
        for item in &self.items {
            let _infallible = match item {
                Item::Literal(text) => out.write_str(text),
                Item::Field(field, length) => self.write_field(out, *field, *length, &parts),
            };
        }
    }

    fn write_field(
        &self,
        out: &mut impl std::fmt::Write,
        field: Field,
        length: usize,
        parts: &Parts,
    ) -> std::fmt::Result {
        let hour = parts.second / 3600;
        let name = |names: &[&'static str], place: i64| names.get(place as usize).copied().unwrap_or("");
        let number = match field {
            Field::Era => return out.write_str(if parts.year > 0 { "AD" } else { "BC" }),
            Field::Year if length == 2 => return write!(out, "{:02}", year_of_era(parts.year) % 100),
            Field::Year => year_of_era(parts.year),
            Field::Month if length >= 4 => return out.write_str(name(&MONTHS, parts.month - 1)),
            Field::Month if length == 3 => return out.write_str(&name(&MONTHS, parts.month - 1)[..3]),
            Field::Month => parts.month,
            Field::Quarter => (parts.month + 2) / 3,
            Field::DayOfYear => parts.days - days_of_date(parts.year, 1, 1) + 1,
            Field::Day => parts.day,
            Field::DayName => {
                let day = name(&DAYS, (parts.days + 4).rem_euclid(7));
                return out.write_str(if length >= 4 { day } else { &day[..3] });
            }
            Field::DayNumber => (parts.days + 3).rem_euclid(7) + 1,
            Field::AmPm => return out.write_str(if hour < 12 { "AM" } else { "PM" }),
            Field::Hour => hour,
            Field::HourFromOne => (hour + 23) % 24 + 1,
            Field::HourOfHalf => hour % 12,
            Field::ClockHour => (hour + 11) % 12 + 1,
            Field::Minute => parts.second / 60 % 60,
            Field::Second => parts.second % 60,
            Field::Fraction if self.dialect == Dialect::Simple => i64::from(parts.nanos / 1_000_000),
            Field::Fraction => {
                let digits = parts.nanos / 10u32.pow(9 - length as u32);
                return write!(out, "{digits:0length$}");
            }
            Field::Nano => i64::from(parts.nanos),
        };
        write_padded(out, number, length)
    }

    /// How many seconds a written text holds for: as long as its smallest field. `None` if it's less than one.
    pub(super) fn holds_for(&self) -> Option<i64> {
        let least = |item: &Item| match item {
            Item::Field(Field::Fraction | Field::Nano, _) => None,
            Item::Field(Field::Second, _) => Some(1),
            Item::Field(Field::Minute, _) => Some(60),
            Item::Field(Field::Hour | Field::HourFromOne | Field::HourOfHalf | Field::ClockHour, _) => {
                Some(3600)
            }
            Item::Field(Field::AmPm, _) => Some(43_200),
            _ => Some(86_400),
        };
        self.items
            .iter()
            .map(least)
            .try_fold(86_400, |all, next| Some(all.min(next?)))
    }

    /// Seconds since the epoch and nanoseconds of the local time that a text means; `None` if it doesn't fit. What the pattern doesn't have
    /// is that of 1970-01-01 00:00:00.
    pub(super) fn parse(&self, text: &str) -> Option<(i64, u32)> {
        let mut read = Read::default();
        let mut rest = text;
        for (place, item) in self.items.iter().enumerate() {
            match item {
                Item::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Field(field, length) => {
                    let is_next_digits = matches!(
                        self.items.get(place + 1),
                        Some(Item::Field(next, letters)) if is_number(*next, *letters)
                    );
                    rest = self.read_field(*field, *length, is_next_digits, rest, &mut read)?;
                }
            }
        }
        if self.dialect == Dialect::Formatter && !rest.is_empty() {
            return None;
        }
        read.resolve(self.dialect)
    }

    fn read_field<'a>(
        &self,
        field: Field,
        length: usize,
        is_next_digits: bool,
        text: &'a str,
        read: &mut Read,
    ) -> Option<&'a str> {
        let text = match self.dialect {
            Dialect::Simple => text.trim_start_matches([' ', '\t']),
            Dialect::Formatter => text,
        };
        match field {
            Field::Era => {
                let rest = text.strip_prefix("AD");
                read.is_before_christ = rest.is_none();
                return rest.or_else(|| text.strip_prefix("BC"));
            }
            Field::AmPm => {
                let half = text.get(..2)?;
                let fits = |wanted: &str| match self.dialect {
                    Dialect::Formatter => half == wanted,
                    Dialect::Simple => half.eq_ignore_ascii_case(wanted),
                };
                read.afternoon = Some(if fits("AM") {
                    false
                } else if fits("PM") {
                    true
                } else {
                    return None;
                });
                return text.get(2..);
            }
            Field::Month if length >= 3 => {
                let (place, rest) = self.read_name(&MONTHS, length, text)?;
                read.month = Some(place + 1);
                return Some(rest);
            }
            Field::DayName => return self.read_name(&DAYS, length, text).map(|(_, rest)| rest),
            _ => {}
        }
        let (least, most) = self.widths(field, length, is_next_digits);
        let (number, digits, rest) = read_digits(text, least, most, self.dialect)?;
        match field {
            Field::Year if length == 2 && digits == 2 && number >= 0 => {
                read.year = Some(self.century_of(number));
            }
            Field::Year => read.year = Some(number),
            Field::Month => read.month = Some(number),
            Field::DayOfYear => read.day_of_year = Some(number),
            Field::Day => read.day = Some(number),
            Field::Hour => read.hour = Some(number),
            Field::HourFromOne => read.hour = Some(if number == 24 { 0 } else { number }),
            Field::HourOfHalf => read.half_hour = Some(number),
            Field::ClockHour => read.half_hour = Some(if number == 12 { 0 } else { number }),
            Field::Minute => read.minute = Some(number),
            Field::Second => read.second = Some(number),
            Field::Fraction if self.dialect == Dialect::Simple => {
                read.nanos = number.checked_mul(1_000_000)?;
            }
            Field::Fraction => read.nanos = number * 10i64.pow(9 - length as u32),
            Field::Nano => read.nanos = number,
            _ => {}
        }
        Some(rest)
    }

    /// How many digits a number may have.
    fn widths(&self, field: Field, length: usize, is_next_digits: bool) -> (usize, usize) {
        match (self.dialect, field) {
            (Dialect::Simple, _) => (1, if is_next_digits { length } else { 18 }),
            (_, Field::Fraction) => (length, length),
            (_, Field::Year) if length == 2 => (2, 2),
            (_, Field::Year) if is_next_digits && length >= 3 => (length, length),
            (_, Field::Year) => (length, 18),
            (_, Field::Nano) => (length, 18),
            _ if length == 1 => (1, if is_next_digits { 1 } else { 18 }),
            _ => (length, length),
        }
    }

    /// Years of two digits: from 2000 on, or within 80 years before and 20 after the current one, which is taken to be of the
    /// 2020s.
    fn century_of(&self, year: i64) -> i64 {
        match self.dialect {
            Dialect::Formatter => 2000 + year,
            Dialect::Simple if year > 46 => 1900 + year,
            Dialect::Simple => 2000 + year,
        }
    }

    fn read_name<'a>(&self, names: &[&str], length: usize, text: &'a str) -> Option<(i64, &'a str)> {
        let fits = |name: &str| {
            let start = text.get(..name.len())?;
            let same = match self.dialect {
                Dialect::Formatter => start == name,
                Dialect::Simple => start.eq_ignore_ascii_case(name),
            };
            same.then(|| &text[name.len()..])
        };
        let any = self.dialect == Dialect::Simple;
        names.iter().enumerate().find_map(|(place, name)| {
            let long = (any || length >= 4).then(|| fits(name)).flatten();
            let short = (any || length == 3).then(|| fits(&name[..3])).flatten();
            Some((place as i64, long.or(short)?))
        })
    }
}

/// A number with zeros in front, without the general machinery of formats.
fn write_padded(out: &mut impl std::fmt::Write, number: i64, width: usize) -> std::fmt::Result {
    let mut digits = [b'0'; 20];
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if number < 0 {
        out.write_char('-')?;
    }
    let start = start.min(digits.len() - width.clamp(1, digits.len()));
    out.write_str(std::str::from_utf8(&digits[start..]).unwrap_or_default())
}

fn year_of_era(year: i64) -> i64 {
    if year > 0 { year } else { 1 - year }
}

fn is_number(field: Field, length: usize) -> bool {
    match field {
        Field::Era | Field::AmPm | Field::DayName => false,
        Field::Month => length < 3,
        _ => true,
    }
}

/// The number, its digits and the rest.
fn read_digits(text: &str, least: usize, most: usize, dialect: Dialect) -> Option<(i64, usize, &str)> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) if dialect == Dialect::Simple => (-1, rest),
        _ => (1, text),
    };
    let digits = unsigned.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if digits < least.max(1) {
        return None;
    }
    let number: i64 = unsigned[..digits].parse().ok()?;
    Some((sign * number, digits, &unsigned[digits..]))
}

/// What was read.
#[derive(Default)]
struct Read {
    is_before_christ: bool,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    afternoon: Option<bool>,
    hour: Option<i64>,
    half_hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: i64,
}

impl Read {
    fn resolve(&self, dialect: Dialect) -> Option<(i64, u32)> {
        let year = self.year.unwrap_or(1970);
        let year = if self.is_before_christ { 1 - year } else { year };
        let month = self.month.unwrap_or(1);
        let day = self.day.unwrap_or(1);
        let half = |hour: i64| hour + if self.afternoon == Some(true) { 12 } else { 0 };
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => half(hour),
            (None, None) => half(0),
        };
        let (minute, second) = (self.minute.unwrap_or(0), self.second.unwrap_or(0));
        // Beyond it no calendar goes, and numbers stay small.
        let small = |number: i64| (-1_000_000_000..=1_000_000_000).contains(&number);
        if ![year, month, day, hour, minute, second].into_iter().all(small) {
            return None;
        }
        let day = match dialect {
            Dialect::Simple => day,
            // As ResolverStyle.SMART: a 31st of a shorter month is its last day.
            Dialect::Formatter => {
                let fits = (1..=12).contains(&month)
                    && (1..=31).contains(&day)
                    && (0..24).contains(&hour)
                    && (0..60).contains(&minute)
                    && (0..60).contains(&second)
                    && self.half_hour.is_none_or(|hour| (0..12).contains(&hour));
                if !fits {
                    return None;
                }
                day.min(days_in_month(year, month))
            }
        };
        let months = year * 12 + month - 1;
        let first = match self.day_of_year {
            Some(_) if self.month.is_none() => days_of_date(year, 1, 1),
            _ => days_of_date(months.div_euclid(12), months.rem_euclid(12) + 1, 1),
        };
        let days = first + self.day_of_year.filter(|_| self.month.is_none()).unwrap_or(day) - 1;
        let nanos = self.nanos;
        let seconds = days * (MILLIS_PER_DAY / 1000)
            + hour * 3600
            + minute * 60
            + second
            + nanos.div_euclid(1_000_000_000);
        Some((seconds, nanos.rem_euclid(1_000_000_000) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pattern: &str, seconds: i64, nanos: u32) -> String {
        let mut out = String::new();
        compiled(pattern, Dialect::Formatter)
            .unwrap()
            .write(&mut out, seconds, nanos);
        out
    }

    fn parsed(pattern: &str, dialect: Dialect, text: &str) -> Option<String> {
        let (seconds, nanos) = compiled(pattern, dialect).unwrap().parse(text)?;
        Some(written("yyyy-MM-dd HH:mm:ss.SSS", seconds, nanos))
    }

    #[test]
    fn fields_are_written_as_wide_as_their_letters() {
        // 2024-02-29 23:59:59.123456789
        let (seconds, nanos) = (1_709_251_199, 123_456_789);
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 23:59:59.123"),
            ("yy/M/d H", "24/2/29 23"),
            ("EEE MMM, EEEE MMMM", "Thu Feb, Thursday February"),
            ("hh:mm a 'o''clock'", "11:59 PM o'clock"),
            ("D Q kk K n SSSSSS", "60 1 23 11 123456789 123456"),
        ] {
            assert_eq!(written(pattern, seconds, nanos), expected, "{pattern}");
        }
    }

    #[test]
    fn a_formatter_wants_all_of_the_text_and_a_simple_format_its_front() {
        let formatter = |pattern, text| parsed(pattern, Dialect::Formatter, text);
        let simple = |pattern, text| parsed(pattern, Dialect::Simple, text);
        assert_eq!(
            formatter("dd/MM/yyyy", "01/03/2024").as_deref(),
            Some("2024-03-01 00:00:00.000")
        );
        assert_eq!(formatter("dd/MM/yyyy", "1/3/2024"), None);
        assert_eq!(
            formatter("yyyyMMdd", "20240301").as_deref(),
            Some("2024-03-01 00:00:00.000")
        );
        assert_eq!(
            formatter("yyyy-MM-dd", "2024-02-31").as_deref(),
            Some("2024-02-29 00:00:00.000")
        );
        assert_eq!(formatter("yyyy-MM-dd", "2024-13-01"), None);
        assert_eq!(formatter("yyyy-MM-dd", "2024-01-01x"), None);
        assert_eq!(
            simple("yyyy-MM-dd", "2024-01-01x").as_deref(),
            Some("2024-01-01 00:00:00.000")
        );
        assert_eq!(
            simple("yyyy-MM-dd", "2024-13-01").as_deref(),
            Some("2025-01-01 00:00:00.000")
        );
        assert_eq!(
            simple("MM.dd.yyyy", "3.1.2024").as_deref(),
            Some("2024-03-01 00:00:00.000")
        );
    }

    #[test]
    fn letters_that_mean_nothing_here_are_named() {
        let error = compiled("yyyy-MM-dd'T'HH:mmXXX", Dialect::Formatter).unwrap_err();
        assert_eq!(
            error,
            "'XXX' of the date pattern 'yyyy-MM-dd'T'HH:mmXXX' is not supported"
        );
        assert!(compiled("yyyy 'open", Dialect::Formatter).is_err());
    }
}
