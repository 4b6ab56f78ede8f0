//! Functions of maps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType as ArrowType;
use thalweg_plan::{DataType, Expr, Field, TypeRoot};

use super::arrays::{Lists, Pool};
use super::support::any_nullable;
use crate::common_type::common_type;
use crate::evaluator::conform;
use crate::registry::{Call, ScalarFunction, Signature, Value};

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "MAP_KEYS",
        usage: "MAP_KEYS(map)",
        infer: |args| infer_parts(args, |key, _| key.clone()),
        kernel: |call| parts(call, |map| Arc::clone(map.keys())),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "MAP_VALUES",
        usage: "MAP_VALUES(map)",
        infer: |args| infer_parts(args, |_, value| value.clone()),
        kernel: |call| parts(call, |map| Arc::clone(map.values())),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "MAP_ENTRIES",
        usage: "MAP_ENTRIES(map)",
        infer: |args| {
            infer_parts(args, |key, value| {
                let fields = vec![Field::new("key", key.clone()), Field::new("value", value.clone())];
                DataType::not_null(TypeRoot::Row(fields))
            })
        },
        kernel: |call| parts(call, |map| Arc::new(map.entries().clone())),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "MAP_UNION",
        usage: "MAP_UNION(map, ..)",
        infer: infer_union,
        kernel: union,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "MAP_FROM_ARRAYS",
        usage: "MAP_FROM_ARRAYS(keys, values)",
        infer: infer_from_arrays,
        kernel: from_arrays,
        is_deterministic: true,
    },
];

fn types_of(arg: &Expr) -> Option<(&DataType, &DataType)> {
    match &arg.data_type.root {
        TypeRoot::Map(key, value) => Some((key, value)),
        _ => None,
    }
}

fn infer_parts(args: &[Expr], part: impl Fn(&DataType, &DataType) -> DataType) -> Result<Signature, String> {
    let [map] = args else {
        return Err("(MAP)".into());
    };
    let (key, value) = types_of(map).ok_or("(MAP)")?;
    Ok(Signature {
        args: vec![map.data_type.clone()],
        result: DataType {
            root: TypeRoot::Array(Box::new(part(key, value))),
            nullable: map.data_type.nullable,
        },
    })
}

/// Arrays of entries' parts, in the maps' order.
fn parts(call: &Call<'_>, part: impl Fn(&MapArray) -> ArrayRef) -> Result<ArrayRef, String> {
    let value = call.args.first().ok_or("a map is needed")?;
    let map = value.array().as_map_opt().ok_or("a map is needed")?;
    let ArrowType::List(field) = call.data_type.to_arrow() else {
        return Err(format!("{} is no array", call.data_type));
    };
    let values = conform(part(map), field.data_type())?;
    let list = ListArray::try_new(field, map.offsets().clone(), values, map.nulls().cloned())
        .map_err(|error| error.to_string())?;
    let value = match value {
        Value::Array(_) => Value::Array(Arc::new(list)),
        Value::Scalar(_) => Value::Scalar(Arc::new(list)),
    };
    Ok(value.to_array(call.rows))
}

fn infer_union(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(MAP, ..)".to_owned();
    let maps = args
        .iter()
        .map(types_of)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(wanted)?;
    let common = |types: Vec<DataType>| common_type(&types).ok_or_else(wanted);
    let key = common(maps.iter().map(|(key, _)| (*key).clone()).collect())?;
    let value = common(maps.iter().map(|(_, value)| (*value).clone()).collect())?;
    let map = |nullable: bool| DataType {
        root: TypeRoot::Map(Box::new(key.clone()), Box::new(value.clone())),
        nullable,
    };
    Ok(Signature {
        args: args.iter().map(|arg| map(arg.data_type.nullable)).collect(),
        result: map(any_nullable(args)),
    })
}

/// Types of keys and values.
fn entry_types(data_type: &DataType) -> Result<(ArrowType, ArrowType), String> {
    match &data_type.root {
        TypeRoot::Map(key, value) => Ok((key.to_arrow(), value.to_arrow())),
        other => Err(format!("{other} is no map")),
    }
}

/// The last map's entries, then those of the maps before it whose keys aren't there yet.
fn union(call: &Call<'_>) -> Result<ArrayRef, String> {
    let maps = call
        .args
        .iter()
        .map(|value| value.array().as_map_opt().map(|map| (map, value)))
        .collect::<Option<Vec<_>>>()
        .ok_or("maps are needed")?;
    let (key_type, value_type) = entry_types(call.data_type)?;
    let keys = Pool::of(
        &maps.iter().map(|(map, _)| map.keys()).collect::<Vec<_>>(),
        &key_type,
    )?;
    let values = Pool::of(
        &maps.iter().map(|(map, _)| map.values()).collect::<Vec<_>>(),
        &value_type,
    )?;
    let equal = keys.equality()?;
    let mut built = Entries::default();
    for row in 0..call.rows {
        let ranges = maps.iter().map(|(map, value)| {
            let row = value.index(row);
            let offsets = map.value_offsets();
            map.is_valid(row)
                .then(|| offsets[row] as usize..offsets[row + 1] as usize)
        });
        let Some(ranges) = ranges.collect::<Option<Vec<_>>>() else {
            built.end(false);
            continue;
        };
        let start = built.keys.len();
        // Of three maps the result of the first two is one of two again: its entries come behind the last map's.
        for (place, range) in ranges.into_iter().enumerate() {
            let earlier = built.keys.split_off(start);
            for at in keys.shifted(place, range) {
                built.keys.push(at as u32);
            }
            let own = built.keys.len();
            for at in earlier {
                if !built.keys[start..own]
                    .iter()
                    .any(|known| equal(*known as usize, at as usize))
                {
                    built.keys.push(at);
                }
            }
        }
        built.end(true);
    }
    // Keys and values lie at the same places of their pools.
    let places = std::mem::take(&mut built.keys);
    built.finish(call, &keys.values, &values.values, places.clone(), places)
}

/// Maps that are being built.
#[derive(Default)]
struct Entries {
    keys: Vec<u32>,
    ended: usize,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Entries {
    fn end(&mut self, is_valid: bool) {
        self.lengths.push(self.keys.len() - self.ended);
        self.ended = self.keys.len();
        self.valid.push(is_valid);
    }

    fn finish(
        self,
        call: &Call<'_>,
        keys: &ArrayRef,
        values: &ArrayRef,
        key_places: Vec<u32>,
        value_places: Vec<u32>,
    ) -> Result<ArrayRef, String> {
        let ArrowType::Map(field, _) = call.data_type.to_arrow() else {
            return Err(format!("{} is no map", call.data_type));
        };
        let ArrowType::Struct(fields) = field.data_type() else {
            return Err("a map has entries".into());
        };
        let failed = |error: arrow::error::ArrowError| error.to_string();
        let keys = take(keys.as_ref(), &UInt32Array::from(key_places), None).map_err(failed)?;
        if keys.null_count() > 0 {
            return Err("a key of a map is null, which is not supported".into());
        }
        let values = take(values.as_ref(), &UInt32Array::from(value_places), None).map_err(failed)?;
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(failed)?;
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        let nulls = NullBuffer::from(self.valid);
        let map = MapArray::try_new(field, offsets, entries, Some(nulls), false).map_err(failed)?;
        Ok(Arc::new(map))
    }
}

fn infer_from_arrays(args: &[Expr]) -> Result<Signature, String> {
    let wanted = "(ARRAY, ARRAY)";
    let [keys, values] = args else {
        return Err(wanted.into());
    };
    let (TypeRoot::Array(key), TypeRoot::Array(value)) = (&keys.data_type.root, &values.data_type.root)
    else {
        return Err(wanted.into());
    };
    Ok(Signature {
        args: vec![keys.data_type.clone(), values.data_type.clone()],
        result: DataType {
            root: TypeRoot::Map(key.clone(), value.clone()),
            nullable: any_nullable(args),
        },
    })
}

fn from_arrays(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (keys, values) = (Lists::of(call, 0)?, Lists::of(call, 1)?);
    let (key_type, value_type) = entry_types(call.data_type)?;
    let mut built = Entries::default();
    let mut places = Vec::new();
    for row in 0..call.rows {
        let (Some(key_range), Some(value_range)) = (keys.range(row), values.range(row)) else {
            built.end(false);
            continue;
        };
        if key_range.len() != value_range.len() {
            return Err(format!(
                "Invalid function MAP_FROM_ARRAYS call: The length of the keys array {} is not equal to the length of the values array {}",
                key_range.len(),
                value_range.len()
            ));
        }
        built.keys.extend(key_range.map(|at| at as u32));
        places.extend(value_range.map(|at| at as u32));
        built.end(true);
    }
    let keys_taken = std::mem::take(&mut built.keys);
    let keys = conform(Arc::clone(keys.array.values()), &key_type)?;
    let values = conform(Arc::clone(values.array.values()), &value_type)?;
    built.finish(call, &keys, &values, keys_taken, places)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{call, int, null, text};
    use thalweg_plan::{DataType, TypeRoot};

    #[test]
    fn maps_are_taken_apart_and_put_together() {
        let map = call("MAP", [text("x"), int(1), text("y"), int(2)]);
        let other = call("MAP", [text("z"), int(3), text("x"), int(9)]);
        let none = null(TypeRoot::Map(
            Box::new(DataType::string()),
            Box::new(DataType::nullable(TypeRoot::Int)),
        ));
        check(&[
            ("MAP_KEYS", std::slice::from_ref(&map), "[x, y]"),
            ("MAP_VALUES", std::slice::from_ref(&map), "[1, 2]"),
            ("MAP_ENTRIES", std::slice::from_ref(&map), "[(x, 1), (y, 2)]"),
            ("MAP_KEYS", std::slice::from_ref(&none), "NULL"),
            ("MAP_UNION", &[map.clone(), other], "{z=3, x=9, y=2}"),
            ("MAP_UNION", &[map.clone(), none.clone()], "NULL"),
            (
                "MAP_FROM_ARRAYS",
                &[call("ARRAY", [text("k")]), call("ARRAY", [int(1)])],
                "{k=1}",
            ),
            (
                "MAP_FROM_ARRAYS",
                &[call("ARRAY", [text("k")]), call("ARRAY", [int(1), int(2)])],
                "error: The length of the keys array 1",
            ),
        ]);
    }
}
