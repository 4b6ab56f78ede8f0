//! What the groups of functions share: signatures of fixed forms, and loops over texts and numbers.
//!
//! A loop writes straight into a builder; a row with a null argument is null and isn't looked at.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, BooleanBuilder, PrimitiveArray,
    StringArray, StringBuilder,
};
use thalweg_plan::data_type::MAX_LENGTH;
use thalweg_plan::{DataType, Expr, ExprKind, Literal, TypeRoot};

use crate::common_type::{is_binary, is_character, is_integer, is_numeric};
use crate::registry::{Call, Signature, Value};

/// STRING without nullability.
pub(super) const STRING: TypeRoot = TypeRoot::VarChar(MAX_LENGTH);

/// BYTES without nullability.
pub(super) const BYTES: TypeRoot = TypeRoot::VarBinary(MAX_LENGTH);

/// What an argument may be, and what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// CHAR or VARCHAR.
    Text,
    /// A whole number as INT.
    Int,
    /// A whole number as BIGINT.
    BigInt,
    /// Any number as DOUBLE.
    Double,
    /// BOOLEAN.
    Boolean,
    /// BINARY or VARBINARY.
    Bytes,
}

impl Kind {
    fn root_of(self, root: &TypeRoot) -> Option<TypeRoot> {
        let is_null = *root == TypeRoot::Null;
        match self {
            Self::Text if is_character(root) => Some(root.clone()),
            Self::Text => is_null.then_some(STRING),
            Self::Int => (is_null || is_integer(root)).then_some(TypeRoot::Int),
            Self::BigInt => (is_null || is_integer(root)).then_some(TypeRoot::BigInt),
            Self::Double => (is_null || is_numeric(root)).then_some(TypeRoot::Double),
            Self::Boolean => (is_null || *root == TypeRoot::Boolean).then_some(TypeRoot::Boolean),
            Self::Bytes if is_binary(root) => Some(root.clone()),
            Self::Bytes => is_null.then_some(BYTES),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "STRING",
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Double => "NUMERIC",
            Self::Boolean => "BOOLEAN",
            Self::Bytes => "BYTES",
        }
    }
}

/// Whether one of them may be null.
pub(super) fn any_nullable(args: &[Expr]) -> bool {
    args.iter()
        .any(|arg| arg.data_type.nullable || arg.data_type.root == TypeRoot::Null)
}

/// A call with these arguments, the last ones of which may be missing; null if an argument is.
pub(super) fn fixed(
    args: &[Expr],
    kinds: &[Kind],
    required: usize,
    result: TypeRoot,
) -> Result<Signature, String> {
    let result = DataType {
        root: result,
        nullable: any_nullable(args),
    };
    Ok(Signature {
        args: cast_to(args, kinds, required)?,
        result,
    })
}

/// The same, but null also for some arguments that aren't.
pub(super) fn fallible(
    args: &[Expr],
    kinds: &[Kind],
    required: usize,
    result: TypeRoot,
) -> Result<Signature, String> {
    Ok(Signature {
        args: cast_to(args, kinds, required)?,
        result: DataType::nullable(result),
    })
}

fn cast_to(args: &[Expr], kinds: &[Kind], required: usize) -> Result<Vec<DataType>, String> {
    let wanted = || {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        format!("({})", names.join(", "))
    };
    if args.len() < required || args.len() > kinds.len() {
        return Err(wanted());
    }
    args.iter()
        .zip(kinds)
        .map(|(arg, kind)| {
            let root = kind.root_of(&arg.data_type.root).ok_or_else(wanted)?;
            Ok(DataType {
                root,
                nullable: arg.data_type.nullable,
            })
        })
        .collect()
}

/// A constant text.
pub(super) fn literal_text(arg: &Expr) -> Option<&str> {
    match &arg.kind {
        ExprKind::Literal(Literal::String(text)) => Some(text),
        _ => None,
    }
}

/// A constant whole number.
pub(super) fn literal_int(arg: &Expr) -> Option<i64> {
    match &arg.kind {
        ExprKind::Literal(Literal::Int(number)) => Some(*number),
        _ => None,
    }
}

/// Texts of an argument by row.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    array: &'a StringArray,
    is_scalar: bool,
}

impl<'a> Texts<'a> {
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        let row = if self.is_scalar { 0 } else { row };
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    /// The column, if all of its bytes are ASCII.
    pub(super) fn ascii_column(&self) -> Option<&'a StringArray> {
        self.array.value_data().is_ascii().then_some(self.array)
    }

    /// The text that stands for all rows, if one does.
    pub(super) fn constant(&self) -> Option<&'a str> {
        if self.is_scalar { self.get(0) } else { None }
    }

    /// Bytes of all texts, for the capacity of builders.
    pub(super) fn bytes(&self, rows: usize) -> usize {
        if self.is_scalar {
            self.array.value_data().len().saturating_mul(rows).min(1 << 20)
        } else {
            self.array.value_data().len()
        }
    }
}

/// Numbers of an argument by row.
pub(super) struct Numbers<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    is_scalar: bool,
}

impl<T: ArrowPrimitiveType> Numbers<'_, T> {
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        let row = if self.is_scalar { 0 } else { row };
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

fn argument<'a>(call: &'a Call<'_>, index: usize) -> Result<&'a Value, String> {
    call.args
        .get(index)
        .ok_or_else(|| format!("argument {} is missing", index + 1))
}

/// A text argument.
pub(super) fn texts<'a>(call: &'a Call<'_>, index: usize) -> Result<Texts<'a>, String> {
    let value = argument(call, index)?;
    let array = value.array().as_string_opt::<i32>();
    Ok(Texts {
        array: array.ok_or_else(|| format!("argument {} is no text", index + 1))?,
        is_scalar: value.is_scalar(),
    })
}

/// A number argument.
pub(super) fn numbers<'a, T: ArrowPrimitiveType>(
    call: &'a Call<'_>,
    index: usize,
) -> Result<Numbers<'a, T>, String> {
    let value = argument(call, index)?;
    let array = value.array().as_primitive_opt::<T>();
    Ok(Numbers {
        array: array.ok_or_else(|| format!("argument {} is no {}", index + 1, T::DATA_TYPE))?,
        is_scalar: value.is_scalar(),
    })
}

/// A binary argument.
pub(super) fn binaries<'a>(call: &'a Call<'_>, index: usize) -> Result<(&'a BinaryArray, &'a Value), String> {
    let value = argument(call, index)?;
    let array = value.array().as_binary_opt::<i32>();
    Ok((
        array.ok_or_else(|| format!("argument {} is no bytes", index + 1))?,
        value,
    ))
}

/// What a row's loop says of its result.
pub(super) type Written = Result<Option<()>, String>;

/// The text is complete.
pub(super) const DONE: Written = Ok(Some(()));

/// Texts that `write` writes row by row; `None` is null.
pub(super) fn write_texts(
    rows: usize,
    bytes: usize,
    mut write: impl FnMut(usize, &mut StringBuilder) -> Written,
) -> Result<ArrayRef, String> {
    let mut out = StringBuilder::with_capacity(rows, bytes);
    for row in 0..rows {
        let written = write(row, &mut out)?;
        if out.values_slice().len() > i32::MAX as usize {
            return Err("the texts of a batch have more than 2 GB".into());
        }
        match written {
            Some(()) => out.append_value(""),
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// A function of one text, the first argument.
pub(super) fn map_text(
    call: &Call<'_>,
    mut write: impl FnMut(&str, &mut StringBuilder) -> Written,
) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        input.get(row).map_or(Ok(None), |text| write(text, out))
    })
}

/// Writes; builders take all.
pub(super) fn push(out: &mut StringBuilder, text: &str) {
    let _infallible = out.write_str(text);
}

/// Writes a character.
pub(super) fn push_char(out: &mut StringBuilder, character: char) {
    let _infallible = out.write_char(character);
}

/// Numbers of `value`, row by row.
pub(super) fn numbers_of<T: ArrowPrimitiveType>(
    rows: usize,
    mut value: impl FnMut(usize) -> Result<Option<T::Native>, String>,
) -> Result<ArrayRef, String> {
    let mut out = PrimitiveArray::<T>::builder(rows);
    for row in 0..rows {
        out.append_option(value(row)?);
    }
    Ok(Arc::new(out.finish()))
}

/// Booleans of `value`, row by row.
pub(super) fn booleans_of(
    rows: usize,
    mut value: impl FnMut(usize) -> Result<Option<bool>, String>,
) -> Result<ArrayRef, String> {
    let mut out = BooleanBuilder::with_capacity(rows);
    for row in 0..rows {
        out.append_option(value(row)?);
    }
    Ok(Arc::new(out.finish()))
}

/// A function of two texts that says yes or no.
pub(super) fn compare_texts(call: &Call<'_>, test: impl Fn(&str, &str) -> bool) -> Result<ArrayRef, String> {
    let (left, right) = (texts(call, 0)?, texts(call, 1)?);
    let values: BooleanArray = (0..call.rows)
        .map(|row| Some(test(left.get(row)?, right.get(row)?)))
        .collect();
    Ok(Arc::new(values))
}
