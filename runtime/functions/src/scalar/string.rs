//! Functions of texts: cases, parts, padding.
//!
//! Where Flink works on its binary strings a character is a code point (SUBSTRING, POSITION, CHAR_LENGTH); where it calls Java
//! on a `String` it is a unit of UTF-16 (LPAD, RPAD, OVERLAY).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use arrow::datatypes::{Int32Type, Int64Type};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::support::{
    DONE, Kind, STRING, any_nullable, compare_texts, fallible, fixed, map_text, numbers, numbers_of, push,
    push_char, texts, write_texts,
};
use super::utf16;
use crate::common_type::is_character;
use crate::registry::{Call, ScalarFunction, Signature};

use Kind::{Int, Text};

/// A function with a fixed form.
macro_rules! function {
    ($name:literal, $usage:literal, $kinds:expr, $required:literal, $result:expr, $kernel:expr) => {
        ScalarFunction {
            name: $name,
            usage: $usage,
            infer: |args| fixed(args, $kinds, $required, $result),
            kernel: $kernel,
            is_deterministic: true,
        }
    };
    (or_null $name:literal, $usage:literal, $kinds:expr, $required:literal, $result:expr, $kernel:expr) => {
        ScalarFunction {
            name: $name,
            usage: $usage,
            infer: |args| fallible(args, $kinds, $required, $result),
            kernel: $kernel,
            is_deterministic: true,
        }
    };
}
pub(super) use function;

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    function!("UPPER", "UPPER(string)", &[Text], 1, STRING, |call| cased(
        call, true
    )),
    function!("LOWER", "LOWER(string)", &[Text], 1, STRING, |call| cased(
        call, false
    )),
    function!("INITCAP", "INITCAP(string)", &[Text], 1, STRING, initcap),
    function!(
        "CHAR_LENGTH",
        "CHAR_LENGTH(string)",
        &[Text],
        1,
        TypeRoot::Int,
        char_length
    ),
    function!(
        "CHARACTER_LENGTH",
        "CHARACTER_LENGTH(string)",
        &[Text],
        1,
        TypeRoot::Int,
        char_length
    ),
    function!("ASCII", "ASCII(string)", &[Text], 1, TypeRoot::Int, ascii),
    function!("CHR", "CHR(integer)", &[Kind::BigInt], 1, STRING, chr),
    function!("REVERSE", "REVERSE(string)", &[Text], 1, STRING, reverse),
    function!("REPEAT", "REPEAT(string, times)", &[Text, Int], 2, STRING, repeat),
    function!(
        "REPLACE",
        "REPLACE(string, old, new)",
        &[Text, Text, Text],
        3,
        STRING,
        replace
    ),
    function!(
        "TRANSLATE",
        "TRANSLATE(string, from, to)",
        &[Text, Text, Text],
        3,
        STRING,
        translate
    ),
    function!(
        or_null "SUBSTRING", "SUBSTRING(string FROM position [FOR length])", &[Text, Int, Int], 2, STRING, substring
    ),
    function!(or_null "SUBSTR", "SUBSTR(string, position [, length])", &[Text, Int, Int], 2, STRING, substring),
    function!("LEFT", "LEFT(string, length)", &[Text, Int], 2, STRING, left),
    function!("RIGHT", "RIGHT(string, length)", &[Text, Int], 2, STRING, right),
    function!(or_null "LPAD", "LPAD(string, length, pad)", &[Text, Int, Text], 3, STRING, |call| pad(call, true)),
    function!(or_null "RPAD", "RPAD(string, length, pad)", &[Text, Int, Text], 3, STRING, |call| pad(call, false)),
    function!(
        "OVERLAY",
        "OVERLAY(string PLACING string FROM position [FOR length])",
        &[Text, Text, Int, Int],
        3,
        STRING,
        overlay
    ),
    function!(
        "POSITION",
        "POSITION(string IN string)",
        &[Text, Text, Int],
        2,
        TypeRoot::Int,
        |call| position(call, 0, 1)
    ),
    function!(
        "LOCATE",
        "LOCATE(part, string [, from])",
        &[Text, Text, Int],
        2,
        TypeRoot::Int,
        |call| position(call, 0, 1)
    ),
    function!(
        "INSTR",
        "INSTR(string, part [, from [, nth]])",
        &[Text, Text, Int, Int],
        2,
        TypeRoot::Int,
        instr
    ),
    function!(
        "STARTSWITH",
        "STARTSWITH(string, start)",
        &[Text, Text],
        2,
        TypeRoot::Boolean,
        |call| { compare_texts(call, |text, part| text.starts_with(part)) }
    ),
    function!(
        "ENDSWITH",
        "ENDSWITH(string, end)",
        &[Text, Text],
        2,
        TypeRoot::Boolean,
        |call| { compare_texts(call, |text, part| text.ends_with(part)) }
    ),
    ScalarFunction {
        name: "TRIM",
        usage: "TRIM([BOTH | LEADING | TRAILING] [characters FROM] string)",
        infer: infer_trim,
        kernel: trim,
        is_deterministic: true,
    },
    function!(
        "LTRIM",
        "LTRIM(string [, characters])",
        &[Text, Text],
        1,
        STRING,
        |call| trim_side(call, true, false)
    ),
    function!(
        "RTRIM",
        "RTRIM(string [, characters])",
        &[Text, Text],
        1,
        STRING,
        |call| trim_side(call, false, true)
    ),
    function!(
        "BTRIM",
        "BTRIM(string [, characters])",
        &[Text, Text],
        1,
        STRING,
        |call| trim_side(call, true, true)
    ),
    ScalarFunction {
        name: "CONCAT",
        usage: "CONCAT(string, ..)",
        infer: infer_concat,
        kernel: concat,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "||",
        usage: "string || string",
        infer: infer_concat,
        kernel: concat,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "CONCAT_WS",
        usage: "CONCAT_WS(separator, string, ..)",
        infer: infer_concat_ws,
        kernel: concat_ws,
        is_deterministic: true,
    },
];

fn cased(call: &Call<'_>, upper: bool) -> Result<ArrayRef, String> {
    let is_whole = call.args.first().is_some_and(|arg| !arg.is_scalar());
    if let (true, Some(column)) = (is_whole, texts(call, 0)?.ascii_column()) {
        let mut bytes = column.value_data().to_vec();
        match upper {
            true => bytes.make_ascii_uppercase(),
            false => bytes.make_ascii_lowercase(),
        }
        let cased = StringArray::try_new(column.offsets().clone(), bytes.into(), column.nulls().cloned());
        return Ok(Arc::new(cased.map_err(|error| error.to_string())?));
    }
    map_text(call, |text, out| {
        match (upper, text.is_ascii()) {
            (true, true) => text
                .chars()
                .for_each(|next| push_char(out, next.to_ascii_uppercase())),
            (false, true) => text
                .chars()
                .for_each(|next| push_char(out, next.to_ascii_lowercase())),
            (true, false) => push(out, &text.to_uppercase()),
            (false, false) => push(out, &text.to_lowercase()),
        }
        DONE
    })
}

/// Words are of ASCII letters and digits; all else is between them and stays as it is.
fn initcap(call: &Call<'_>) -> Result<ArrayRef, String> {
    map_text(call, |text, out| {
        let mut starts = true;
        for character in text.chars() {
            let written = match starts {
                true => character.to_ascii_uppercase(),
                false => character.to_ascii_lowercase(),
            };
            push_char(out, written);
            starts = !character.is_ascii_alphanumeric();
        }
        DONE
    })
}

/// Code points.
pub(super) fn count(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// The byte at which a code point begins; the end if there are fewer.
pub(super) fn byte_of(text: &str, point: usize) -> usize {
    if text.is_ascii() {
        return point.min(text.len());
    }
    text.char_indices()
        .nth(point)
        .map_or(text.len(), |(byte, _)| byte)
}

fn char_length(call: &Call<'_>) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    numbers_of::<Int32Type>(call.rows, |row| Ok(input.get(row).map(|text| count(text) as i32)))
}

/// The first byte, as Java has bytes: with a sign.
fn ascii(call: &Call<'_>) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    numbers_of::<Int32Type>(call.rows, |row| {
        Ok(input
            .get(row)
            .map(|text| text.bytes().next().map_or(0, |byte| i32::from(byte as i8))))
    })
}

fn chr(call: &Call<'_>) -> Result<ArrayRef, String> {
    let input = numbers::<Int64Type>(call, 0)?;
    write_texts(call.rows, call.rows, |row, out| match input.get(row) {
        None => Ok(None),
        Some(code) => {
            if code >= 0 {
                push_char(out, char::from((code & 0xFF) as u8));
            }
            DONE
        }
    })
}

fn reverse(call: &Call<'_>) -> Result<ArrayRef, String> {
    map_text(call, |text, out| {
        text.chars().rev().for_each(|character| push_char(out, character));
        DONE
    })
}

/// No text has more bytes than a Java array.
const LONGEST: usize = i32::MAX as usize;

fn repeat(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, times) = (texts(call, 0)?, numbers::<Int32Type>(call, 1)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(times)) = (input.get(row), times.get(row)) else {
            return Ok(None);
        };
        let times = usize::try_from(times).unwrap_or(0);
        if text.len().saturating_mul(times) > LONGEST / 8 {
            return Err(format!(
                "a text of {} bytes can't be repeated {times} times",
                text.len()
            ));
        }
        (0..times).for_each(|_| push(out, text));
        DONE
    })
}

/// `String.replace`: an empty old text stands before each character and at the end.
fn replace(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, old, new) = (texts(call, 0)?, texts(call, 1)?, texts(call, 2)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(old), Some(new)) = (input.get(row), old.get(row), new.get(row)) else {
            return Ok(None);
        };
        let mut rest = 0;
        for (start, found) in text.match_indices(old) {
            push(out, &text[rest..start]);
            push(out, new);
            rest = start + found.len();
        }
        push(out, &text[rest..]);
        DONE
    })
}

/// Characters without a counterpart are dropped; of one that is there twice the first counts.
fn translate(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, from, to) = (texts(call, 0)?, texts(call, 1)?, texts(call, 2)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(from), Some(to)) = (input.get(row), from.get(row), to.get(row)) else {
            return Ok(None);
        };
        for character in text.chars() {
            match from.chars().position(|known| known == character) {
                None => push_char(out, character),
                Some(place) => to
                    .chars()
                    .nth(place)
                    .into_iter()
                    .for_each(|new| push_char(out, new)),
            }
        }
        DONE
    })
}

/// From a position, counted from 1, or from the end if it is below 0; a negative length is null.
fn substring(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, start) = (texts(call, 0)?, numbers::<Int32Type>(call, 1)?);
    let length = (call.args.len() > 2)
        .then(|| numbers::<Int32Type>(call, 2))
        .transpose()?;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(start)) = (input.get(row), start.get(row)) else {
            return Ok(None);
        };
        let length = match &length {
            None => Some(i32::MAX),
            Some(length) => length.get(row),
        };
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
            return Ok(None);
        };
        push(out, part(text, start, length));
        DONE
    })
}

fn part(text: &str, start: i32, length: usize) -> &str {
    let start = match start {
        1.. => start as usize - 1,
        0 => 0,
        _ => match count(text).checked_sub(start.unsigned_abs() as usize) {
            Some(start) => start,
            None => return "",
        },
    };
    let rest = &text[byte_of(text, start)..];
    &rest[..byte_of(rest, length)]
}

fn left(call: &Call<'_>) -> Result<ArrayRef, String> {
    ends(call, |text, length| &text[..byte_of(text, length)])
}

fn right(call: &Call<'_>) -> Result<ArrayRef, String> {
    ends(call, |text, length| {
        &text[byte_of(text, count(text).saturating_sub(length))..]
    })
}

fn ends(call: &Call<'_>, end: impl Fn(&str, usize) -> &str) -> Result<ArrayRef, String> {
    let (input, length) = (texts(call, 0)?, numbers::<Int32Type>(call, 1)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(length)) = (input.get(row), length.get(row)) else {
            return Ok(None);
        };
        push(out, end(text, usize::try_from(length).unwrap_or(0)));
        DONE
    })
}

/// A pad of nothing and a negative length are null.
fn pad(call: &Call<'_>, in_front: bool) -> Result<ArrayRef, String> {
    let (input, length, pad) = (texts(call, 0)?, numbers::<Int32Type>(call, 1)?, texts(call, 2)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(length), Some(pad)) = (input.get(row), length.get(row), pad.get(row)) else {
            return Ok(None);
        };
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        if pad.is_empty() {
            return Ok(None);
        }
        if length > LONGEST / 8 {
            return Err(format!("a text can't be padded to {length} characters"));
        }
        if !(text.is_ascii() && pad.is_ascii()) {
            utf16::pad(out, text, length, pad, in_front);
            return DONE;
        }
        let kept = &text[..text.len().min(length)];
        if !in_front {
            push(out, kept);
        }
        let mut missing = length - kept.len();
        while missing > 0 {
            let piece = &pad[..pad.len().min(missing)];
            push(out, piece);
            missing -= piece.len();
        }
        if in_front {
            push(out, kept);
        }
        DONE
    })
}

fn overlay(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, new, start) = (texts(call, 0)?, texts(call, 1)?, numbers::<Int32Type>(call, 2)?);
    let length = (call.args.len() > 3)
        .then(|| numbers::<Int32Type>(call, 3))
        .transpose()?;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(new), Some(start)) = (input.get(row), new.get(row), start.get(row)) else {
            return Ok(None);
        };
        let length = match &length {
            None => Some(utf16::length(new) as i64),
            Some(length) => length.get(row).map(i64::from),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        utf16::overlay(out, text, new, start.into(), length);
        DONE
    })
}

/// Where a part is, counted from 1; 0 if it isn't there.
fn position(call: &Call<'_>, part: usize, whole: usize) -> Result<ArrayRef, String> {
    let (part, whole) = (texts(call, part)?, texts(call, whole)?);
    let from = (call.args.len() > 2)
        .then(|| numbers::<Int32Type>(call, 2))
        .transpose()?;
    numbers_of::<Int32Type>(call.rows, |row| {
        let (Some(part), Some(whole)) = (part.get(row), whole.get(row)) else {
            return Ok(None);
        };
        let from = match &from {
            None => Some(1),
            Some(from) => from.get(row),
        };
        Ok(from.map(|from| index_of(whole, part, i64::from(from) - 1) + 1))
    })
}

/// The code point at which a part begins, at or behind another one; -1 if it isn't there. An empty part is at 0 always.
fn index_of(whole: &str, part: &str, from: i64) -> i32 {
    if part.is_empty() {
        return 0;
    }
    let start = byte_of(whole, usize::try_from(from).unwrap_or(0));
    match whole[start..].find(part) {
        None => -1,
        Some(byte) => count(&whole[..start + byte]) as i32,
    }
}

fn instr(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (whole, part) = (texts(call, 0)?, texts(call, 1)?);
    let from = (call.args.len() > 2)
        .then(|| numbers::<Int32Type>(call, 2))
        .transpose()?;
    let nth = (call.args.len() > 3)
        .then(|| numbers::<Int32Type>(call, 3))
        .transpose()?;
    numbers_of::<Int32Type>(call.rows, |row| {
        let (Some(whole), Some(part)) = (whole.get(row), part.get(row)) else {
            return Ok(None);
        };
        let given = |numbers: &Option<super::support::Numbers<'_, Int32Type>>| match numbers {
            None => Some(1),
            Some(numbers) => numbers.get(row),
        };
        match (given(&from), given(&nth)) {
            (Some(from), Some(nth)) => nth_position(whole, part, from, nth).map(Some),
            _ => Ok(None),
        }
    })
}

/// The nth appearance from a position on, or from the end backwards if that is below 0.
fn nth_position(whole: &str, part: &str, from: i32, nth: i32) -> Result<i32, String> {
    if nth <= 0 {
        return Err("nthAppearance must be positive!".into());
    }
    match from {
        0 => Ok(0),
        1.. => {
            let (mut start, mut index) = (from, 0);
            for _ in 0..nth {
                index = index_of(whole, part, i64::from(start) - 1) + 1;
                if index == 0 {
                    return Ok(0);
                }
                start = index + 1;
            }
            Ok(index)
        }
        _ => {
            let backwards = |text: &str| text.chars().rev().collect::<String>();
            let found = nth_position(&backwards(whole), &backwards(part), from.saturating_neg(), nth)?;
            Ok(match found {
                0 => 0,
                found => count(whole) as i32 + 2 - found - count(part) as i32,
            })
        }
    }
}

fn infer_trim(args: &[Expr]) -> Result<Signature, String> {
    match args.len() {
        3 => fixed(args, &[Text, Text, Text], 3, STRING),
        _ => fixed(args, &[Text], 1, STRING).map_err(|_| "(STRING)".into()),
    }
}

fn trim(call: &Call<'_>) -> Result<ArrayRef, String> {
    if call.args.len() == 1 {
        return trim_side(call, true, true);
    }
    let side = texts(call, 0)?.constant().unwrap_or("BOTH");
    let (front, back) = (side != "TRAILING", side != "LEADING");
    let (characters, input) = (texts(call, 1)?, texts(call, 2)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(characters)) = (input.get(row), characters.get(row)) else {
            return Ok(None);
        };
        push(out, trimmed(text, characters, front, back));
        DONE
    })
}

fn trim_side(call: &Call<'_>, front: bool, back: bool) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    let characters = (call.args.len() > 1).then(|| texts(call, 1)).transpose()?;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let characters = match &characters {
            None => Some(" "),
            Some(characters) => characters.get(row),
        };
        let (Some(text), Some(characters)) = (input.get(row), characters) else {
            return Ok(None);
        };
        push(out, trimmed(text, characters, front, back));
        DONE
    })
}

fn trimmed<'a>(text: &'a str, characters: &str, front: bool, back: bool) -> &'a str {
    let cut = |character: char| characters.contains(character);
    let text = if front { text.trim_start_matches(cut) } else { text };
    if back { text.trim_end_matches(cut) } else { text }
}

/// All texts, or for `||` all bytes.
fn infer_concat(args: &[Expr]) -> Result<Signature, String> {
    if args.is_empty() {
        return Err("(STRING, ..)".into());
    }
    let kinds = vec![Text; args.len()];
    fixed(args, &kinds, 1, STRING).map_err(|_| "(STRING, ..)".into())
}

fn concat(call: &Call<'_>) -> Result<ArrayRef, String> {
    let parts = (0..call.args.len())
        .map(|index| texts(call, index))
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = parts.iter().map(|part| part.bytes(call.rows)).sum();
    write_texts(call.rows, bytes, |row, out| {
        if parts.iter().any(|part| part.get(row).is_none()) {
            return Ok(None);
        }
        parts
            .iter()
            .filter_map(|part| part.get(row))
            .for_each(|part| push(out, part));
        DONE
    })
}

/// Null only if the separator is; texts that are null are left out.
fn infer_concat_ws(args: &[Expr]) -> Result<Signature, String> {
    let wanted = "(STRING, STRING, ..)";
    let [separator, ..] = args else {
        return Err(wanted.into());
    };
    let fits = |arg: &Expr| is_character(&arg.data_type.root) || arg.data_type.root == TypeRoot::Null;
    if !args.iter().all(fits) {
        return Err(wanted.into());
    }
    let kinds = vec![Text; args.len()];
    let signature = fixed(args, &kinds, 1, STRING)?;
    let nullable = any_nullable(std::slice::from_ref(separator));
    Ok(Signature {
        result: DataType {
            root: STRING,
            nullable,
        },
        ..signature
    })
}

fn concat_ws(call: &Call<'_>) -> Result<ArrayRef, String> {
    let parts = (0..call.args.len())
        .map(|index| texts(call, index))
        .collect::<Result<Vec<_>, _>>()?;
    let (separator, parts) = parts.split_first().ok_or("a separator is needed")?;
    let bytes = parts.iter().map(|part| part.bytes(call.rows)).sum();
    write_texts(call.rows, bytes, |row, out: &mut StringBuilder| {
        let Some(separator) = separator.get(row) else {
            return Ok(None);
        };
        let mut is_first = true;
        for part in parts.iter().filter_map(|part| part.get(row)) {
            if !is_first {
                push(out, separator);
            }
            push(out, part);
            is_first = false;
        }
        DONE
    })
}
