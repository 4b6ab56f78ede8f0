//! ROW, ARRAY and MAP, and what reads them: FIELD, ITEM, ELEMENT, CARDINALITY.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, ListArray, MapArray, StructArray, UInt32Array, new_empty_array,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType as ArrowType, Int32Type};
use thalweg_plan::{DataType, Expr, ExprKind, Field, Literal, TypeRoot};

use super::comparison::equality;
use super::{any_nullable, exactly, types};
use crate::common_type::common_type;
use crate::evaluator::conform;
use crate::registry::{Call, ScalarFunction, Signature, Value};

macro_rules! functions {
    ($($name:literal, $usage:literal, $infer:ident, $kernel:ident;)*) => {
        &[$(ScalarFunction { name: $name, usage: $usage, infer: $infer, kernel: $kernel, is_deterministic: true },)*]
    };
}

pub(super) const FUNCTIONS: &[ScalarFunction] = functions! {
    "ROW", "ROW(value, ..)", infer_row, row;
    "ARRAY", "ARRAY[value, ..]", infer_array, array;
    "MAP", "MAP[key, value, ..]", infer_map, map;
    "FIELD", "row.field", infer_field, field;
    "ITEM", "array[position], map[key]", infer_item, item;
    "ELEMENT", "ELEMENT(array)", infer_element, element;
    "CARDINALITY", "CARDINALITY(array or map)", infer_cardinality, cardinality;
};

fn infer_row(args: &[Expr]) -> Result<Signature, String> {
    let named = |(position, arg): (usize, &Expr)| {
        Field::new(format!("EXPR${position}"), arg.data_type.clone().materialized())
    };
    Ok(Signature {
        args: args
            .iter()
            .map(|arg| arg.data_type.clone().materialized())
            .collect(),
        result: DataType::not_null(TypeRoot::Row(args.iter().enumerate().map(named).collect())),
    })
}

fn row(call: &Call<'_>) -> Result<ArrayRef, String> {
    let ArrowType::Struct(fields) = call.data_type.to_arrow() else {
        return Err("no ROW".into());
    };
    let columns = call
        .args
        .iter()
        .zip(&fields)
        .map(|(arg, field)| conform(arg.to_array(call.rows), field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    let array = StructArray::try_new_with_length(fields, columns, None, call.rows)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(array))
}

fn infer_array(args: &[Expr]) -> Result<Signature, String> {
    let element = common_type(&types(args)).ok_or("Parameters must be of the same type")?;
    let element = element.materialized();
    Ok(Signature {
        args: args
            .iter()
            .map(|arg| element.clone().with_nullable(arg.data_type.nullable))
            .collect(),
        result: DataType::not_null(TypeRoot::Array(Box::new(element))),
    })
}

fn array(call: &Call<'_>) -> Result<ArrayRef, String> {
    let ArrowType::List(field) = call.data_type.to_arrow() else {
        return Err("no ARRAY".into());
    };
    let values = alternating(call.args, call.rows, field.data_type())?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(call.args.len(), call.rows));
    let array = ListArray::try_new(field, offsets, values, None).map_err(|error| error.to_string())?;
    Ok(Arc::new(array))
}

/// The first row's arguments, then the second row's, ..
fn alternating(args: &[Value], rows: usize, wanted: &ArrowType) -> Result<ArrayRef, String> {
    if args.is_empty() || rows == 0 {
        return Ok(new_empty_array(wanted));
    }
    let sources = args
        .iter()
        .map(|arg| conform(Arc::clone(arg.array()), wanted))
        .collect::<Result<Vec<_>, _>>()?;
    let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
    let indices: Vec<(usize, usize)> = (0..rows)
        .flat_map(|row| {
            args.iter()
                .enumerate()
                .map(move |(source, arg)| (source, arg.index(row)))
        })
        .collect();
    interleave(&sources, &indices).map_err(|error| error.to_string())
}

fn infer_map(args: &[Expr]) -> Result<Signature, String> {
    if args.len() % 2 == 1 || args.is_empty() {
        return Err("(key, value, ..)".into());
    }
    let side = |side: usize| {
        let types: Vec<DataType> = args
            .iter()
            .skip(side)
            .step_by(2)
            .map(|arg| arg.data_type.clone())
            .collect();
        match types.is_empty() {
            true => Some(DataType::nullable(TypeRoot::Null)),
            false => common_type(&types).map(DataType::materialized),
        }
    };
    let (key, value) = side(0)
        .zip(side(1))
        .ok_or("(key, value, ..) with keys of one type and values of one type")?;
    let to = |(position, arg): (usize, &Expr)| {
        let side = if position % 2 == 0 { &key } else { &value };
        side.clone().with_nullable(arg.data_type.nullable)
    };
    Ok(Signature {
        args: args.iter().enumerate().map(to).collect(),
        result: DataType::not_null(TypeRoot::Map(Box::new(key.clone()), Box::new(value.clone()))),
    })
}

/// Of equal keys the last counts, at the place of the first.
fn map(call: &Call<'_>) -> Result<ArrayRef, String> {
    let ArrowType::Map(entries, _) = call.data_type.to_arrow() else {
        return Err("no MAP".into());
    };
    let ArrowType::Struct(fields) = entries.data_type().clone() else {
        return Err("no MAP".into());
    };
    let every = |side: usize| {
        call.args
            .iter()
            .skip(side)
            .step_by(2)
            .cloned()
            .collect::<Vec<_>>()
    };
    let keys = alternating(&every(0), call.rows, fields[0].data_type())?;
    let values = alternating(&every(1), call.rows, fields[1].data_type())?;
    if keys.null_count() > 0 {
        return Err("a key of a MAP is null".into());
    }
    let width = call.args.len() / 2;
    let equal = equality(keys.as_ref(), keys.as_ref())?;
    let (mut kept_keys, mut kept_values, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..call.rows {
        let begin = kept_keys.len();
        for entry in row * width..(row + 1) * width {
            match kept_keys[begin..]
                .iter()
                .position(|&kept: &u32| equal(kept as usize, entry))
            {
                Some(place) => kept_values[begin + place] = entry as u32,
                None => {
                    kept_keys.push(entry as u32);
                    kept_values.push(entry as u32);
                }
            }
        }
        lengths.push(kept_keys.len() - begin);
    }
    let taken = |array: &ArrayRef, kept: Vec<u32>| take(array.as_ref(), &UInt32Array::from(kept), None);
    let failed = |error: arrow::error::ArrowError| error.to_string();
    let columns = vec![
        taken(&keys, kept_keys).map_err(failed)?,
        taken(&values, kept_values).map_err(failed)?,
    ];
    let structs = StructArray::try_new(fields, columns, None).map_err(failed)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(
        MapArray::try_new(entries, offsets, structs, None, false).map_err(failed)?,
    ))
}

/// The literal position of a field.
fn field_position(args: &[Expr]) -> Option<usize> {
    match args.get(1)?.kind {
        ExprKind::Literal(Literal::Int(index)) => usize::try_from(index).ok(),
        _ => None,
    }
}

fn infer_field(args: &[Expr]) -> Result<Signature, String> {
    let [row, index] = exactly(args)?;
    let TypeRoot::Row(fields) = &row.data_type.root else {
        return Err("(ROW, literal position)".into());
    };
    let field = field_position(args)
        .and_then(|index| fields.get(index))
        .ok_or("(ROW, literal position)")?;
    let nullable = row.data_type.nullable || field.data_type.nullable;
    Ok(Signature {
        args: vec![row.data_type.clone(), index.data_type.clone()],
        result: field.data_type.clone().with_nullable(nullable),
    })
}

fn field(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [row, index] = call.args else {
        return Err("a row and a position are needed".into());
    };
    let index = match index.array().data_type() {
        ArrowType::Int32 => i64::from(index.array().as_primitive::<Int32Type>().value(0)),
        _ => index
            .array()
            .as_primitive::<arrow::datatypes::Int64Type>()
            .value(0),
    };
    let row = row.array().as_struct();
    let column = usize::try_from(index)
        .ok()
        .and_then(|index| row.columns().get(index))
        .ok_or("no such field")?;
    let Some(nulls) = row.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(Arc::clone(column));
    };
    let nulls = NullBuffer::union(Some(nulls), column.logical_nulls().as_ref());
    if *column.data_type() == ArrowType::Null {
        return Ok(Arc::clone(column));
    }
    let data = column
        .to_data()
        .into_builder()
        .nulls(nulls)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(arrow::array::make_array(data))
}

fn infer_item(args: &[Expr]) -> Result<Signature, String> {
    let [container, key] = exactly(args)?;
    let (key_type, value) = match &container.data_type.root {
        TypeRoot::Array(element) if key.data_type.root == TypeRoot::Int => {
            if let ExprKind::Literal(Literal::Int(index)) = key.kind
                && index < 1
            {
                return Err(below_one(index));
            }
            (key.data_type.clone(), element)
        }
        TypeRoot::Map(wanted, value) => (
            wanted.as_ref().clone().with_nullable(key.data_type.nullable),
            value,
        ),
        _ => return Err("(ARRAY, INT) or (MAP, key)".into()),
    };
    Ok(Signature {
        args: vec![container.data_type.clone(), key_type],
        result: value.as_ref().clone().with_nullable(true),
    })
}

fn below_one(index: i64) -> String {
    format!("Array element access needs an index starting at 1 but was {index}.")
}

fn item(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [container, key] = call.args else {
        return Err("a collection and a key are needed".into());
    };
    if call
        .arg_types
        .iter()
        .any(|data_type| data_type.root == TypeRoot::Null)
    {
        return Ok(new_null_array(&call.data_type.to_arrow(), call.rows));
    }
    match container.array().data_type() {
        ArrowType::List(_) => array_item(container, key, call.rows),
        _ => map_item(container, key, call.rows),
    }
}

fn array_item(container: &Value, key: &Value, rows: usize) -> Result<ArrayRef, String> {
    let (list, keys) = (
        container.array().as_list::<i32>(),
        key.array().as_primitive::<Int32Type>(),
    );
    let offsets = list.value_offsets();
    let place = |row: usize| {
        let (i, j) = (container.index(row), key.index(row));
        if list.is_null(i) || keys.is_null(j) {
            return Ok(None);
        }
        let index = keys.value(j);
        if index < 1 {
            return Err(below_one(index.into()));
        }
        let place = i64::from(offsets[i]) + i64::from(index) - 1;
        Ok((place < i64::from(offsets[i + 1])).then_some(place as u32))
    };
    let places: UInt32Array = (0..rows).map(place).collect::<Result<_, _>>()?;
    take(list.values().as_ref(), &places, None).map_err(|error| error.to_string())
}

fn map_item(container: &Value, key: &Value, rows: usize) -> Result<ArrayRef, String> {
    let map = container.array().as_map();
    let keys = key.array();
    let equal = equality(map.keys().as_ref(), keys.as_ref())?;
    let offsets = map.value_offsets();
    let place = |row: usize| {
        let (i, j) = (container.index(row), key.index(row));
        if map.is_null(i) || keys.is_null(j) {
            return None;
        }
        let entries = offsets[i] as usize..offsets[i + 1] as usize;
        entries
            .into_iter()
            .find(|&entry| equal(entry, j))
            .map(|entry| entry as u32)
    };
    let places: UInt32Array = (0..rows).map(place).collect();
    take(map.values().as_ref(), &places, None).map_err(|error| error.to_string())
}

fn infer_element(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = exactly(args)?;
    let (TypeRoot::Array(element) | TypeRoot::Multiset(element)) = &arg.data_type.root else {
        return Err("(ARRAY)".into());
    };
    Ok(Signature {
        args: vec![arg.data_type.clone()],
        result: element
            .as_ref()
            .clone()
            .with_nullable(element.nullable || arg.data_type.nullable),
    })
}

fn element(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("an array is needed".into());
    };
    let list = arg.array().as_list_opt::<i32>().ok_or("an array is needed")?;
    let place = |row: usize| {
        let row = arg.index(row);
        match list.is_null(row) {
            true => Ok(None),
            false => match list.value_length(row) {
                0 => Ok(None),
                1 => Ok(Some(list.value_offsets()[row] as u32)),
                _ => Err("Array has more than one element.".to_owned()),
            },
        }
    };
    let places: UInt32Array = (0..call.rows).map(place).collect::<Result<_, _>>()?;
    take(list.values().as_ref(), &places, None).map_err(|error| error.to_string())
}

fn infer_cardinality(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = exactly(args)?;
    if !matches!(
        arg.data_type.root,
        TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_)
    ) {
        return Err("(ARRAY) or (MAP)".into());
    }
    Ok(Signature {
        args: vec![arg.data_type.clone()],
        result: DataType {
            root: TypeRoot::Int,
            nullable: any_nullable(args),
        },
    })
}

fn cardinality(call: &Call<'_>) -> Result<ArrayRef, String> {
    let [arg] = call.args else {
        return Err("a collection is needed".into());
    };
    let array = arg.array();
    let offsets = match array.data_type() {
        ArrowType::List(_) => array.as_list::<i32>().value_offsets(),
        _ => array.as_map().value_offsets(),
    };
    let lengths: Vec<i32> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    Ok(Arc::new(Int32Array::new(lengths.into(), array.nulls().cloned())))
}
