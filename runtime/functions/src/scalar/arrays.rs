//! Functions of arrays.
//!
//! ```text
//!   elements of all arguments --one pool--> positions picked row by row --take--> elements of the result
//! ```

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array, make_comparator, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::{DataType as ArrowType, Int32Type};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::support::{Kind, STRING, any_nullable, fixed, numbers, push, texts, write_texts};
use crate::common_type::{common_type, is_character, is_integer};
use crate::evaluator::conform;
use crate::operators::equality;
use crate::registry::{Call, ScalarFunction, Signature, Value};

/// A function of arrays alone, or of an array and elements.
macro_rules! function {
    ($name:literal, $usage:literal, $infer:expr, $kernel:expr) => {
        ScalarFunction {
            name: $name,
            usage: $usage,
            infer: $infer,
            kernel: $kernel,
            is_deterministic: true,
        }
    };
}

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    function!(
        "ARRAY_CONTAINS",
        "ARRAY_CONTAINS(array, element)",
        |args| infer_find(args, TypeRoot::Boolean, false),
        contains
    ),
    function!(
        "ARRAY_POSITION",
        "ARRAY_POSITION(array, element)",
        |args| infer_find(args, TypeRoot::Int, true),
        position
    ),
    function!(
        "ARRAY_REMOVE",
        "ARRAY_REMOVE(array, element)",
        infer_remove,
        remove
    ),
    function!(
        "ARRAY_APPEND",
        "ARRAY_APPEND(array, element)",
        infer_add,
        |call| add(call, false)
    ),
    function!(
        "ARRAY_PREPEND",
        "ARRAY_PREPEND(array, element)",
        infer_add,
        |call| add(call, true)
    ),
    function!("ARRAY_DISTINCT", "ARRAY_DISTINCT(array)", infer_same, |call| {
        combined(call, distinct)
    }),
    function!("ARRAY_REVERSE", "ARRAY_REVERSE(array)", infer_same, |call| {
        combined(call, |_, lists, out| {
            out.extend(lists[0].clone().rev().map(|at| at as u32));
        })
    }),
    function!(
        "ARRAY_CONCAT",
        "ARRAY_CONCAT(array, ..)",
        |args| infer_arrays(args, 1, usize::MAX),
        |call| {
            combined(call, |_, lists, out| {
                out.extend(lists.iter().flat_map(Range::clone).map(|at| at as u32));
            })
        }
    ),
    function!(
        "ARRAY_UNION",
        "ARRAY_UNION(array, array)",
        |args| infer_arrays(args, 2, 2),
        |call| combined(call, distinct)
    ),
    function!(
        "ARRAY_INTERSECT",
        "ARRAY_INTERSECT(array, array)",
        |args| infer_arrays(args, 2, 2),
        |call| combined(call, intersect)
    ),
    function!(
        "ARRAY_EXCEPT",
        "ARRAY_EXCEPT(array, array)",
        |args| infer_arrays(args, 2, 2),
        |call| combined(call, except)
    ),
    function!(
        "ARRAY_SLICE",
        "ARRAY_SLICE(array, start [, end])",
        infer_slice,
        slice
    ),
    function!(
        "ARRAY_SORT",
        "ARRAY_SORT(array [, ascending [, nulls first]])",
        infer_sort,
        sort
    ),
    function!("ARRAY_MAX", "ARRAY_MAX(array)", infer_extreme, |call| extreme(
        call,
        Ordering::Greater
    )),
    function!("ARRAY_MIN", "ARRAY_MIN(array)", infer_extreme, |call| extreme(
        call,
        Ordering::Less
    )),
    function!(
        "ARRAY_JOIN",
        "ARRAY_JOIN(array, delimiter [, null replacement])",
        infer_join,
        join
    ),
];

fn element_of(arg: &Expr) -> Option<&DataType> {
    match &arg.data_type.root {
        TypeRoot::Array(element) => Some(element),
        _ => None,
    }
}

fn array_of(element: DataType, nullable: bool) -> DataType {
    DataType {
        root: TypeRoot::Array(Box::new(element)),
        nullable,
    }
}

/// An array and an element, of a common type.
fn with_element(args: &[Expr]) -> Result<(DataType, Vec<DataType>), String> {
    let wanted = || "(ARRAY, ELEMENT)".to_owned();
    let [array, element] = args else {
        return Err(wanted());
    };
    let of_array = element_of(array).ok_or_else(wanted)?;
    let common = common_type(&[of_array.clone(), element.data_type.clone()]).ok_or_else(wanted)?;
    let array_type = array_of(
        common.clone().with_nullable(of_array.nullable),
        array.data_type.nullable,
    );
    let element_type = common.clone().with_nullable(element.data_type.nullable);
    Ok((common, vec![array_type, element_type]))
}

fn infer_find(args: &[Expr], result: TypeRoot, of_element: bool) -> Result<Signature, String> {
    let (_, types) = with_element(args)?;
    let nullable = types[0].nullable || (of_element && any_nullable(args));
    Ok(Signature {
        args: types,
        result: DataType {
            root: result,
            nullable,
        },
    })
}

fn infer_remove(args: &[Expr]) -> Result<Signature, String> {
    let (_, types) = with_element(args)?;
    Ok(Signature {
        result: types[0].clone(),
        args: types,
    })
}

fn infer_add(args: &[Expr]) -> Result<Signature, String> {
    let (common, types) = with_element(args)?;
    Ok(Signature {
        result: array_of(common, types[0].nullable),
        args: types,
    })
}

fn infer_same(args: &[Expr]) -> Result<Signature, String> {
    infer_arrays(args, 1, 1)
}

/// Arrays of a common type.
fn infer_arrays(args: &[Expr], least: usize, most: usize) -> Result<Signature, String> {
    let wanted = || "(ARRAY, ..)".to_owned();
    if args.len() < least || args.len() > most {
        return Err(wanted());
    }
    let elements = args
        .iter()
        .map(|arg| match arg.data_type.root {
            TypeRoot::Null => Some(DataType::nullable(TypeRoot::Null)),
            _ => element_of(arg).cloned(),
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(wanted)?;
    let is_known = args.iter().any(|arg| element_of(arg).is_some());
    let common = common_type(&elements).filter(|_| is_known).ok_or_else(wanted)?;
    Ok(Signature {
        args: elements
            .iter()
            .zip(args)
            .map(|(element, arg)| {
                array_of(
                    common.clone().with_nullable(element.nullable),
                    arg.data_type.nullable,
                )
            })
            .collect(),
        result: array_of(common, any_nullable(args)),
    })
}

/// The array as it is, and more arguments.
fn array_and(args: &[Expr], kinds: &[Kind], required: usize) -> Result<Vec<DataType>, String> {
    let [array, rest @ ..] = args else {
        return Err("(ARRAY, ..)".into());
    };
    element_of(array).ok_or("(ARRAY, ..)")?;
    let mut types = vec![array.data_type.clone()];
    types.extend(
        fixed(rest, kinds, required, TypeRoot::Null)
            .map_err(|_| "(ARRAY, ..)")?
            .args,
    );
    Ok(types)
}

fn infer_slice(args: &[Expr]) -> Result<Signature, String> {
    let args_are_ints = args
        .iter()
        .skip(1)
        .all(|arg| is_integer(&arg.data_type.root) || arg.data_type.root == TypeRoot::Null);
    if !args_are_ints {
        return Err("(ARRAY, INT [, INT])".into());
    }
    let types = array_and(args, &[Kind::Int, Kind::Int], 1)?;
    Ok(Signature {
        result: types[0].clone().with_nullable(any_nullable(args)),
        args: types,
    })
}

fn infer_sort(args: &[Expr]) -> Result<Signature, String> {
    let types = array_and(args, &[Kind::Boolean, Kind::Boolean], 0)?;
    Ok(Signature {
        result: types[0].clone().with_nullable(any_nullable(args)),
        args: types,
    })
}

fn infer_extreme(args: &[Expr]) -> Result<Signature, String> {
    let [array] = args else {
        return Err("(ARRAY)".into());
    };
    let element = element_of(array).ok_or("(ARRAY)")?;
    Ok(Signature {
        args: vec![array.data_type.clone()],
        result: element.clone().with_nullable(true),
    })
}

fn infer_join(args: &[Expr]) -> Result<Signature, String> {
    let wanted = "(ARRAY<STRING>, STRING [, STRING])";
    let types = array_and(args, &[Kind::Text, Kind::Text], 1).map_err(|_| wanted)?;
    if !element_of(&args[0]).is_some_and(|element| is_character(&element.root)) {
        return Err(wanted.into());
    }
    Ok(Signature {
        args: types,
        result: DataType {
            root: STRING,
            nullable: any_nullable(args),
        },
    })
}

/// An argument that is an array.
pub(super) struct Lists<'a> {
    pub(super) array: &'a ListArray,
    value: &'a Value,
}

impl<'a> Lists<'a> {
    pub(super) fn of(call: &'a Call<'_>, place: usize) -> Result<Self, String> {
        let value = call.args.get(place).ok_or("an array is needed")?;
        let array = value.array().as_list_opt::<i32>().ok_or("an array is needed")?;
        Ok(Self { array, value })
    }

    /// Where a row's elements are.
    pub(super) fn range(&self, row: usize) -> Option<Range<usize>> {
        let row = self.value.index(row);
        let offsets = self.array.value_offsets();
        self.array
            .is_valid(row)
            .then(|| offsets[row] as usize..offsets[row + 1] as usize)
    }
}

/// Elements of several columns behind one another, all of one type, and a null at the end.
pub(super) struct Pool {
    pub(super) values: ArrayRef,
    starts: Vec<usize>,
}

impl Pool {
    pub(super) fn of(columns: &[&ArrayRef], wanted: &ArrowType) -> Result<Self, String> {
        let mut parts = Vec::with_capacity(columns.len() + 1);
        let mut starts = Vec::with_capacity(columns.len());
        let mut length = 0;
        for column in columns {
            starts.push(length);
            length += column.len();
            parts.push(conform(Arc::clone(column), wanted)?);
        }
        parts.push(new_null_array(wanted, 1));
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(Self {
            values: concat(&parts).map_err(|error| error.to_string())?,
            starts,
        })
    }

    pub(super) fn shifted(&self, column: usize, range: Range<usize>) -> Range<usize> {
        range.start + self.starts[column]..range.end + self.starts[column]
    }

    /// Whether two elements are equal; two nulls are.
    pub(super) fn equality(&self) -> Result<impl Fn(usize, usize) -> bool + '_, String> {
        let equal = equality(self.values.as_ref(), self.values.as_ref())?;
        Ok(
            move |left: usize, right: usize| match (self.values.is_null(left), self.values.is_null(right)) {
                (false, false) => equal(left, right),
                (left, right) => left == right,
            },
        )
    }
}

/// Arrays of elements that are picked row by row from a pool; `None` is null.
pub(super) fn picked(
    call: &Call<'_>,
    pool: &Pool,
    mut pick: impl FnMut(usize, &mut Vec<u32>) -> Result<Option<()>, String>,
) -> Result<ArrayRef, String> {
    let ArrowType::List(field) = call.data_type.to_arrow() else {
        return Err(format!("{} is no array", call.data_type));
    };
    let mut places = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows);
    let mut valid = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let before = places.len();
        let is_valid = pick(row, &mut places)?.is_some();
        if !is_valid {
            places.truncate(before);
        }
        valid.push(is_valid);
        lengths.push(places.len() - before);
    }
    let values =
        take(pool.values.as_ref(), &UInt32Array::from(places), None).map_err(|error| error.to_string())?;
    let nulls = NullBuffer::from(valid);
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, Some(nulls))
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(list))
}

fn element_type(data_type: &DataType) -> Result<ArrowType, String> {
    match &data_type.root {
        TypeRoot::Array(element) => Ok(element.to_arrow()),
        other => Err(format!("{other} is no array")),
    }
}

type Equal<'a> = &'a dyn Fn(usize, usize) -> bool;

/// A function of arrays alone: of a row's elements in the pool. Null if an array is.
fn combined(
    call: &Call<'_>,
    combine: impl Fn(Equal<'_>, &[Range<usize>], &mut Vec<u32>),
) -> Result<ArrayRef, String> {
    let lists = (0..call.args.len())
        .map(|place| Lists::of(call, place))
        .collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<&ArrayRef> = lists.iter().map(|list| list.array.values()).collect();
    let pool = Pool::of(&columns, &element_type(call.data_type)?)?;
    let equal = pool.equality()?;
    let mut ranges = Vec::with_capacity(lists.len());
    picked(call, &pool, |row, out| {
        ranges.clear();
        for (place, list) in lists.iter().enumerate() {
            let Some(range) = list.range(row) else {
                return Ok(None);
            };
            ranges.push(pool.shifted(place, range));
        }
        combine(&equal, &ranges, out);
        Ok(Some(()))
    })
}

/// Adds an element that isn't among those added since `start`.
fn push_new(equal: Equal<'_>, start: usize, at: usize, out: &mut Vec<u32>) {
    if !out[start..].iter().any(|known| equal(*known as usize, at)) {
        out.push(at as u32);
    }
}

fn distinct(equal: Equal<'_>, lists: &[Range<usize>], out: &mut Vec<u32>) {
    let start = out.len();
    for at in lists.iter().flat_map(Range::clone) {
        push_new(equal, start, at, out);
    }
}

fn intersect(equal: Equal<'_>, lists: &[Range<usize>], out: &mut Vec<u32>) {
    let start = out.len();
    for at in lists[0].clone() {
        if lists[1].clone().any(|other| equal(at, other)) {
            push_new(equal, start, at, out);
        }
    }
}

fn except(equal: Equal<'_>, lists: &[Range<usize>], out: &mut Vec<u32>) {
    let start = out.len();
    for at in lists[0].clone() {
        if !lists[1].clone().any(|other| equal(at, other)) {
            push_new(equal, start, at, out);
        }
    }
}

/// An array, an element, and where in the array the element is: positions in the pool.
fn found(
    call: &Call<'_>,
    mut then: impl FnMut(Option<(Range<usize>, usize)>, &dyn Fn(usize, usize) -> bool, &Pool),
) -> Result<(), String> {
    let lists = Lists::of(call, 0)?;
    let element = call.args.get(1).ok_or("an element is needed")?;
    let wanted = call.arg_types.get(1).ok_or("an element is needed")?.to_arrow();
    let pool = Pool::of(&[lists.array.values(), element.array()], &wanted)?;
    let equal = pool.equality()?;
    for row in 0..call.rows {
        let at = pool.shifted(1, element.index(row)..element.index(row)).start;
        then(lists.range(row).map(|range| (range, at)), &equal, &pool);
    }
    Ok(())
}

fn contains(call: &Call<'_>) -> Result<ArrayRef, String> {
    let mut values = Vec::with_capacity(call.rows);
    found(call, |row, equal, _| {
        values.push(row.map(|(mut range, element)| range.any(|at| equal(at, element))));
    })?;
    Ok(Arc::new(BooleanArray::from(values)))
}

/// From 1; 0 if it isn't there.
fn position(call: &Call<'_>) -> Result<ArrayRef, String> {
    let mut values = Vec::with_capacity(call.rows);
    found(call, |row, equal, pool| {
        values.push(
            row.filter(|(_, element)| pool.values.is_valid(*element))
                .map(|(mut range, element)| {
                    range
                        .position(|at| equal(at, element))
                        .map_or(0, |place| place as i32 + 1)
                }),
        );
    })?;
    Ok(Arc::new(arrow::array::Int32Array::from(values)))
}

fn remove(call: &Call<'_>) -> Result<ArrayRef, String> {
    with_pool(call, |equal, range, element, out| {
        out.extend(range.filter(|at| !equal(*at, element)).map(|at| at as u32));
    })
}

fn add(call: &Call<'_>, in_front: bool) -> Result<ArrayRef, String> {
    with_pool(call, |_, range, element, out| {
        if in_front {
            out.push(element as u32);
        }
        out.extend(range.map(|at| at as u32));
        if !in_front {
            out.push(element as u32);
        }
    })
}

fn with_pool(
    call: &Call<'_>,
    build: impl Fn(Equal<'_>, Range<usize>, usize, &mut Vec<u32>),
) -> Result<ArrayRef, String> {
    let lists = Lists::of(call, 0)?;
    let element = call.args.get(1).ok_or("an element is needed")?;
    let pool = Pool::of(
        &[lists.array.values(), element.array()],
        &element_type(call.data_type)?,
    )?;
    let equal = pool.equality()?;
    picked(call, &pool, |row, out| {
        let Some(range) = lists.range(row) else {
            return Ok(None);
        };
        let at = pool.shifted(1, element.index(row)..element.index(row)).start;
        build(&equal, range, at, out);
        Ok(Some(()))
    })
}

/// From 1 and with both ends; from the end, if they are below 0.
fn slice(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (lists, starts) = (Lists::of(call, 0)?, numbers::<Int32Type>(call, 1)?);
    let ends = (call.args.len() > 2)
        .then(|| numbers::<Int32Type>(call, 2))
        .transpose()?;
    let pool = Pool::of(&[lists.array.values()], &element_type(call.data_type)?)?;
    picked(call, &pool, |row, out| {
        let Some(range) = lists.range(row) else {
            return Ok(None);
        };
        let length = range.len() as i64;
        let end = match &ends {
            None => Some(length),
            Some(ends) => ends.get(row).map(i64::from),
        };
        let (Some(start), Some(end)) = (starts.get(row).map(i64::from), end) else {
            return Ok(None);
        };
        let from_end = |bound: i64| if bound < 0 { bound + length + 1 } else { bound };
        let start = from_end(start).max(1);
        let end = match from_end(end) {
            0 => 1,
            end => end.min(length),
        };
        if length > 0 && start <= end {
            out.extend((start - 1..end).map(|place| (range.start as i64 + place) as u32));
        }
        Ok(Some(()))
    })
}

fn sort(call: &Call<'_>) -> Result<ArrayRef, String> {
    let lists = Lists::of(call, 0)?;
    let flag = |place: usize| -> Result<Option<&Value>, String> { Ok(call.args.get(place)) };
    let (ascending, nulls_first) = (flag(1)?, flag(2)?);
    let read = |value: &Value, row: usize| {
        let flags = value.array().as_boolean();
        let row = value.index(row);
        flags.is_valid(row).then(|| flags.value(row))
    };
    let pool = Pool::of(&[lists.array.values()], &element_type(call.data_type)?)?;
    let values = pool.values.as_ref();
    let options = SortOptions::default();
    let compare = make_comparator(values, values, options).map_err(|error| error.to_string())?;
    picked(call, &pool, |row, out| {
        let ascending = ascending.map_or(Some(true), |value| read(value, row));
        let nulls_first = nulls_first.map_or(ascending, |value| read(value, row));
        let (Some(range), Some(ascending), Some(nulls_first)) = (lists.range(row), ascending, nulls_first)
        else {
            return Ok(None);
        };
        let start = out.len();
        out.extend(range.map(|at| at as u32));
        out[start..].sort_by(|&left, &right| {
            let (left, right) = (left as usize, right as usize);
            match (values.is_null(left), values.is_null(right)) {
                (false, false) if ascending => compare(left, right),
                (false, false) => compare(right, left),
                (left, right) if nulls_first => right.cmp(&left),
                (left, right) => left.cmp(&right),
            }
        });
        Ok(Some(()))
    })
}

/// The greatest or least element that isn't null.
fn extreme(call: &Call<'_>, wanted: Ordering) -> Result<ArrayRef, String> {
    let lists = Lists::of(call, 0)?;
    let values = lists.array.values().as_ref();
    let compare =
        make_comparator(values, values, SortOptions::default()).map_err(|error| error.to_string())?;
    let best = |row: usize| {
        let valid = lists.range(row)?.filter(|at| values.is_valid(*at));
        let best = valid.reduce(|best, at| if compare(at, best) == wanted { at } else { best })?;
        Some(best as u32)
    };
    let places: UInt32Array = (0..call.rows).map(best).collect();
    take(values, &places, None).map_err(|error| error.to_string())
}

/// Nulls are left out, or written as the replacement.
fn join(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (lists, delimiters) = (Lists::of(call, 0)?, texts(call, 1)?);
    let replacements = (call.args.len() > 2).then(|| texts(call, 2)).transpose()?;
    let values = lists.array.values().as_string::<i32>();
    write_texts(call.rows, values.value_data().len(), |row, out| {
        let replacement = replacements.as_ref().map(|replacements| replacements.get(row));
        let (Some(range), Some(delimiter)) = (lists.range(row), delimiters.get(row)) else {
            return Ok(None);
        };
        if replacement == Some(None) {
            return Ok(None);
        }
        let mut is_first = true;
        for at in range {
            let part = match values.is_valid(at) {
                true => Some(values.value(at)),
                false => replacement.flatten(),
            };
            let Some(part) = part else {
                continue;
            };
            if !is_first {
                push(out, delimiter);
            }
            push(out, part);
            is_first = false;
        }
        Ok(Some(()))
    })
}
