//! Whether a Parquet file holds what a scan wants, and how it is to be read.
//!
//! The file's types as Arrow are walked beside the wanted ones, leaf by leaf: what comes out are the leaves to read, and the types
//! in which they are read. Fields go by name; one that the file doesn't have is null.

use std::sync::Arc;

use arrow::datatypes::{DataType as Arrow, Field as ArrowField, FieldRef, Schema, SchemaRef, TimeUnit};
use parquet::basic::Type as Physical;
use parquet::schema::types::SchemaDescriptor;
use thalweg_plan::data_type::time_unit;
use thalweg_plan::{DataType, Field, TypeRoot};

/// What is read of a file.
pub(super) struct Fit {
    /// Of all columns of the file.
    pub(super) schema: SchemaRef,
    pub(super) leaves: Vec<usize>,
}

struct Walk<'a> {
    file: &'a SchemaDescriptor,
    next: usize,
    leaves: Vec<usize>,
}

/// The error names the column and both types.
pub(super) fn fit(file: &SchemaDescriptor, inferred: &Schema, wanted: &[Field]) -> Result<Fit, String> {
    let missing = |field: &&Field| {
        !field.data_type.nullable && !inferred.fields().iter().any(|there| *there.name() == field.name)
    };
    if let Some(field) = wanted.iter().find(missing) {
        return Err(format!(
            "column {:?} is {} in the table, and the file has no such column: one that may be missing must not be NOT NULL",
            field.name, field.data_type
        ));
    }
    let mut walk = Walk {
        file,
        next: 0,
        leaves: Vec::new(),
    };
    let fields = walk.fields(inferred.fields(), Some(wanted), "")?;
    Ok(Fit {
        schema: Arc::new(Schema::new(fields)),
        leaves: walk.leaves,
    })
}

impl Walk<'_> {
    fn fields(
        &mut self,
        fields: &[FieldRef],
        wanted: Option<&[Field]>,
        path: &str,
    ) -> Result<Vec<FieldRef>, String> {
        let field = |field: &FieldRef| {
            let found = wanted.and_then(|wanted| wanted.iter().find(|wanted| wanted.name == *field.name()));
            let path = match path {
                "" => field.name().clone(),
                path => format!("{path}.{}", field.name()),
            };
            self.field(field, found.map(|found| &found.data_type), &path)
        };
        fields.iter().map(field).collect()
    }

    fn field(&mut self, field: &FieldRef, wanted: Option<&DataType>, path: &str) -> Result<FieldRef, String> {
        let data_type = self.data_type(field, wanted, path)?;
        Ok(Arc::new(
            ArrowField::new(field.name(), data_type, field.is_nullable())
                .with_metadata(field.metadata().clone()),
        ))
    }

    fn data_type(
        &mut self,
        field: &FieldRef,
        wanted: Option<&DataType>,
        path: &str,
    ) -> Result<Arrow, String> {
        let root = wanted.map(|wanted| &wanted.root);
        let first = self.next;
        let data_type = match (field.data_type(), root) {
            (Arrow::Struct(fields), Some(TypeRoot::Row(wanted))) => {
                let (before, fields) = (self.leaves.len(), self.fields(fields, Some(wanted), path)?);
                if self.leaves.len() == before {
                    // None of its fields is wanted, but whether it is null.
                    self.leaves.push(first);
                }
                Arrow::Struct(fields.into())
            }
            (Arrow::Struct(fields), None) => Arrow::Struct(self.fields(fields, None, path)?.into()),
            (Arrow::List(item), Some(TypeRoot::Array(element))) => {
                Arrow::List(self.field(item, Some(element), path)?)
            }
            (Arrow::List(item), None) => Arrow::List(self.field(item, None, path)?),
            (Arrow::Map(entries, sorted), None) => Arrow::Map(self.field(entries, None, path)?, *sorted),
            (Arrow::Map(entries, sorted), Some(TypeRoot::Map(key, value))) => {
                Arrow::Map(self.entries(entries, key, value, path)?, *sorted)
            }
            (Arrow::Map(entries, sorted), Some(TypeRoot::Multiset(element))) => {
                let count = DataType::not_null(TypeRoot::Int);
                Arrow::Map(self.entries(entries, element, &count, path)?, *sorted)
            }
            (Arrow::Struct(_) | Arrow::List(_) | Arrow::Map(..), Some(_)) => {
                return Err(misfit(path, &described(field.data_type()), wanted));
            }
            (leaf, _) => self.leaf(leaf, wanted, path)?,
        };
        Ok(data_type)
    }

    fn entries(
        &mut self,
        entries: &FieldRef,
        key: &DataType,
        value: &DataType,
        path: &str,
    ) -> Result<FieldRef, String> {
        let Arrow::Struct(pair) = entries.data_type() else {
            return Err(format!("column {path:?}: its map has no entries"));
        };
        // By place: files name them as they like.
        let types = [key, value];
        let fields = pair
            .iter()
            .zip(types)
            .map(|(field, wanted)| self.field(field, Some(wanted), path));
        let fields: Vec<FieldRef> = fields.collect::<Result<_, _>>()?;
        Ok(Arc::new(ArrowField::new(
            entries.name(),
            Arrow::Struct(fields.into()),
            entries.is_nullable(),
        )))
    }

    fn leaf(&mut self, found: &Arrow, wanted: Option<&DataType>, path: &str) -> Result<Arrow, String> {
        let leaf = self.next;
        self.next += 1;
        let Some(wanted) = wanted else {
            return Ok(found.clone());
        };
        self.leaves.push(leaf);
        let physical = self.file.column(leaf).physical_type();
        read_as(found, physical, &wanted.root).ok_or_else(|| {
            let annotated = described(found);
            let found = match physical.to_string() {
                plain if *found == Arrow::Null => format!("{plain} of nulls"),
                plain => format!("{plain} ({annotated})"),
            };
            misfit(path, &found, Some(wanted))
        })
    }
}

fn misfit(path: &str, found: &str, wanted: Option<&DataType>) -> String {
    let wanted = wanted.map(ToString::to_string).unwrap_or_default();
    format!(
        "column {path:?} is {found} in the file and {wanted} in the table: declare the column as the file has it"
    )
}

/// A type of a file, as SQL would name it.
fn described(found: &Arrow) -> String {
    match found {
        Arrow::Struct(_) => "ROW".to_owned(),
        Arrow::List(_) => "ARRAY".to_owned(),
        Arrow::Map(..) => "MAP".to_owned(),
        Arrow::Boolean => "BOOLEAN".to_owned(),
        Arrow::Int8 => "TINYINT".to_owned(),
        Arrow::Int16 => "SMALLINT".to_owned(),
        Arrow::Int32 => "INT".to_owned(),
        Arrow::Int64 => "BIGINT".to_owned(),
        Arrow::Float32 => "FLOAT".to_owned(),
        Arrow::Float64 => "DOUBLE".to_owned(),
        Arrow::Utf8 => "STRING".to_owned(),
        Arrow::Binary => "BYTES".to_owned(),
        Arrow::Date32 => "DATE".to_owned(),
        Arrow::Time32(_) | Arrow::Time64(_) => "TIME".to_owned(),
        Arrow::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        Arrow::Timestamp(_, Some(_)) => "TIMESTAMP_LTZ".to_owned(),
        Arrow::Decimal128(precision, scale) | Arrow::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        other => other.to_string(),
    }
}

/// In which type a leaf is read; `None`: it is none of the wanted type. As Flink, which goes by the physical type: no number is widened.
fn read_as(found: &Arrow, physical: Physical, wanted: &TypeRoot) -> Option<Arrow> {
    let same = || Some(found.clone());
    match (found, wanted) {
        (Arrow::Null, _) => same(),
        (Arrow::Boolean, TypeRoot::Boolean)
        | (Arrow::Float32, TypeRoot::Float)
        | (Arrow::Float64, TypeRoot::Double)
        | (Arrow::Int64 | Arrow::UInt64, TypeRoot::BigInt)
        | (Arrow::Date32, TypeRoot::Date | TypeRoot::Int)
        | (Arrow::Time32(TimeUnit::Millisecond), TypeRoot::Time(_) | TypeRoot::Int)
        | (Arrow::Int32, TypeRoot::Date | TypeRoot::Time(_))
        | (
            Arrow::Int8 | Arrow::Int16 | Arrow::Int32 | Arrow::UInt8 | Arrow::UInt16 | Arrow::UInt32,
            TypeRoot::TinyInt | TypeRoot::SmallInt | TypeRoot::Int,
        )
        | (
            Arrow::Utf8,
            TypeRoot::Char(_) | TypeRoot::VarChar(_) | TypeRoot::Binary(_) | TypeRoot::VarBinary(_),
        ) => same(),
        (Arrow::Binary, TypeRoot::Binary(_) | TypeRoot::VarBinary(_)) => same(),
        (Arrow::Binary, TypeRoot::Char(_) | TypeRoot::VarChar(_)) => Some(Arrow::Utf8),
        (
            Arrow::Decimal128(precision, scale),
            TypeRoot::Decimal {
                precision: most,
                scale: wanted,
            },
        ) => (precision <= most && i16::from(*scale) == i16::from(*wanted)).then(|| found.clone()),
        (Arrow::Timestamp(..), TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _)) => {
            match physical {
                // In a coarser unit more years fit.
                Physical::INT96 => Some(Arrow::Timestamp(time_unit(*precision), None)),
                _ => same(),
            }
        }
        _ => None,
    }
}
