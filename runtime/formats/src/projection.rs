//! What of a table's columns is wanted: a pruned row, and where in it each output column is.

use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType as Arrow;
use thalweg_plan::connector::SourceColumn;
use thalweg_plan::{DataType, Field, TypeRoot};

use crate::FormatError;

/// Wanted columns, by their paths.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// What has to be decoded: physical columns and only the fields in them that are wanted, in the order in which they are first.
    pub fields: Vec<Field>,
    /// The output's columns: positions from `fields` down.
    outputs: Vec<Vec<usize>>,
}

impl Projection {
    /// All of these columns.
    pub fn all(fields: &[Field]) -> Self {
        Self {
            fields: fields.to_vec(),
            outputs: (0..fields.len()).map(|field| vec![field]).collect(),
        }
    }

    /// The physical ones of `columns`, from a row of `physical`; a path that leads nowhere is its own name.
    pub fn new<'a>(
        physical: &[Field],
        columns: impl IntoIterator<Item = &'a SourceColumn>,
    ) -> Result<Self, String> {
        let paths: Vec<&[String]> = columns
            .into_iter()
            .filter_map(|column| match column {
                SourceColumn::Physical { path, .. } => Some(path.as_slice()),
                SourceColumn::Metadata { .. } => None,
            })
            .collect();
        let mut fields = Vec::new();
        for path in &paths {
            want(&mut fields, physical, path)?;
        }
        let position = |path: &&[String]| position_of(&fields, path);
        let outputs = paths.iter().map(position).collect::<Option<_>>();
        let outputs = outputs.ok_or("the columns that are wanted are not among those that are read")?;
        Ok(Self { fields, outputs })
    }

    /// How many columns come out.
    pub fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Whether none comes out.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// The output's columns from those of `fields`.
    pub fn outputs(&self, decoded: &[ArrayRef]) -> Result<Vec<ArrayRef>, FormatError> {
        self.outputs.iter().map(|path| output(decoded, path)).collect()
    }
}

/// Adds a path to what is wanted of `available`.
fn want(wanted: &mut Vec<Field>, available: &[Field], path: &[String]) -> Result<(), String> {
    let Some((name, below)) = path.split_first() else {
        return Err("a column without a name is wanted".to_owned());
    };
    let Some(field) = available.iter().find(|field| field.name == *name) else {
        return Err(format!("there is no column or field {name:?}"));
    };
    if below.is_empty() {
        match wanted.iter_mut().find(|field| field.name == *name) {
            Some(there) => *there = field.clone(),
            None => wanted.push(field.clone()),
        }
        return Ok(());
    }
    let TypeRoot::Row(inner) = &field.data_type.root else {
        return Err(format!("{name:?} is {} and has no fields", field.data_type));
    };
    let place = match wanted.iter().position(|field| field.name == *name) {
        Some(place) => place,
        None => {
            wanted.push(Field {
                name: name.clone(),
                data_type: DataType {
                    root: TypeRoot::Row(Vec::new()),
                    nullable: field.data_type.nullable,
                },
            });
            wanted.len() - 1
        }
    };
    match &mut wanted[place].data_type.root {
        // If the whole field is wanted, this one is in it already.
        TypeRoot::Row(below_wanted) if below_wanted != inner => want(below_wanted, inner, below),
        _ => Ok(()),
    }
}

fn position_of(fields: &[Field], path: &[String]) -> Option<Vec<usize>> {
    let (name, below) = path.split_first()?;
    let place = fields.iter().position(|field| field.name == *name)?;
    let mut positions = vec![place];
    if let (false, TypeRoot::Row(inner)) = (below.is_empty(), &fields[place].data_type.root) {
        positions.extend(position_of(inner, below)?);
    }
    Some(positions)
}

fn output(decoded: &[ArrayRef], path: &[usize]) -> Result<ArrayRef, FormatError> {
    let bug = || FormatError::Columns("a wanted field is not among the decoded".to_owned());
    let (first, below) = path.split_first().ok_or_else(bug)?;
    let mut column = decoded.get(*first).ok_or_else(bug)?.clone();
    for field in below {
        let row = column.as_struct_opt().ok_or_else(bug)?;
        let inner = row.columns().get(*field).ok_or_else(bug)?;
        column = masked(inner, row.nulls())?;
    }
    Ok(column)
}

/// A field of a row that may be null.
fn masked(field: &ArrayRef, row: Option<&NullBuffer>) -> Result<ArrayRef, FormatError> {
    let has_nulls = |row: &&NullBuffer| row.null_count() > 0 && *field.data_type() != Arrow::Null;
    let Some(row) = row.filter(has_nulls) else {
        return Ok(field.clone());
    };
    let nulls = NullBuffer::union(Some(row), field.nulls());
    let data = field.to_data().into_builder().nulls(nulls).build();
    let data = data.map_err(|error| FormatError::Columns(error.to_string()))?;
    Ok(make_array(data))
}
