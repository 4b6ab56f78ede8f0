//! Intervals and the names of units of time.

use sqlparser::ast::{DateTimeField, Expr, Interval, UnaryOperator};

use super::cursor::Parser;
use super::token::TokenKind;
use crate::error::SqlError;

impl Parser<'_> {
    pub(super) fn interval(&mut self) -> Result<Expr, SqlError> {
        self.expect("INTERVAL")?;
        let negative = self.accept_symbol("-");
        if !negative {
            self.accept_symbol("+");
        }
        if self.peek().kind != TokenKind::String {
            return Err(SqlError::unsupported(
                "INTERVAL of an expression is not supported: expected a string, as in INTERVAL '10' SECOND",
                self.position(),
            ));
        }
        let mut value = Expr::Value(self.string_value()?);
        if negative {
            value = Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: Box::new(value),
            };
        }
        let qualifier = self.interval_qualifier()?;
        Ok(Expr::Interval(Interval {
            value: Box::new(value),
            leading_field: Some(qualifier.leading),
            leading_precision: qualifier.leading_precision,
            last_field: qualifier.last,
            fractional_seconds_precision: qualifier.fraction,
        }))
    }

    /// `DAY(2) TO SECOND(3)`.
    pub(crate) fn interval_qualifier(&mut self) -> Result<Qualifier, SqlError> {
        let position = self.position();
        let (from, leading) = self.interval_unit(&INTERVAL_UNITS)?;
        let mut qualifier = Qualifier {
            leading,
            leading_precision: None,
            last: None,
            fraction: None,
        };
        if self.accept_symbol("(") {
            qualifier.leading_precision = Some(self.whole_number()?);
            if from == "SECOND" && self.accept_symbol(",") {
                qualifier.fraction = Some(self.whole_number()?);
            }
            self.expect_symbol(")")?;
        }
        if self.accept("TO") {
            let (to, last) = self.interval_unit(&INTERVAL_UNITS)?;
            let fits = matches!(
                (from, to),
                ("YEAR", "MONTH")
                    | ("DAY", "HOUR" | "MINUTE" | "SECOND")
                    | ("HOUR", "MINUTE" | "SECOND")
                    | ("MINUTE", "SECOND")
            );
            if !fits {
                return Err(SqlError::syntax(
                    format!("There is no INTERVAL {from} TO {to}"),
                    position,
                ));
            }
            qualifier.last = Some(last);
            if to == "SECOND" && self.accept_symbol("(") {
                qualifier.fraction = Some(self.whole_number()?);
                self.expect_symbol(")")?;
            }
        }
        Ok(qualifier)
    }

    pub(super) fn interval_unit(
        &mut self,
        units: &[(&'static str, &'static str, DateTimeField)],
    ) -> Result<(&'static str, DateTimeField), SqlError> {
        for (unit, plural, field) in units {
            if self.accept(unit) || self.accept(plural) {
                return Ok((unit, field.clone()));
            }
        }
        Err(self.unexpected())
    }

    /// A unit of EXTRACT, FLOOR, CEIL.
    pub(super) fn time_unit(&mut self) -> Result<DateTimeField, SqlError> {
        let units = TIME_UNITS.iter().find(|(unit, _)| self.at_word(unit));
        let Some((_, field)) = units else {
            return Err(self.unexpected());
        };
        self.next();
        Ok(field.clone())
    }
}

/// Units of an interval.
pub(crate) struct Qualifier {
    /// The first unit.
    pub(crate) leading: DateTimeField,
    leading_precision: Option<u64>,
    last: Option<DateTimeField>,
    fraction: Option<u64>,
}

impl Qualifier {
    /// Whether it is of months, not of milliseconds.
    pub(crate) fn is_year_month(&self) -> bool {
        matches!(
            self.leading,
            DateTimeField::Year | DateTimeField::Quarter | DateTimeField::Month
        )
    }
}

const INTERVAL_UNITS: [(&str, &str, DateTimeField); 8] = [
    ("YEAR", "YEARS", DateTimeField::Year),
    ("QUARTER", "QUARTERS", DateTimeField::Quarter),
    ("MONTH", "MONTHS", DateTimeField::Month),
    ("WEEK", "WEEKS", DateTimeField::Week(None)),
    ("DAY", "DAYS", DateTimeField::Day),
    ("HOUR", "HOURS", DateTimeField::Hour),
    ("MINUTE", "MINUTES", DateTimeField::Minute),
    ("SECOND", "SECONDS", DateTimeField::Second),
];

const TIME_UNITS: [(&str, DateTimeField); 19] = [
    ("YEAR", DateTimeField::Year),
    ("QUARTER", DateTimeField::Quarter),
    ("MONTH", DateTimeField::Month),
    ("WEEK", DateTimeField::Week(None)),
    ("DAY", DateTimeField::Day),
    ("HOUR", DateTimeField::Hour),
    ("MINUTE", DateTimeField::Minute),
    ("SECOND", DateTimeField::Second),
    ("MILLISECOND", DateTimeField::Millisecond),
    ("MICROSECOND", DateTimeField::Microsecond),
    ("NANOSECOND", DateTimeField::Nanosecond),
    ("DOW", DateTimeField::Dow),
    ("DOY", DateTimeField::Doy),
    ("EPOCH", DateTimeField::Epoch),
    ("ISODOW", DateTimeField::Isodow),
    ("ISOYEAR", DateTimeField::Isoyear),
    ("CENTURY", DateTimeField::Century),
    ("DECADE", DateTimeField::Decade),
    ("MILLENNIUM", DateTimeField::Millennium),
];
