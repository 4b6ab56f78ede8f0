//! ARRAY, MAP, MULTISET and ROW: part by part.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType as ArrowType;
use thalweg_plan::{DataType, TypeRoot};

use super::{Apply, Cast};
use crate::evaluator::conform;
use crate::registry::EvaluationEnv;

/// A cast of a nested type. `None`: there is none.
pub(super) fn compile(
    from: &TypeRoot,
    to: &TypeRoot,
    is_try: bool,
    env: &EvaluationEnv,
) -> Option<Result<Apply, String>> {
    let part = |from: &DataType, to: &DataType| Cast::compile(from, to, is_try, env);
    let arrow_type = DataType::nullable(to.clone()).to_arrow();
    let parts: Result<Vec<Cast>, String> = match (from, to) {
        (TypeRoot::Array(a), TypeRoot::Array(b)) | (TypeRoot::Multiset(a), TypeRoot::Multiset(b)) => {
            part(a, b).map(|cast| vec![cast])
        }
        (TypeRoot::Map(k, v), TypeRoot::Map(l, w)) => part(k, l).and_then(|key| Ok(vec![key, part(v, w)?])),
        (TypeRoot::Row(a), TypeRoot::Row(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .map(|(a, b)| part(&a.data_type, &b.data_type))
            .collect(),
        _ => return None,
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => return Some(Err(error)),
    };
    let is_row = matches!(from, TypeRoot::Row(_));
    let is_list = matches!(from, TypeRoot::Array(_));
    Some(Ok(match () {
        () if is_row => {
            Box::new(move |array: &ArrayRef, env: &EvaluationEnv| row(array, &parts, &arrow_type, env))
        }
        () if is_list => {
            Box::new(move |array: &ArrayRef, env: &EvaluationEnv| list(array, &parts[0], &arrow_type, env))
        }
        () => Box::new(move |array: &ArrayRef, env: &EvaluationEnv| map(array, &parts, &arrow_type, env)),
    }))
}

fn list(array: &ArrayRef, cast: &Cast, to: &ArrowType, env: &EvaluationEnv) -> Result<ArrayRef, String> {
    let list = array.as_list::<i32>();
    let ArrowType::List(field) = to else {
        return Err(format!("no ARRAY: {to}"));
    };
    let values = conform(cast.apply(list.values(), env)?, field.data_type())?;
    let cast = ListArray::try_new(
        Arc::clone(field),
        list.offsets().clone(),
        values,
        list.nulls().cloned(),
    );
    Ok(Arc::new(cast.map_err(|error| error.to_string())?))
}

fn row(array: &ArrayRef, casts: &[Cast], to: &ArrowType, env: &EvaluationEnv) -> Result<ArrayRef, String> {
    let ArrowType::Struct(fields) = to else {
        return Err(format!("no ROW: {to}"));
    };
    let array = array.as_struct();
    let columns = array
        .columns()
        .iter()
        .zip(casts)
        .zip(fields)
        .map(|((column, cast), field)| conform(cast.apply(column, env)?, field.data_type()))
        .collect::<Result<Vec<_>, String>>()?;
    let cast = StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len());
    Ok(Arc::new(cast.map_err(|error| error.to_string())?))
}

/// A MULTISET's counts stay.
fn map(array: &ArrayRef, casts: &[Cast], to: &ArrowType, env: &EvaluationEnv) -> Result<ArrayRef, String> {
    let map = array.as_map();
    let ArrowType::Map(entries, _) = to else {
        return Err(format!("no MAP: {to}"));
    };
    let ArrowType::Struct(fields) = entries.data_type() else {
        return Err(format!("no MAP: {to}"));
    };
    let mut columns = Vec::with_capacity(2);
    for (index, column) in [map.keys(), map.values()].into_iter().enumerate() {
        let column = match casts.get(index) {
            Some(cast) => cast.apply(column, env)?,
            None => Arc::clone(column),
        };
        columns.push(conform(column, fields[index].data_type())?);
    }
    let failed = |error: arrow::error::ArrowError| error.to_string();
    let structs = StructArray::try_new(fields.clone(), columns, None).map_err(failed)?;
    let cast = MapArray::try_new(
        Arc::clone(entries),
        map.offsets().clone(),
        structs,
        map.nulls().cloned(),
        false,
    );
    Ok(Arc::new(cast.map_err(failed)?))
}

/// A cast that makes a row null if any part of it fails; rows are looked at one by one only if one does.
pub(super) fn row_by_row(cast: Apply, to: ArrowType) -> Apply {
    Box::new(move |array: &ArrayRef, env: &EvaluationEnv| {
        if let Ok(all) = cast(array, env) {
            return Ok(all);
        }
        let rows: Vec<ArrayRef> = (0..array.len())
            .map(|row| cast(&array.slice(row, 1), env).unwrap_or_else(|_| new_null_array(&to, 1)))
            .map(|row| conform(row, &to))
            .collect::<Result<_, _>>()?;
        let rows: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
        concat(&rows).map_err(|error| error.to_string())
    })
}
