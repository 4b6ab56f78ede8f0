//! REGEXP and its kin. A pattern that Java refuses gives what Flink gives for it: mostly null, false of REGEXP.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::Int32Type;
use regex::Regex;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::java_regex::{self, PatternError};
use super::support::{
    DONE, Kind, STRING, Texts, booleans_of, fallible, fixed, literal_text, numbers, numbers_of, push, texts,
    write_texts,
};
use super::utf16;
use crate::registry::{Call, ScalarFunction, Signature};

use Kind::{Int, Text};

/// A function whose second argument is a pattern; null where Java refuses it.
macro_rules! function {
    ($name:literal, $usage:literal, $kinds:expr, $required:literal, $result:expr, $kernel:expr) => {
        ScalarFunction {
            name: $name,
            usage: $usage,
            infer: |args| pattern_signature(fallible(args, $kinds, $required, $result)?, args),
            kernel: $kernel,
            is_deterministic: true,
        }
    };
}

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "REGEXP",
        usage: "REGEXP(string, pattern)",
        infer: |args| pattern_signature(fixed(args, &[Text, Text], 2, TypeRoot::Boolean)?, args),
        kernel: regexp,
        is_deterministic: true,
    },
    function!(
        "REGEXP_EXTRACT",
        "REGEXP_EXTRACT(string, pattern [, group])",
        &[Text, Text, Int],
        2,
        STRING,
        extract
    ),
    function!(
        "REGEXP_EXTRACT_ALL",
        "REGEXP_EXTRACT_ALL(string, pattern [, group])",
        &[Text, Text, Int],
        2,
        TypeRoot::Array(Box::new(DataType::string())),
        extract_all
    ),
    function!(
        "REGEXP_REPLACE",
        "REGEXP_REPLACE(string, pattern, new)",
        &[Text, Text, Text],
        3,
        STRING,
        replace
    ),
    function!(
        "REGEXP_COUNT",
        "REGEXP_COUNT(string, pattern)",
        &[Text, Text],
        2,
        TypeRoot::Int,
        count
    ),
    function!(
        "REGEXP_INSTR",
        "REGEXP_INSTR(string, pattern)",
        &[Text, Text],
        2,
        TypeRoot::Int,
        instr
    ),
    function!(
        "REGEXP_SUBSTR",
        "REGEXP_SUBSTR(string, pattern)",
        &[Text, Text],
        2,
        STRING,
        substr
    ),
    function!(
        "REGEXP_SPLIT",
        "REGEXP_SPLIT(string, pattern)",
        &[Text, Text],
        2,
        TypeRoot::Array(Box::new(DataType::string())),
        split
    ),
];

/// Refuses a constant pattern that this engine has not.
fn pattern_signature(signature: Signature, args: &[Expr]) -> Result<Signature, String> {
    match args.get(1).and_then(literal_text).map(java_regex::compiled) {
        Some(Err(PatternError::Unsupported(what))) => Err(missing(&what)),
        _ => Ok(signature),
    }
}

/// The pattern of a row; `None` if Java refuses it.
fn pattern_of(pattern: &str) -> Result<Option<Rc<Regex>>, String> {
    match java_regex::compiled(pattern) {
        Ok(regex) => Ok(Some(regex)),
        Err(PatternError::Invalid) => Ok(None),
        Err(PatternError::Unsupported(what)) => Err(missing(&what)),
    }
}

fn missing(what: &str) -> String {
    format!("the pattern needs {what}, which this engine's regular expressions don't have")
}

/// Texts, and patterns that are looked up only when they change.
struct Patterns<'a> {
    patterns: Texts<'a>,
    last: Option<(&'a str, Option<Rc<Regex>>)>,
}

impl<'a> Patterns<'a> {
    fn of(call: &'a Call<'_>) -> Result<Self, String> {
        Ok(Self {
            patterns: texts(call, 1)?,
            last: None,
        })
    }

    /// `None` for null, `Some(None)` for one that Java refuses.
    fn get(&mut self, row: usize) -> Result<Option<Option<Rc<Regex>>>, String> {
        let Some(pattern) = self.patterns.get(row) else {
            return Ok(None);
        };
        if let Some((known, regex)) = &self.last
            && *known == pattern
        {
            return Ok(Some(regex.clone()));
        }
        let regex = pattern_of(pattern)?;
        self.last = Some((pattern, regex.clone()));
        Ok(Some(regex))
    }

    /// Without telling null from refused.
    fn valid(&mut self, row: usize) -> Result<Option<Rc<Regex>>, String> {
        Ok(self.get(row)?.flatten())
    }
}

fn regexp(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    booleans_of(call.rows, |row| {
        let (Some(text), Some(regex)) = (input.get(row), patterns.get(row)?) else {
            return Ok(None);
        };
        // An empty pattern matches nothing, in Flink.
        Ok(Some(regex.is_some_and(|regex| {
            !regex.as_str().is_empty() && regex.is_match(text)
        })))
    })
}

fn extract(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    let groups = (call.args.len() > 2)
        .then(|| numbers::<Int32Type>(call, 2))
        .transpose()?;
    let mut locations: Option<(Rc<Regex>, regex::CaptureLocations)> = None;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let group = match &groups {
            None => Some(0),
            Some(groups) => groups.get(row),
        };
        let (Some(text), Some(regex), Some(group)) = (input.get(row), patterns.valid(row)?, group) else {
            return Ok(None);
        };
        let Ok(group) = usize::try_from(group) else {
            return Ok(None);
        };
        let (_, locations) = match &mut locations {
            Some(known) if Rc::ptr_eq(&known.0, &regex) => known,
            other => other.insert((Rc::clone(&regex), regex.capture_locations())),
        };
        if regex.captures_read(locations, text).is_none() {
            return Ok(None);
        }
        match locations.get(group) {
            None => Ok(None),
            Some((start, end)) => {
                push(out, &text[start..end]);
                DONE
            }
        }
    })
}

fn extract_all(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    let groups = (call.args.len() > 2)
        .then(|| numbers::<Int32Type>(call, 2))
        .transpose()?;
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        let group = match &groups {
            None => Some(1),
            Some(groups) => groups.get(row),
        };
        let (Some(text), Some(regex), Some(group)) = (input.get(row), patterns.valid(row)?, group) else {
            out.append_null();
            continue;
        };
        let group = usize::try_from(group)
            .ok()
            .filter(|group| *group < regex.captures_len());
        let Some(group) = group else {
            out.append_null();
            continue;
        };
        java_regex::for_each_match(&regex, text, |start, _| {
            let found = regex.captures_at(text, start);
            let part = found.and_then(|found| found.get(group)).map(|part| part.as_str());
            out.values().append_option(part);
        });
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn replace(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns, new) = (texts(call, 0)?, Patterns::of(call)?, texts(call, 2)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(regex), Some(new)) = (input.get(row), patterns.valid(row)?, new.get(row))
        else {
            return Ok(None);
        };
        let mut rest = 0;
        java_regex::for_each_match(&regex, text, |start, end| {
            push(out, &text[rest..start]);
            push(out, new);
            rest = end;
        });
        push(out, &text[rest..]);
        DONE
    })
}

fn count(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    numbers_of::<Int32Type>(call.rows, |row| {
        let (Some(text), Some(regex)) = (input.get(row), patterns.valid(row)?) else {
            return Ok(None);
        };
        let mut count = 0;
        java_regex::for_each_match(&regex, text, |_, _| count += 1);
        Ok(Some(count))
    })
}

fn instr(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    numbers_of::<Int32Type>(call.rows, |row| {
        let (Some(text), Some(regex)) = (input.get(row), patterns.valid(row)?) else {
            return Ok(None);
        };
        let place = regex
            .find(text)
            .map_or(0, |found| utf16::length(&text[..found.start()]) + 1);
        Ok(Some(place as i32))
    })
}

fn substr(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(text), Some(regex)) = (input.get(row), patterns.valid(row)?) else {
            return Ok(None);
        };
        match regex.find(text) {
            None => Ok(None),
            Some(found) => {
                push(out, found.as_str());
                DONE
            }
        }
    })
}

/// `Pattern.split` that keeps empty parts at the end.
fn split(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut patterns) = (texts(call, 0)?, Patterns::of(call)?);
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        let (Some(text), Some(regex)) = (input.get(row), patterns.valid(row)?) else {
            out.append_null();
            continue;
        };
        let mut rest = 0;
        java_regex::for_each_match(&regex, text, |start, end| {
            // An empty match at the very start gives no part.
            if end > 0 {
                out.values().append_value(&text[rest..start]);
                rest = end;
            }
        });
        out.values().append_value(&text[rest..]);
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{int, text};

    #[test]
    fn patterns_are_javas() {
        check(&[
            (
                "REGEXP_EXTRACT",
                &[text("foothebar"), text("foo(.*?)(bar)"), int(2)],
                "bar",
            ),
            (
                "REGEXP_EXTRACT",
                &[text("foothebar"), text("foo(.*?)(bar)"), int(5)],
                "NULL",
            ),
            ("REGEXP_EXTRACT", &[text("a"), text("("), int(0)], "NULL"),
            (
                "REGEXP_EXTRACT",
                &[
                    text("https://x/?a=1&channel_id=77&b"),
                    text("(&|^)channel_id=([^&]*)"),
                    int(2),
                ],
                "77",
            ),
            (
                "REGEXP_REPLACE",
                &[text("foobar"), text("oo|ar"), text("$1")],
                "f$1b$1",
            ),
            ("REGEXP_REPLACE", &[text("baac"), text("a*"), text("-")], "-b--c-"),
            ("REGEXP_REPLACE", &[text("x"), text("["), text("-")], "NULL"),
            ("REGEXP", &[text("Hello"), text("l+")], "TRUE"),
            ("REGEXP", &[text("Hello"), text("")], "FALSE"),
            ("REGEXP", &[text("Hello"), text("(")], "FALSE"),
            ("REGEXP_COUNT", &[text("Hello World"), text("l")], "3"),
            ("REGEXP_INSTR", &[text("😀ab"), text("a")], "3"),
            ("REGEXP_SUBSTR", &[text("Hello World"), text("o.")], "o "),
            (
                "REGEXP_EXTRACT_ALL",
                &[text("100-200, 300-400"), text(r"(\d+)-(\d+)")],
                "[100, 300]",
            ),
            (
                "REGEXP_EXTRACT_ALL",
                &[text("100-200, 300-400"), text(r"(\d+)-(\d+)"), int(3)],
                "NULL",
            ),
            ("REGEXP", &[text("a"), text("(?=a)")], "error: look-ahead"),
        ]);
    }
}
