//! Questions to JSON: JSON_VALUE, JSON_QUERY, JSON_EXISTS, IS JSON, and texts in and out of quotes.

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, ListBuilder, StringBuilder};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::json_path::{self, Found, Mode, Path};
use super::json_tree::{Json, is_integer};
use super::string::function;
use super::support::{
    DONE, Kind, STRING, Texts, Written, booleans_of, fallible, fixed, literal_text, map_text, push,
    push_char, texts, write_texts,
};
use crate::common_type::is_character;
use crate::registry::{Call, ScalarFunction, Signature};

use Kind::Text;

/// A test of what a text is as JSON; null is not.
macro_rules! is_json {
    ($name:literal, $test:expr) => {
        ScalarFunction {
            name: $name,
            usage: concat!("string ", $name),
            infer: |args| {
                let signature = fixed(args, &[Text], 1, TypeRoot::Boolean)?;
                Ok(Signature {
                    result: DataType::not_null(TypeRoot::Boolean),
                    ..signature
                })
            },
            kernel: |call| {
                let input = texts(call, 0)?;
                let test: fn(&Json<'_>) -> bool = $test;
                booleans_of(call.rows, |row| {
                    Ok(Some(
                        input
                            .get(row)
                            .and_then(Json::parse)
                            .is_some_and(|value| test(&value)),
                    ))
                })
            },
            is_deterministic: true,
        }
    };
}

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "JSON_VALUE",
        usage: "JSON_VALUE(json, path [RETURNING type] [{NULL | ERROR | DEFAULT value} ON {EMPTY | ERROR}])",
        infer: |args| {
            with_path(
                fallible(args, &[Text; 6], 2, STRING).or_else(|_| infer_value(args))?,
                args,
            )
        },
        kernel: value,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "JSON_QUERY",
        usage: "JSON_QUERY(json, path [RETURNING type] [wrapper] [{NULL | EMPTY ARRAY | EMPTY OBJECT | ERROR} ON {EMPTY | ERROR}])",
        infer: |args| with_path(fallible(args, &[Text; 5], 2, STRING)?, args),
        kernel: query,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "JSON_EXISTS",
        usage: "JSON_EXISTS(json, path [{TRUE | FALSE | UNKNOWN | ERROR} ON ERROR])",
        infer: |args| with_path(fallible(args, &[Text; 3], 2, TypeRoot::Boolean)?, args),
        kernel: exists,
        is_deterministic: true,
    },
    is_json!("IS JSON", |_| true),
    is_json!("IS JSON OBJECT", |value| matches!(value, Json::Object(_))),
    is_json!("IS JSON ARRAY", |value| matches!(value, Json::Array(_))),
    is_json!("IS JSON SCALAR", |value| value.is_scalar()),
    function!("JSON_QUOTE", "JSON_QUOTE(string)", &[Text], 1, STRING, quote),
    function!(
        "JSON_UNQUOTE",
        "JSON_UNQUOTE(string)",
        &[Text],
        1,
        STRING,
        unquote
    ),
];

/// Defaults of other types are read as texts.
fn infer_value(args: &[Expr]) -> Result<Signature, String> {
    let wanted = || "(STRING, STRING, ..)".to_owned();
    if !matches!(args.len(), 2 | 6) {
        return Err(wanted());
    }
    let mut types = fallible(&args[..2], &[Text; 2], 2, STRING)
        .map_err(|_| wanted())?
        .args;
    types.extend(args[2..].iter().map(|arg| DataType {
        root: STRING,
        nullable: arg.data_type.nullable,
    }));
    Ok(Signature {
        args: types,
        result: DataType::string(),
    })
}

/// Refuses a constant path that there is not.
fn with_path(signature: Signature, args: &[Expr]) -> Result<Signature, String> {
    match args.get(1).and_then(literal_text).map(json_path::compiled) {
        Some(Err(message)) => Err(message),
        _ => Ok(signature),
    }
}

/// The paths of rows, looked up only when they change.
struct Paths<'a> {
    paths: Texts<'a>,
    last: Option<(&'a str, Rc<Path>)>,
}

impl<'a> Paths<'a> {
    fn of(call: &'a Call<'_>) -> Result<Self, String> {
        Ok(Self {
            paths: texts(call, 1)?,
            last: None,
        })
    }

    fn get(&mut self, row: usize) -> Result<Option<Rc<Path>>, String> {
        let Some(path) = self.paths.get(row) else {
            return Ok(None);
        };
        if self.last.as_ref().is_none_or(|(known, _)| *known != path) {
            self.last = Some((path, json_path::compiled(path)?));
        }
        Ok(self.last.as_ref().map(|(_, path)| Rc::clone(path)))
    }
}

/// A word of the call: what happens on empty or error.
fn word<'a>(call: &'a Call<'_>, place: usize, otherwise: &'static str) -> Result<&'a str, String> {
    match call.args.len() > place {
        true => Ok(texts(call, place)?.constant().unwrap_or(otherwise)),
        false => Ok(otherwise),
    }
}

/// Reads a row's document along its path and hands on what is found.
fn look<R>(text: &str, path: &Path, then: impl FnOnce(Result<Option<&Found<'_, '_>>, String>) -> R) -> R {
    match Json::parse(text) {
        None if path.mode == Mode::Lax => then(Ok(None)),
        None => then(Err(format!("'{text}' is no JSON"))),
        Some(document) => match path.read(&document) {
            Ok(found) => then(Ok(found.as_ref())),
            Err(message) => then(Err(message)),
        },
    }
}

/// How JSON_VALUE answers for one row.
enum Answer {
    Null,
    DefaultOnEmpty,
    DefaultOnError,
}

/// What JSON_VALUE is asked beside the document.
struct ValueCall<'a> {
    on_empty: &'a str,
    on_error: &'a str,
}

impl ValueCall<'_> {
    fn empty(&self) -> Result<Answer, String> {
        match self.on_empty {
            "ERROR" => Err("Empty result of JSON_VALUE function is not allowed".into()),
            "DEFAULT" => Ok(Answer::DefaultOnEmpty),
            _ => Ok(Answer::Null),
        }
    }

    fn error(&self, message: String) -> Result<Answer, String> {
        match self.on_error {
            "ERROR" => Err(message),
            "DEFAULT" => Ok(Answer::DefaultOnError),
            _ => Ok(Answer::Null),
        }
    }

    /// Gives a scalar to `take`, or says what stands for it.
    fn answer(
        &self,
        mode: Mode,
        found: Result<Option<&Found<'_, '_>>, String>,
        take: impl FnOnce(&Json<'_>) -> Result<(), String>,
    ) -> Result<Option<Answer>, String> {
        match found {
            Err(message) => self.error(message).map(Some),
            Ok(Some(Found::One(value))) if value.is_scalar() => take(value).map(|()| None),
            Ok(Some(_)) if mode == Mode::Strict => self
                .error("Strict jsonpath mode requires scalar value".into())
                .map(Some),
            Ok(_) => self.empty().map(Some),
        }
    }
}

/// Results of JSON_VALUE by row: from the document, or a default's text.
fn values(
    call: &Call<'_>,
    mut from_json: impl FnMut(&Json<'_>) -> Result<(), String>,
) -> Result<Vec<Option<Option<String>>>, String> {
    let (input, mut paths) = (texts(call, 0)?, Paths::of(call)?);
    let asked = ValueCall {
        on_empty: word(call, 2, "NULL")?,
        on_error: word(call, 4, "NULL")?,
    };
    let default = |place: usize, row: usize| -> Result<Option<String>, String> {
        Ok(texts(call, place)?.get(row).map(ToOwned::to_owned))
    };
    let mut answers = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let (Some(text), Some(path)) = (input.get(row), paths.get(row)?) else {
            answers.push(Some(None));
            continue;
        };
        let answer = look(text, &path, |found| {
            asked.answer(path.mode, found, &mut from_json)
        })?;
        answers.push(match answer {
            None => None,
            Some(Answer::Null) => Some(None),
            Some(Answer::DefaultOnEmpty) => Some(default(3, row)?),
            Some(Answer::DefaultOnError) => Some(default(5, row)?),
        });
    }
    Ok(answers)
}

fn value(call: &Call<'_>) -> Result<ArrayRef, String> {
    let root = &call.data_type.root;
    let wrong = |json: &Json<'_>| format!("{json:?} is no {root}");
    let not = |text: &str| format!("the default '{text}' is no {root}");
    match root {
        root if is_character(root) => value_text(call),
        TypeRoot::Boolean => {
            let mut read = Vec::new();
            let answers = values(call, |json| match json {
                Json::Boolean(value) => {
                    read.push(*value);
                    Ok(())
                }
                other => Err(wrong(other)),
            })?;
            let parse = |text: &str| match text.to_ascii_uppercase().as_str() {
                "TRUE" => Ok(true),
                "FALSE" => Ok(false),
                _ => Err(not(text)),
            };
            Ok(Arc::new(
                merged(answers, read, parse)?
                    .into_iter()
                    .collect::<BooleanArray>(),
            ))
        }
        TypeRoot::Int => {
            let mut read = Vec::new();
            let answers = values(call, |json| match json {
                Json::Number(digits) if is_integer(digits) => {
                    read.push(digits.parse::<i32>().map_err(|_| wrong(json))?);
                    Ok(())
                }
                other => Err(wrong(other)),
            })?;
            let parse = |text: &str| text.parse::<i32>().map_err(|_| not(text));
            Ok(Arc::new(
                merged(answers, read, parse)?.into_iter().collect::<Int32Array>(),
            ))
        }
        TypeRoot::Double => {
            let mut read = Vec::new();
            let answers = values(call, |json| match json {
                Json::Number(digits) => {
                    read.push(digits.parse::<f64>().map_err(|_| wrong(json))?);
                    Ok(())
                }
                other => Err(wrong(other)),
            })?;
            let parse = |text: &str| text.parse::<f64>().map_err(|_| not(text));
            Ok(Arc::new(
                merged(answers, read, parse)?
                    .into_iter()
                    .collect::<Float64Array>(),
            ))
        }
        other => Err(format!(
            "Unsupported type '{other}' for RETURNING in JSON_VALUE()."
        )),
    }
}

/// Values that were read, in the rows that have no other answer.
fn merged<T>(
    answers: Vec<Option<Option<String>>>,
    read: Vec<T>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Option<T>>, String> {
    let mut read = read.into_iter();
    answers
        .into_iter()
        .map(|answer| match answer {
            None => Ok(read.next()),
            Some(None) => Ok(None),
            Some(Some(text)) => parse(&text).map(Some),
        })
        .collect()
}

fn value_text(call: &Call<'_>) -> Result<ArrayRef, String> {
    let mut buffer = String::new();
    let mut ends = Vec::new();
    let answers = values(call, |json| {
        json.write_plain(&mut buffer).map_err(|error| error.to_string())?;
        ends.push(buffer.len());
        Ok(())
    })?;
    let mut start = 0;
    let mut ends = ends.into_iter();
    let mut out = StringBuilder::with_capacity(call.rows, buffer.len());
    for answer in answers {
        match answer {
            Some(text) => out.append_option(text),
            None => {
                let end = ends.next().unwrap_or(start);
                out.append_value(&buffer[start..end]);
                start = end;
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

/// What JSON_QUERY is asked beside the document.
struct QueryCall<'a> {
    wrapper: &'a str,
    on_empty: &'a str,
    on_error: &'a str,
    /// Not a text but an ARRAY<STRING>.
    is_array: bool,
}

/// What JSON_QUERY gives.
trait QueryResult {
    fn one(&mut self, value: &Json<'_>, wrapped: bool) -> Result<bool, String>;
    fn list(&mut self, values: &[&Json<'_>]) -> Result<(), String>;
    fn empty(&mut self, brackets: &str);
}

impl QueryCall<'_> {
    fn fallback(&self, behavior: &str, message: &str, out: &mut impl QueryResult) -> Written {
        match behavior {
            "ERROR" => Err(message.into()),
            "EMPTY ARRAY" => {
                out.empty("[]");
                DONE
            }
            "EMPTY OBJECT" if self.is_array => {
                Err("EMPTY OBJECT is no ARRAY, which JSON_QUERY is asked to return".into())
            }
            "EMPTY OBJECT" => {
                out.empty("{}");
                DONE
            }
            _ => Ok(None),
        }
    }

    fn answer(
        &self,
        mode: Mode,
        found: Result<Option<&Found<'_, '_>>, String>,
        out: &mut impl QueryResult,
    ) -> Written {
        let done = match found {
            Err(message) => return self.fallback(self.on_error, &message, out),
            Ok(None) => {
                return self.fallback(
                    self.on_empty,
                    "Empty result of JSON_QUERY function is not allowed",
                    out,
                );
            }
            Ok(Some(Found::List(values))) => match self.wrapper {
                "UNCONDITIONAL" => {
                    let inner = Json::Array(values.iter().map(|&value| value.clone()).collect());
                    out.one(&inner, true)?
                }
                _ => {
                    out.list(values)?;
                    true
                }
            },
            Ok(Some(Found::One(value))) => {
                let is_array = matches!(value, Json::Array(_));
                let wraps = match self.wrapper {
                    "UNCONDITIONAL" => true,
                    "CONDITIONAL" => !is_array,
                    _ => false,
                };
                if value.is_scalar() && !wraps {
                    return match mode {
                        Mode::Lax => self.fallback(
                            self.on_empty,
                            "Empty result of JSON_QUERY function is not allowed",
                            out,
                        ),
                        Mode::Strict => self.fallback(
                            self.on_error,
                            "Strict jsonpath mode requires array or object value",
                            out,
                        ),
                    };
                }
                out.one(value, wraps)?
            }
        };
        match done {
            true => DONE,
            false => self.fallback(self.on_error, "the value is no array", out),
        }
    }
}

impl QueryResult for StringBuilder {
    fn one(&mut self, value: &Json<'_>, wrapped: bool) -> Result<bool, String> {
        if wrapped {
            push(self, "[");
        }
        value.write(self).map_err(|error| error.to_string())?;
        if wrapped {
            push(self, "]");
        }
        Ok(true)
    }

    fn list(&mut self, values: &[&Json<'_>]) -> Result<(), String> {
        push(self, "[");
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                push(self, ",");
            }
            value.write(self).map_err(|error| error.to_string())?;
        }
        push(self, "]");
        Ok(())
    }

    fn empty(&mut self, brackets: &str) {
        push(self, brackets);
    }
}

impl QueryResult for ListBuilder<StringBuilder> {
    fn one(&mut self, value: &Json<'_>, wrapped: bool) -> Result<bool, String> {
        match (value, wrapped) {
            (value, true) => self.list(&[value])?,
            (Json::Array(items), false) => self.list(&items.iter().collect::<Vec<_>>())?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn list(&mut self, values: &[&Json<'_>]) -> Result<(), String> {
        for value in values {
            if **value == Json::Null {
                self.values().append_null();
                continue;
            }
            value
                .write_plain(self.values())
                .map_err(|error| error.to_string())?;
            self.values().append_value("");
        }
        Ok(())
    }

    fn empty(&mut self, _brackets: &str) {}
}

fn query(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut paths) = (texts(call, 0)?, Paths::of(call)?);
    let asked = QueryCall {
        wrapper: word(call, 2, "WITHOUT")?,
        on_empty: word(call, 3, "NULL")?,
        on_error: word(call, 4, "NULL")?,
        is_array: matches!(call.data_type.root, TypeRoot::Array(_)),
    };
    if asked.is_array {
        let mut out = ListBuilder::new(StringBuilder::new());
        for row in 0..call.rows {
            let written = match (input.get(row), paths.get(row)?) {
                (Some(text), Some(path)) => {
                    look(text, &path, |found| asked.answer(path.mode, found, &mut out))?
                }
                _ => None,
            };
            out.append(written.is_some());
        }
        return Ok(Arc::new(out.finish()));
    }
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        match (input.get(row), paths.get(row)?) {
            (Some(text), Some(path)) => look(text, &path, |found| asked.answer(path.mode, found, out)),
            _ => Ok(None),
        }
    })
}

fn exists(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, mut paths) = (texts(call, 0)?, Paths::of(call)?);
    let on_error = word(call, 2, "FALSE")?;
    booleans_of(call.rows, |row| {
        let (Some(text), Some(path)) = (input.get(row), paths.get(row)?) else {
            return Ok(None);
        };
        look(text, &path, |found| match (found, on_error) {
            (Ok(found), _) => Ok(Some(found.is_some())),
            (Err(message), "ERROR") => Err(message),
            (Err(_), "TRUE") => Ok(Some(true)),
            (Err(_), "UNKNOWN") => Ok(None),
            (Err(_), _) => Ok(Some(false)),
        })
    })
}

/// In quotes; what isn't ASCII is escaped.
fn quote(call: &Call<'_>) -> Result<ArrayRef, String> {
    map_text(call, |text, out| {
        push(out, "\"");
        for character in text.chars() {
            match character {
                '"' => push(out, "\\\""),
                '\\' => push(out, "\\\\"),
                '/' => push(out, "\\/"),
                '\u{8}' => push(out, "\\b"),
                '\u{c}' => push(out, "\\f"),
                '\n' => push(out, "\\n"),
                '\r' => push(out, "\\r"),
                '\t' => push(out, "\\t"),
                ascii if ascii.is_ascii() => push_char(out, ascii),
                other => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        let _infallible = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        push(out, "\"");
        DONE
    })
}

/// What is no JSON stays as it is. Of other values than texts Flink drops the first and last character too.
fn unquote(call: &Call<'_>) -> Result<ArrayRef, String> {
    map_text(call, |text, out| {
        match Json::parse(text) {
            None => push(out, text),
            Some(Json::String(inner)) if text.starts_with('"') && text.ends_with('"') => push(out, &inner),
            Some(_) => {
                let mut inner = text.chars();
                inner.next();
                inner.next_back();
                push(out, inner.as_str());
            }
        }
        DONE
    })
}
