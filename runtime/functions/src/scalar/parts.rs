//! Texts taken apart, and what they consist of.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow::datatypes::{Int32Type, Int64Type};
use regex::Regex;
use std::sync::LazyLock;
use thalweg_formats::text::parse_double;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::java_map::hash_order;
use super::java_regex;
use super::string::function;
use super::support::{DONE, Kind, STRING, booleans_of, fallible, fixed, numbers, push, texts, write_texts};
use crate::common_type::{is_character, is_integer, is_numeric};
use crate::registry::{Call, ScalarFunction, Signature};

use Kind::{Int, Text};

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "SPLIT_INDEX",
        usage: "SPLIT_INDEX(string, separator, index)",
        infer: infer_split_index,
        kernel: split_index,
        is_deterministic: true,
    },
    function!(
        "SPLIT",
        "SPLIT(string, separator)",
        &[Text, Text],
        2,
        TypeRoot::Array(Box::new(DataType::not_null(STRING))),
        split
    ),
    function!(
        "STR_TO_MAP",
        "STR_TO_MAP(string [, pair separator, key separator])",
        &[Text, Text, Text],
        1,
        TypeRoot::Map(Box::new(DataType::string()), Box::new(DataType::string())),
        str_to_map
    ),
    ScalarFunction {
        name: "ELT",
        usage: "ELT(index, string, ..)",
        infer: infer_elt,
        kernel: elt,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "IS_ALPHA",
        usage: "IS_ALPHA(value)",
        infer: infer_any,
        kernel: |call| consists(call, |_| false, is_alpha),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "IS_DIGIT",
        usage: "IS_DIGIT(value)",
        infer: infer_any,
        kernel: |call| consists(call, is_integer, is_digit),
        is_deterministic: true,
    },
    ScalarFunction {
        name: "IS_DECIMAL",
        usage: "IS_DECIMAL(value)",
        infer: infer_any,
        kernel: |call| consists(call, is_numeric, |text| parse_double(text.as_bytes()).is_some()),
        is_deterministic: true,
    },
];

/// The separator is a text, or the number of a character.
fn infer_split_index(args: &[Expr]) -> Result<Signature, String> {
    match args {
        [_, separator, _] if is_integer(&separator.data_type.root) => {
            fallible(args, &[Text, Int, Int], 3, STRING)
        }
        _ => fallible(args, &[Text, Text, Int], 3, STRING),
    }
    .map_err(|_| "(STRING, STRING, INT) or (STRING, INT, INT)".into())
}

/// An empty text has no parts.
fn split_index(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, index) = (texts(call, 0)?, numbers::<Int32Type>(call, 2)?);
    let by_text = call
        .arg_types
        .get(1)
        .is_some_and(|separator| is_character(&separator.root));
    let separators = by_text.then(|| texts(call, 1)).transpose()?;
    let codes = (!by_text).then(|| numbers::<Int32Type>(call, 1)).transpose()?;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(index)) = (input.get(row), index.get(row)) else {
            return Ok(None);
        };
        let Ok(index) = usize::try_from(index) else {
            return Ok(None);
        };
        let mut buffer = [0; 4];
        let separator = match (&separators, &codes) {
            (Some(separators), _) => separators.get(row),
            (None, Some(codes)) => match codes.get(row) {
                Some(code @ 1..=255) => Some(&*char::from(code as u8).encode_utf8(&mut buffer)),
                _ => None,
            },
            _ => None,
        };
        let part = match separator {
            None => None,
            _ if text.is_empty() => None,
            Some("") => text.split(is_java_whitespace).nth(index),
            Some(separator) => text.split(separator).nth(index),
        };
        match part {
            None => Ok(None),
            Some(part) => {
                push(out, part);
                DONE
            }
        }
    })
}

/// `Character.isWhitespace`: without the spaces that don't break.
fn is_java_whitespace(character: char) -> bool {
    match character {
        '\u{1c}'..='\u{1f}' => true,
        '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{85}' => false,
        other => other.is_whitespace(),
    }
}

fn split(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, separators) = (texts(call, 0)?, texts(call, 1)?);
    let mut out = ListBuilder::new(StringBuilder::with_capacity(
        call.rows * 2,
        input.bytes(call.rows),
    ));
    for row in 0..call.rows {
        let (Some(text), Some(separator)) = (input.get(row), separators.get(row)) else {
            out.append_null();
            continue;
        };
        if separator.is_empty() {
            for (start, character) in text.char_indices() {
                out.values()
                    .append_value(&text[start..start + character.len_utf8()]);
            }
        } else if !text.is_empty() {
            text.split(separator)
                .for_each(|part| out.values().append_value(part));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// Separators are regular expressions; entries stand in the order of a `HashMap`.
fn str_to_map(call: &Call<'_>) -> Result<ArrayRef, String> {
    let input = texts(call, 0)?;
    let given = |index: usize| (call.args.len() > index).then(|| texts(call, index)).transpose();
    let (pairs, keys) = (given(1)?, given(2)?);
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "key".into(),
        value: "value".into(),
    };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..call.rows {
        let pair = pairs.as_ref().map_or(Some(","), |given| given.get(row));
        let key = keys.as_ref().map_or(Some("="), |given| given.get(row));
        let (Some(text), Some(pair), Some(key)) = (input.get(row), pair, key) else {
            out.append(false).map_err(|error| error.to_string())?;
            continue;
        };
        for (key, value) in entries(text, pair, key)? {
            out.keys().append_value(key);
            out.values().append_option(value);
        }
        out.append(true).map_err(|error| error.to_string())?;
    }
    Ok(Arc::new(out.finish()))
}

fn entries<'a>(
    text: &'a str,
    pair_separator: &str,
    key_separator: &str,
) -> Result<Vec<(&'a str, Option<&'a str>)>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let invalid = |pattern: &str| format!("'{pattern}' is no regular expression that this engine has");
    let pairs = java_regex::compiled(pair_separator).map_err(|_| invalid(pair_separator))?;
    let keys = java_regex::compiled(key_separator).map_err(|_| invalid(key_separator))?;
    let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
    let pairs = java_split(&pairs, text);
    for pair in &pairs {
        let (key, value) = match keys.find_iter(pair).find(|found| found.end() > 0) {
            None => (*pair, None),
            Some(found) => (&pair[..found.start()], Some(&pair[found.end()..])),
        };
        match entries.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }
    Ok(hash_order(entries, pairs.len(), |(key, _)| key))
}

/// `String.split`: no empty parts at the end.
fn java_split<'a>(separator: &Regex, text: &'a str) -> Vec<&'a str> {
    let (mut parts, mut rest) = (Vec::new(), 0);
    java_regex::for_each_match(separator, text, |start, end| {
        if end > 0 {
            parts.push(&text[rest..start]);
            rest = end;
        }
    });
    if rest == 0 && parts.is_empty() {
        return vec![text];
    }
    parts.push(&text[rest..]);
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

fn infer_elt(args: &[Expr]) -> Result<Signature, String> {
    let mut kinds = vec![Text; args.len()];
    if let Some(first) = kinds.first_mut() {
        *first = Kind::BigInt;
    }
    fallible(args, &kinds, 2, STRING).map_err(|_| "(INT, STRING, ..)".into())
}

/// The text of that number, counted from 1.
fn elt(call: &Call<'_>) -> Result<ArrayRef, String> {
    let index = numbers::<Int64Type>(call, 0)?;
    let parts = (1..call.args.len())
        .map(|part| texts(call, part))
        .collect::<Result<Vec<_>, _>>()?;
    write_texts(call.rows, 0, |row, out| {
        let place = index.get(row).and_then(|index| usize::try_from(index).ok());
        let part = place
            .and_then(|place| parts.get(place.checked_sub(1)?))
            .and_then(|part| part.get(row));
        match part {
            None => Ok(None),
            Some(part) => {
                push(out, part);
                DONE
            }
        }
    })
}

fn infer_any(args: &[Expr]) -> Result<Signature, String> {
    let [arg] = args else {
        return Err("(ANY)".into());
    };
    Ok(Signature {
        args: vec![arg.data_type.clone()],
        result: DataType::not_null(TypeRoot::Boolean),
    })
}

/// Of a text what it consists of, of other types what they are; null is not.
fn consists(
    call: &Call<'_>,
    other: impl Fn(&TypeRoot) -> bool,
    test: impl Fn(&str) -> bool,
) -> Result<ArrayRef, String> {
    let root = call
        .arg_types
        .first()
        .map_or(&TypeRoot::Null, |data_type| &data_type.root);
    if is_character(root) {
        let input = texts(call, 0)?;
        return booleans_of(call.rows, |row| Ok(Some(input.get(row).is_some_and(&test))));
    }
    let is_one = other(root);
    let values: BooleanArray = (0..call.rows)
        .map(|row| {
            Some(
                is_one
                    && call
                        .args
                        .first()
                        .is_some_and(|arg| arg.array().is_valid(arg.index(row))),
            )
        })
        .collect();
    Ok(Arc::new(values))
}

static LETTERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A\p{L}+\z").ok());
static DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A\p{Nd}+\z").ok());

/// Of Java's characters each for itself: what is beyond the first 65536 is none.
fn consists_of(text: &str, ascii: fn(&u8) -> bool, other: &LazyLock<Option<Regex>>) -> bool {
    if text.is_ascii() {
        return !text.is_empty() && text.as_bytes().iter().all(ascii);
    }
    text.chars().all(|character| character <= '\u{ffff}')
        && other.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn is_alpha(text: &str) -> bool {
    consists_of(text, u8::is_ascii_alphabetic, &LETTERS)
}

fn is_digit(text: &str) -> bool {
    consists_of(text, u8::is_ascii_digit, &DIGITS)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{int, null, text};
    use thalweg_plan::TypeRoot;

    #[test]
    fn texts_are_split_and_looked_at_as_in_java() {
        check(&[
            ("SPLIT_INDEX", &[text("a,b,,c"), text(","), int(2)], ""),
            ("SPLIT_INDEX", &[text("a,b"), text(","), int(9)], "NULL"),
            ("SPLIT_INDEX", &[text("a,b"), text(","), int(-1)], "NULL"),
            ("SPLIT_INDEX", &[text("a,b"), int(44), int(1)], "b"),
            ("SPLIT_INDEX", &[text("AQIDBA=="), text("I"), int(0)], "AQ"),
            ("SPLIT", &[text("a,b,,c,"), text(",")], "[a, b, , c, ]"),
            ("SPLIT", &[text("ab"), text("")], "[a, b]"),
            ("STR_TO_MAP", &[text("a=1,b=2,a=3,c")], "{a=3, b=2, c=NULL}"),
            (
                "STR_TO_MAP",
                &[text("k1:v1|k2:v2"), text("\\|"), text(":")],
                "{k1=v1, k2=v2}",
            ),
            ("ELT", &[int(2), text("x"), text("y")], "y"),
            ("ELT", &[int(3), text("x"), text("y")], "NULL"),
            ("IS_ALPHA", &[text("äb")], "TRUE"),
            ("IS_ALPHA", &[null(TypeRoot::VarChar(9))], "FALSE"),
            ("IS_DIGIT", &[text("12")], "TRUE"),
            ("IS_DIGIT", &[int(12)], "TRUE"),
            ("IS_DECIMAL", &[text("-1.5e3")], "TRUE"),
            ("IS_DECIMAL", &[text("1.5x")], "FALSE"),
        ]);
    }
}
