//! A table's options, read into a generator a column.

use thalweg_plan::connector::{CatalogTable, ConnectorProblem};
use thalweg_plan::{DataType, Field, TypeRoot};

use super::generator::{Generator, Kind};
use crate::table::options::{SOURCE_KEYS, TableOptions, problem, refusal};
use crate::table::physical_fields;

const DEFAULT_ROWS_PER_SECOND: f64 = 10_000.0;
const DEFAULT_LENGTH: u32 = 100;
const DEFAULT_COLLECTION_LENGTH: u32 = 3;
/// More elements or bytes of one value are refused.
const MAX_LENGTH: u32 = 1 << 24;

/// A table's options, read.
pub(super) struct Settings {
    pub(super) rows_per_second: f64,
    pub(super) number_of_rows: Option<u64>,
    /// By physical column.
    pub(super) generators: Vec<(Field, Generator)>,
}

/// Reads the options of one column.
struct FieldOptions<'a, 'o> {
    options: &'a mut TableOptions<'o>,
    /// `fields.<name>`
    name: String,
}

impl FieldOptions<'_, '_> {
    fn key(&mut self, suffix: &str) -> String {
        let key = format!("{}.{suffix}", self.name);
        self.options.support([key.clone()]);
        key
    }

    fn whole(&mut self, min: i64, max: i64) -> Result<Kind, ConnectorProblem> {
        let (min_key, max_key) = (self.key("min"), self.key("max"));
        let given_min = self.options.number(&min_key)?.unwrap_or(min);
        let given_max = self.options.number(&max_key)?.unwrap_or(max);
        if given_min < min || given_max > max || given_min > given_max {
            return Err(problem(
                &min_key,
                format!(
                    "'{min_key}' and '{max_key}' must be a range within {min} and {max}, not {given_min} to {given_max}."
                ),
            ));
        }
        Ok(Kind::Whole {
            min: given_min,
            max: given_max,
        })
    }

    fn real(&mut self, min: f64, max: f64) -> Result<Kind, ConnectorProblem> {
        let (min_key, max_key) = (self.key("min"), self.key("max"));
        let min = self.options.number(&min_key)?.unwrap_or(min);
        let max = self.options.number(&max_key)?.unwrap_or(max);
        if !(min.is_finite() && max.is_finite() && min <= max) {
            return Err(problem(
                &min_key,
                format!("'{min_key}' and '{max_key}' must be a range, not {min} to {max}."),
            ));
        }
        Ok(Kind::Real { min, max })
    }

    /// Of CHAR and BINARY it is given, of VARCHAR and VARBINARY it may be shorter.
    fn text(&mut self, declared: u32, is_fixed: bool) -> Result<Kind, ConnectorProblem> {
        let field = self.name.trim_start_matches("fields.").to_owned();
        let key = format!("{}.length", self.name);
        if is_fixed {
            if self.options.get(&key).is_some() {
                return Err(problem(
                    &key,
                    format!(
                        "Custom length for fixed-length type (CHAR/BINARY) field '{field}' is not supported."
                    ),
                ));
            }
            return Ok(Kind::Text {
                length: self.bounded(&key, declared)?,
                var_len: false,
            });
        }
        let (key, var_len_key) = (self.key("length"), self.key("var-len"));
        let var_len = self.options.boolean(&var_len_key, false)?;
        let length = match self.options.number::<u32>(&key)? {
            Some(length) if length > declared => {
                return Err(problem(
                    &key,
                    format!(
                        "Custom length '{length}' for variable-length type (VARCHAR/STRING/VARBINARY/BYTES) field '{field}' should be \
                         shorter than '{declared}' defined in the schema."
                    ),
                ));
            }
            Some(length) => self.bounded(&key, length)?,
            None if declared == thalweg_plan::data_type::MAX_LENGTH => DEFAULT_LENGTH,
            None => self.bounded(&key, declared)?,
        };
        Ok(Kind::Text { length, var_len })
    }

    fn bounded(&self, key: &str, length: u32) -> Result<u32, ConnectorProblem> {
        if length <= MAX_LENGTH {
            return Ok(length);
        }
        Err(problem(
            key,
            format!(
                "values of {} would be {length} long: {MAX_LENGTH} at most is possible; set '{key}'",
                self.name
            ),
        ))
    }

    fn collection_length(&mut self) -> Result<u32, ConnectorProblem> {
        let key = self.key("length");
        let length = self.options.number(&key)?.unwrap_or(DEFAULT_COLLECTION_LENGTH);
        self.bounded(&key, length)
    }

    fn below(&mut self, name: &str, data_type: &DataType) -> Result<Generator, ConnectorProblem> {
        let name = format!("{}.{name}", self.name);
        let mut options = FieldOptions {
            options: &mut *self.options,
            name,
        };
        options.random(data_type)
    }

    fn random(&mut self, data_type: &DataType) -> Result<Generator, ConnectorProblem> {
        let kind = match &data_type.root {
            TypeRoot::Boolean => Kind::Boolean,
            TypeRoot::TinyInt => self.whole(i8::MIN.into(), i8::MAX.into())?,
            TypeRoot::SmallInt => self.whole(i16::MIN.into(), i16::MAX.into())?,
            TypeRoot::Int => self.whole(i32::MIN.into(), i32::MAX.into())?,
            TypeRoot::BigInt | TypeRoot::IntervalDaySecond => self.whole(i64::MIN, i64::MAX)?,
            TypeRoot::IntervalYearMonth => self.whole(0, 120_000)?,
            // Java's Float.MIN_VALUE and Double.MIN_VALUE are the least above 0.
            TypeRoot::Float => self.real(1.4e-45, f32::MAX.into())?,
            TypeRoot::Double => self.real(4.9e-324, f64::MAX)?,
            TypeRoot::Decimal { precision, scale } => {
                let unit = 10_f64.powi(-i32::from(*scale));
                let largest = 10_f64.powi(i32::from(*precision) - i32::from(*scale)) - unit;
                match self.real(4.9e-324, f64::MAX)? {
                    Kind::Real { min, max } => Kind::Real {
                        min: min.max(-largest),
                        max: max.min(largest),
                    },
                    other => other,
                }
            }
            TypeRoot::Char(length) | TypeRoot::Binary(length) => self.text(*length, true)?,
            TypeRoot::VarChar(length) | TypeRoot::VarBinary(length) => self.text(*length, false)?,
            TypeRoot::Date | TypeRoot::Time(_) => Kind::Now { max_past_ms: 0 },
            TypeRoot::Timestamp(..) | TypeRoot::TimestampLtz(..) => {
                let key = self.key("max-past");
                let max_past = self.options.duration(&key)?.unwrap_or_default();
                Kind::Now {
                    max_past_ms: i64::try_from(max_past.as_millis()).unwrap_or(i64::MAX),
                }
            }
            TypeRoot::Array(element) => Kind::List {
                length: self.collection_length()?,
                element: Box::new(self.below("element", element)?),
            },
            TypeRoot::Multiset(element) => Kind::Map {
                length: self.collection_length()?,
                key: Box::new(self.below("element", element)?),
                value: Box::new(Generator {
                    data_type: DataType::not_null(TypeRoot::Int),
                    kind: Kind::Whole { min: 0, max: 9 },
                    null_rate: 0.0,
                }),
            },
            TypeRoot::Map(key, value) => Kind::Map {
                length: self.collection_length()?,
                key: Box::new(self.below("key", key)?),
                value: Box::new(self.below("value", value)?),
            },
            TypeRoot::Row(fields) => Kind::Row(
                fields
                    .iter()
                    .map(|field| Ok((field.name.clone(), self.below(&field.name, &field.data_type)?)))
                    .collect::<Result<_, ConnectorProblem>>()?,
            ),
            TypeRoot::Null => return Err(refusal(format!("Unsupported type: {data_type}"))),
        };
        let key = self.key("null-rate");
        let null_rate: f64 = self.options.number(&key)?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) || (null_rate > 0.0 && !data_type.nullable) {
            return Err(problem(
                &key,
                format!(
                    "'{key}' must be between 0 and 1, and 0 for a column that is NOT NULL, not {null_rate}."
                ),
            ));
        }
        Ok(Generator {
            data_type: data_type.clone(),
            kind,
            null_rate,
        })
    }

    /// The generator, and how many values there are.
    fn sequence(&mut self, data_type: &DataType) -> Result<(Generator, u64), ConnectorProblem> {
        let is_possible = matches!(
            data_type.root,
            TypeRoot::TinyInt
                | TypeRoot::SmallInt
                | TypeRoot::Int
                | TypeRoot::BigInt
                | TypeRoot::Float
                | TypeRoot::Double
                | TypeRoot::Decimal { .. }
                | TypeRoot::Char(_)
                | TypeRoot::VarChar(_)
        );
        if !is_possible {
            return Err(refusal(format!("Unsupported type: {data_type}")));
        }
        let keys = [self.key("start"), self.key("end")];
        let mut ends = [0_i64; 2];
        for (end, key) in ends.iter_mut().zip(&keys) {
            let missing = || {
                problem(
                    key,
                    format!("Could not find required property '{key}' for sequence generator."),
                )
            };
            *end = self.options.number(key)?.ok_or_else(missing)?;
        }
        let [start, end] = ends;
        let range = match data_type.root {
            TypeRoot::TinyInt => i8::MIN.into()..=i8::MAX.into(),
            TypeRoot::SmallInt => i16::MIN.into()..=i16::MAX.into(),
            TypeRoot::Int => i32::MIN.into()..=i32::MAX.into(),
            _ => i64::MIN..=i64::MAX,
        };
        if start > end || !range.contains(&start) || !range.contains(&end) {
            return Err(problem(
                &keys[0],
                format!(
                    "'{}' to '{}' is no range of {data_type}: {start} to {end}.",
                    keys[0], keys[1]
                ),
            ));
        }
        let generator = Generator {
            data_type: data_type.clone(),
            kind: Kind::Sequence { start },
            null_rate: 0.0,
        };
        Ok((
            generator,
            end.wrapping_sub(start).cast_unsigned().saturating_add(1),
        ))
    }
}

pub(super) fn read(table: &CatalogTable) -> Result<Settings, ConnectorProblem> {
    let keys = SOURCE_KEYS
        .into_iter()
        .chain(["rows-per-second", "number-of-rows"]);
    let mut options = TableOptions::new("datagen", table, keys);
    let mut generators = Vec::new();
    let mut number_of_rows = options.number("number-of-rows")?;
    for field in physical_fields(table) {
        let mut of_field = FieldOptions {
            options: &mut options,
            name: format!("fields.{}", field.name),
        };
        let kind = of_field.key("kind");
        let generator = match of_field.options.get(&kind) {
            None | Some("random") => of_field.random(&field.data_type)?,
            Some("sequence") => {
                let (generator, values) = of_field.sequence(&field.data_type)?;
                number_of_rows = Some(number_of_rows.map_or(values, |rows: u64| rows.min(values)));
                generator
            }
            Some(other) => return Err(problem(&kind, format!("Unsupported generator kind: {other}"))),
        };
        generators.push((field, generator));
    }
    let rows_per_second = options
        .number("rows-per-second")?
        .unwrap_or(DEFAULT_ROWS_PER_SECOND);
    options.validate(&[])?;
    Ok(Settings {
        rows_per_second,
        number_of_rows,
        generators,
    })
}
