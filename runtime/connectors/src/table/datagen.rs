//! `datagen`: a generator for each column. Flink's DataGenTableSource, RandomGeneratorVisitor and SequenceGeneratorVisitor.
//!
//! Random values differ from run to run, as Flink's do. A sequence is shared out by index, so that each of its values comes once whatever the
//! parallelism; the source ends with its shortest sequence.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray,
    ListArray, MapArray, StringBuilder, StructArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, make_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as Arrow, TimeUnit};
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceAbilities, SourceColumn, SourceSpec};
use thalweg_plan::{DataType, Field, Schema, TypeRoot};

use super::columns::batch_of;
use super::options::{SOURCE_KEYS, TableOptions, problem, refusal};
use super::random::Random;
use super::{insert_only_source, physical_fields};
use crate::{DatagenSource, Source};

const DEFAULT_ROWS_PER_SECOND: f64 = 10_000.0;
const DEFAULT_LENGTH: u32 = 100;
const DEFAULT_COLLECTION_LENGTH: u32 = 3;
/// More elements or bytes of one value are refused.
const MAX_LENGTH: u32 = 1 << 24;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// A table's options, read.
struct Settings {
    rows_per_second: f64,
    number_of_rows: Option<u64>,
    /// By physical column.
    generators: Vec<(Field, Generator)>,
}

/// Makes a column.
#[derive(Debug, Clone)]
struct Generator {
    data_type: DataType,
    kind: Kind,
    null_rate: f64,
}

#[derive(Debug, Clone)]
enum Kind {
    /// The value of an index is `start` + the index.
    Sequence {
        start: i64,
    },
    Boolean,
    /// Numbers of all whole types, months and milliseconds.
    Whole {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
    },
    /// Hexadecimal text, or bytes.
    Text {
        length: u32,
        var_len: bool,
    },
    Now {
        max_past_ms: i64,
    },
    List {
        length: u32,
        element: Box<Generator>,
    },
    Map {
        length: u32,
        key: Box<Generator>,
        value: Box<Generator>,
    },
    Row(Vec<(String, Generator)>),
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

fn read(table: &CatalogTable) -> Result<Settings, ConnectorProblem> {
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

pub(crate) fn source_abilities(table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
    let settings = read(table)?;
    let bounded = settings.number_of_rows.is_some();
    Ok(SourceAbilities {
        nested_projection: false,
        limit: true,
        ..insert_only_source(bounded)
    })
}

pub(crate) fn source(spec: &SourceSpec, output: &Schema) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let settings = read(&spec.table)?;
    let generator_of = |column: &SourceColumn| match column {
        SourceColumn::Physical { path, .. } if path.len() == 1 => settings
            .generators
            .iter()
            .find(|(field, _)| field.name == path[0])
            .map(|(_, generator)| generator.clone()),
        _ => None,
    };
    let generators: Option<Vec<Generator>> = spec.columns.iter().map(generator_of).collect();
    let generators = generators.ok_or_else(|| refusal("datagen has whole physical columns only"))?;
    let schema = output.to_arrow();
    let seed = RandomState::new().hash_one(&spec.table.path);
    let batch_schema = Arc::clone(&schema);
    let make = move |range: Range<u64>| {
        let now_ms = now_ms();
        let rows = (range.end - range.start) as usize;
        let columns = generators.iter().enumerate().map(|(place, generator)| {
            let mut random = Random::new(Random::at(seed, range.start).next() ^ place as u64);
            generator.column(range.clone(), &mut random, now_ms)
        });
        let columns = columns.collect();
        // The types are the generators' own: nothing is left that could not fit.
        batch_of(&batch_schema, columns, rows)
            .unwrap_or_else(|_| arrow::array::RecordBatch::new_empty(Arc::clone(&batch_schema)))
    };
    let source = DatagenSource::new(schema, Arc::new(make)).rows_per_second(settings.rows_per_second);
    let number_of_rows = match (settings.number_of_rows, spec.limit) {
        (Some(rows), Some(limit)) => Some(rows.min(limit)),
        (rows, limit) => rows.or(limit),
    };
    let source = match number_of_rows {
        Some(rows) => source.number_of_rows(rows),
        None => source,
    };
    source
        .validate()
        .map_err(|error| problem("rows-per-second", error.to_string()))?;
    Ok(Arc::new(source))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Generator {
    fn column(&self, indices: Range<u64>, random: &mut Random, now_ms: i64) -> ArrayRef {
        let rows = (indices.end - indices.start) as usize;
        let values = match &self.kind {
            Kind::Sequence { start } => {
                let first = start.wrapping_add(indices.start.cast_signed());
                self.numbers((0..rows as i64).map(|row| first.wrapping_add(row)).collect())
            }
            Kind::Boolean => Arc::new(BooleanArray::from_iter(
                (0..rows).map(|_| Some(random.next() & 1 == 1)),
            )) as ArrayRef,
            Kind::Whole { min, max } => self.numbers((0..rows).map(|_| random.between(*min, *max)).collect()),
            Kind::Real { min, max } => {
                let between = |share: f64| min * (1.0 - share) + max * share;
                self.reals((0..rows).map(|_| between(random.unit())).collect())
            }
            Kind::Text { length, var_len } => self.texts(rows, *length, *var_len, random),
            Kind::Now { max_past_ms } => {
                let past = |random: &mut Random| match max_past_ms {
                    0 => now_ms,
                    past => now_ms.saturating_sub(random.between(0, *past)),
                };
                self.times((0..rows).map(|_| past(random)).collect())
            }
            Kind::List { length, element } => {
                let length = u64::from(*length);
                let elements = element.column(0..length * rows as u64, random, now_ms);
                let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length as usize, rows));
                let field = Arc::new(element.data_type.to_field("item"));
                Arc::new(ListArray::new(field, offsets, elements, None))
            }
            Kind::Map { length, key, value } => self.map(rows, *length, [key, value], random, now_ms),
            Kind::Row(fields) => {
                let columns: Vec<ArrayRef> = fields
                    .iter()
                    .map(|(_, field)| field.column(indices.clone(), random, now_ms))
                    .collect();
                let Arrow::Struct(types) = self.data_type.to_arrow() else {
                    return arrow::array::new_null_array(&self.data_type.to_arrow(), rows);
                };
                Arc::new(StructArray::new(types, columns, None))
            }
        };
        self.with_nulls(values, random)
    }

    fn with_nulls(&self, values: ArrayRef, random: &mut Random) -> ArrayRef {
        if self.null_rate == 0.0 {
            return values;
        }
        let valid = (0..values.len()).map(|_| random.unit() >= self.null_rate);
        let nulls: NullBuffer = valid.collect();
        match values.to_data().into_builder().nulls(Some(nulls)).build() {
            Ok(data) => make_array(data),
            Err(_) => values,
        }
    }

    fn numbers(&self, values: Vec<i64>) -> ArrayRef {
        match &self.data_type.root {
            TypeRoot::TinyInt => Arc::new(Int8Array::from_iter_values(
                values.iter().map(|value| *value as i8),
            )),
            TypeRoot::SmallInt => Arc::new(Int16Array::from_iter_values(
                values.iter().map(|value| *value as i16),
            )),
            TypeRoot::Int => Arc::new(Int32Array::from_iter_values(
                values.iter().map(|value| *value as i32),
            )),
            TypeRoot::IntervalYearMonth => Arc::new(IntervalYearMonthArray::from_iter_values(
                values.iter().map(|value| *value as i32),
            )),
            TypeRoot::IntervalDaySecond => Arc::new(DurationMillisecondArray::from(values)),
            TypeRoot::Float => Arc::new(Float32Array::from_iter_values(
                values.iter().map(|value| *value as f32),
            )),
            TypeRoot::Double => Arc::new(Float64Array::from_iter_values(
                values.iter().map(|value| *value as f64),
            )),
            TypeRoot::Decimal { precision, scale } => {
                let unit = 10_i128.pow((*scale).into());
                self.decimals(
                    values.iter().map(|value| i128::from(*value) * unit),
                    *precision,
                    *scale,
                )
            }
            TypeRoot::Char(_) | TypeRoot::VarChar(_) => {
                let mut texts = StringBuilder::with_capacity(values.len(), values.len() * 8);
                values
                    .iter()
                    .for_each(|value| texts.append_value(value.to_string()));
                Arc::new(texts.finish())
            }
            _ => Arc::new(Int64Array::from(values)),
        }
    }

    fn decimals(&self, values: impl Iterator<Item = i128>, precision: u8, scale: u8) -> ArrayRef {
        let array = Decimal128Array::from_iter_values(values);
        match array.with_precision_and_scale(precision, scale as i8) {
            Ok(array) => Arc::new(array),
            Err(_) => arrow::array::new_null_array(&self.data_type.to_arrow(), 0),
        }
    }

    fn reals(&self, values: Vec<f64>) -> ArrayRef {
        match &self.data_type.root {
            TypeRoot::Float => Arc::new(Float32Array::from_iter_values(
                values.iter().map(|value| *value as f32),
            )),
            TypeRoot::Decimal { precision, scale } => {
                let unit = 10_f64.powi((*scale).into());
                let limit = 10_i128.pow((*precision).min(38).into()) - 1;
                let unscaled = values
                    .iter()
                    .map(|value| ((value * unit) as i128).clamp(-limit, limit));
                self.decimals(unscaled, *precision, *scale)
            }
            _ => Arc::new(Float64Array::from(values)),
        }
    }

    fn texts(&self, rows: usize, length: u32, var_len: bool, random: &mut Random) -> ArrayRef {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let length_of = |random: &mut Random| match (var_len, length) {
            (true, 1..) => 1 + random.below(length.into()) as usize,
            _ => length as usize,
        };
        let mut value = Vec::new();
        if let TypeRoot::Char(_) | TypeRoot::VarChar(_) = self.data_type.root {
            let mut texts = StringBuilder::with_capacity(rows, rows * length as usize);
            for _ in 0..rows {
                value.clear();
                let length = length_of(random);
                value.extend((0..length).map(|_| HEX[(random.next() & 15) as usize]));
                texts.append_value(std::str::from_utf8(&value).unwrap_or_default());
            }
            return Arc::new(texts.finish());
        }
        let mut bytes = BinaryBuilder::with_capacity(rows, rows * length as usize);
        for _ in 0..rows {
            value.clear();
            let length = length_of(random);
            value.extend((0..length).map(|_| random.next() as u8));
            bytes.append_value(&value);
        }
        Arc::new(bytes.finish())
    }

    fn times(&self, millis: Vec<i64>) -> ArrayRef {
        match self.data_type.to_arrow() {
            Arrow::Date32 => Arc::new(Date32Array::from_iter_values(
                millis.iter().map(|value| value.div_euclid(MILLIS_PER_DAY) as i32),
            )),
            Arrow::Time32(_) => Arc::new(Time32MillisecondArray::from_iter_values(
                millis.iter().map(|value| value.rem_euclid(MILLIS_PER_DAY) as i32),
            )),
            Arrow::Timestamp(TimeUnit::Microsecond, zone) => {
                let values = millis.iter().map(|value| value.saturating_mul(1_000));
                Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone_opt(zone))
            }
            Arrow::Timestamp(TimeUnit::Nanosecond, zone) => {
                let values = millis.iter().map(|value| value.saturating_mul(1_000_000));
                Arc::new(TimestampNanosecondArray::from_iter_values(values).with_timezone_opt(zone))
            }
            Arrow::Timestamp(_, zone) => {
                Arc::new(TimestampMillisecondArray::from(millis).with_timezone_opt(zone))
            }
            other => arrow::array::new_null_array(&other, millis.len()),
        }
    }

    fn map(
        &self,
        rows: usize,
        length: u32,
        [key, value]: [&Generator; 2],
        random: &mut Random,
        now_ms: i64,
    ) -> ArrayRef {
        let arrow = self.data_type.to_arrow();
        let Arrow::Map(entries, _) = &arrow else {
            return arrow::array::new_null_array(&arrow, rows);
        };
        let Arrow::Struct(fields) = entries.data_type() else {
            return arrow::array::new_null_array(&arrow, rows);
        };
        let length = u64::from(length);
        let keys = Generator {
            null_rate: 0.0,
            ..key.clone()
        };
        let columns = vec![
            keys.column(0..length * rows as u64, random, now_ms),
            value.column(0..length * rows as u64, random, now_ms),
        ];
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length as usize, rows));
        let all = StructArray::new(fields.clone(), columns, None);
        Arc::new(MapArray::new(Arc::clone(entries), offsets, all, None, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{read as rows, table, texts, whole};
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use thalweg_plan::data_type::TimeKind;

    fn nullable(root: TypeRoot) -> DataType {
        DataType::nullable(root)
    }

    #[test]
    fn a_sequence_comes_once_at_any_parallelism_and_ends_the_source() {
        let options = [
            ("connector", "datagen"),
            ("rows-per-second", "1000000"),
            ("fields.n.kind", "sequence"),
            ("fields.n.start", "5"),
            ("fields.n.end", "14"),
            ("fields.t.kind", "sequence"),
            ("fields.t.start", "1"),
            ("fields.t.end", "100"),
        ];
        let table = table(
            &options,
            &[("n", nullable(TypeRoot::BigInt)), ("t", DataType::string())],
        );
        assert!(source_abilities(&table).unwrap().bounded);
        let (spec, output) = whole(&table);
        let expected: Vec<String> = (0..10)
            .map(|row| format!("+I[{}, {}]", row + 5, row + 1))
            .collect();
        assert_eq!(texts(&rows(&spec, &output, 3).unwrap()), expected);
    }

    #[test]
    fn random_values_of_every_type_are_within_their_options() {
        let int = || Box::new(nullable(TypeRoot::Int));
        let columns = [
            ("n", nullable(TypeRoot::BigInt)),
            ("i", nullable(TypeRoot::TinyInt)),
            (
                "d",
                nullable(TypeRoot::Decimal {
                    precision: 5,
                    scale: 2,
                }),
            ),
            ("c", nullable(TypeRoot::Char(3))),
            ("s", DataType::string()),
            ("b", nullable(TypeRoot::VarBinary(4))),
            ("ts", nullable(TypeRoot::Timestamp(9, TimeKind::Regular))),
            ("tz", nullable(TypeRoot::TimestampLtz(3, TimeKind::Regular))),
            ("day", nullable(TypeRoot::Date)),
            ("time", nullable(TypeRoot::Time(0))),
            ("ym", nullable(TypeRoot::IntervalYearMonth)),
            ("ds", nullable(TypeRoot::IntervalDaySecond)),
            ("l", nullable(TypeRoot::Array(int()))),
            ("m", nullable(TypeRoot::Map(Box::new(DataType::string()), int()))),
            ("ms", nullable(TypeRoot::Multiset(int()))),
            (
                "r",
                nullable(TypeRoot::Row(vec![Field::new("x", nullable(TypeRoot::Double))])),
            ),
        ];
        let options = [
            ("connector", "datagen"),
            ("number-of-rows", "200"),
            ("rows-per-second", "1000000"),
            ("fields.n.min", "-3"),
            ("fields.n.max", "3"),
            ("fields.n.null-rate", "0.5"),
            ("fields.s.length", "7"),
            ("fields.l.length", "2"),
            ("fields.l.element.min", "1"),
            ("fields.l.element.max", "1"),
            ("fields.r.x.null-rate", "1"),
            ("fields.ts.max-past", "1 h"),
        ];
        let table = table(&options, &columns);
        let (spec, output) = whole(&table);
        let batches = rows(&spec, &output, 2).unwrap();
        let mut nulls = 0;
        for batch in &batches {
            let numbers = batch.rows.column(0).as_primitive::<Int64Type>();
            nulls += numbers.null_count();
            assert!(numbers.iter().flatten().all(|value| (-3..=3).contains(&value)));
            assert!(
                batch
                    .rows
                    .column(4)
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .all(|text| text.len() == 7)
            );
            assert_eq!(
                batch.rows.column(15).as_struct().column(0).null_count(),
                batch.num_rows()
            );
        }
        assert!((1..200).contains(&nulls), "{nulls} of 200");
        let texts = texts(&batches);
        assert_eq!(texts.len(), 200);
        assert!(texts[0].contains("[1, 1]"), "{}", texts[0]);
    }

    #[test]
    fn options_are_checked_as_flink_checks_them() {
        let refusal = |options: &[(&str, &str)]| {
            let columns = [
                ("n", nullable(TypeRoot::Int)),
                ("s", nullable(TypeRoot::VarChar(5))),
            ];
            source_abilities(&table(options, &columns)).unwrap_err().message
        };
        assert_eq!(
            refusal(&[("fields.n.kind", "sequence"), ("fields.n.end", "1")]),
            "Could not find required property 'fields.n.start' for sequence generator."
        );
        assert_eq!(
            refusal(&[("fields.n.kind", "x")]),
            "Unsupported generator kind: x"
        );
        assert!(
            refusal(&[("fields.s.length", "6")]).starts_with("Custom length '6' for variable-length type")
        );
        let unknown = refusal(&[("fields.x.min", "1")]);
        assert!(
            unknown.starts_with("Unsupported options found for 'datagen'."),
            "{unknown}"
        );
        assert!(unknown.contains("\nfields.n.max\nfields.n.min\n"), "{unknown}");
    }
}
