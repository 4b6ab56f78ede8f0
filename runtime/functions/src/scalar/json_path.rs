//! Paths into JSON, as Jayway's JsonPath reads them, with Flink's `lax` or `strict` in front.
//!
//! Without a mode a path is strict. Names, positions, unions, slices and wildcards are here; filters, `..` and functions are refused
//! when the statement is planned, if the path is constant.

use std::cell::RefCell;
use std::rc::Rc;

use super::json_tree::Json;

/// What happens to what isn't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is empty.
    Lax,
    /// It is an error.
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Names(Vec<String>),
    Index(i64),
    Indices(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    Wildcard,
}

/// A compiled path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) mode: Mode,
    steps: Vec<Step>,
    text: String,
}

/// Kept compiled paths of a thread.
const MOST_KEPT: usize = 64;

type Compiled = Result<Rc<Path>, String>;

thread_local! {
    static KEPT: RefCell<Vec<(String, Compiled)>> = const { RefCell::new(Vec::new()) };
}

/// The path; from those kept, if it was compiled before.
pub(super) fn compiled(path: &str) -> Compiled {
    KEPT.with_borrow_mut(|kept| {
        if let Some(place) = kept.iter().position(|(known, _)| known == path) {
            kept[..=place].rotate_right(1);
        } else {
            kept.truncate(MOST_KEPT - 1);
            kept.insert(0, (path.to_owned(), Path::parse(path).map(Rc::new)));
        }
        kept[0].1.clone()
    })
}

impl Path {
    fn parse(text: &str) -> Result<Self, String> {
        let (mode, path) = split_mode(text);
        let unsupported = |what: &str| format!("{what} of the JSON path '{text}' is not supported");
        let path = path.trim();
        let mut rest = path
            .strip_prefix('$')
            .ok_or_else(|| format!("the JSON path '{text}' doesn't begin with '$'"))?;
        let mut steps = Vec::new();
        while let Some(character) = rest.chars().next() {
            let invalid = || format!("the JSON path '{text}' is invalid at '{rest}'");
            if rest.starts_with("..") {
                return Err(unsupported("'..'"));
            }
            if character == '.' {
                let behind = &rest[1..];
                let end = behind.find(['.', '[', '(', ' ']).unwrap_or(behind.len());
                if behind[end..].starts_with('(') {
                    return Err(unsupported("a function"));
                }
                match &behind[..end] {
                    "" if behind.starts_with('[') => {}
                    "" => return Err(invalid()),
                    "*" => steps.push(Step::Wildcard),
                    name => steps.push(Step::Name(name.to_owned())),
                }
                rest = &behind[end..];
                continue;
            }
            if character != '[' {
                return Err(invalid());
            }
            let inner = rest[1..].trim_start();
            if inner.starts_with(['?', '(']) {
                return Err(unsupported("a filter"));
            }
            if inner.starts_with(['\'', '"']) {
                let (names, behind) = quoted_names(inner).ok_or_else(invalid)?;
                steps.push(match <[String; 1]>::try_from(names) {
                    Ok([name]) => Step::Name(name),
                    Err(names) => Step::Names(names),
                });
                rest = behind;
                continue;
            }
            let (inside, behind) = inner.split_once(']').ok_or_else(invalid)?;
            steps.push(numbers(inside.trim()).ok_or_else(invalid)?);
            rest = behind;
        }
        Ok(Self {
            mode,
            steps,
            text: text.to_owned(),
        })
    }

    /// What the path leads to in a document. `Ok(None)` is JSON's null or, of a lax path, nothing; the error is Java's message.
    pub(super) fn read<'v, 'a>(&self, document: &'v Json<'a>) -> Result<Option<Found<'v, 'a>>, String> {
        if *document == Json::Null {
            return Err("json can not be null".into());
        }
        let is_definite = |step: &Step| matches!(step, Step::Name(_) | Step::Index(_));
        let definite = self.steps.iter().take_while(|step| is_definite(step)).count();
        let mut value = document;
        for step in &self.steps[..definite] {
            match child(value, step) {
                Some(child) => value = child,
                None => return self.missing(definite < self.steps.len()),
            }
        }
        if definite == self.steps.len() {
            return Ok(Some(Found::One(value)).filter(|_| *value != Json::Null));
        }
        let mut values = vec![value];
        for step in &self.steps[definite..] {
            values = values
                .into_iter()
                .flat_map(|value| children(value, step))
                .collect();
        }
        Ok(Some(Found::List(values)))
    }

    fn missing<'v, 'a>(&self, is_list: bool) -> Result<Option<Found<'v, 'a>>, String> {
        match self.mode {
            Mode::Strict => Err(format!("No results for path: {}", self.text)),
            Mode::Lax if is_list => Ok(Some(Found::List(Vec::new()))),
            Mode::Lax => Ok(None),
        }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found<'v, 'a> {
    One(&'v Json<'a>),
    /// Of a path that may lead to several.
    List(Vec<&'v Json<'a>>),
}

fn split_mode(text: &str) -> (Mode, &str) {
    let path = text.trim_start();
    for (word, mode) in [("strict", Mode::Strict), ("lax", Mode::Lax)] {
        let rest = path
            .get(word.len()..)
            .filter(|_| path[..word.len()].eq_ignore_ascii_case(word));
        if let Some(rest) = rest
            && rest.starts_with(char::is_whitespace)
            && !rest.trim_start().is_empty()
        {
            return (mode, rest.trim_start());
        }
    }
    (Mode::Strict, text)
}

fn quoted_names(mut rest: &str) -> Option<(Vec<String>, &str)> {
    let mut names = Vec::new();
    loop {
        rest = rest.trim_start();
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut name = String::new();
        let mut characters = rest[1..].char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => name.push(characters.next()?.1),
                (at, character) if character == quote => break at + 2,
                (_, character) => name.push(character),
            }
        };
        names.push(name);
        rest = rest[end..].trim_start();
        match rest.chars().next()? {
            ',' => rest = &rest[1..],
            ']' => return Some((names, &rest[1..])),
            _ => return None,
        }
    }
}

fn numbers(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::Wildcard);
    }
    if let Some((from, to)) = inside.split_once(':') {
        let bound = |text: &str| match text.trim() {
            "" => Some(None),
            number => number.parse().ok().map(Some),
        };
        return Some(Step::Slice(bound(from)?, bound(to)?));
    }
    let indices = inside
        .split(',')
        .map(|index| index.trim().parse().ok())
        .collect::<Option<Vec<i64>>>()?;
    Some(match indices.as_slice() {
        [index] => Step::Index(*index),
        _ => Step::Indices(indices),
    })
}

fn child<'v, 'a>(value: &'v Json<'a>, step: &Step) -> Option<&'v Json<'a>> {
    match (value, step) {
        (Json::Object(fields), Step::Name(name)) => {
            fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
        }
        (Json::Array(items), Step::Index(index)) => at(items, *index),
        _ => None,
    }
}

/// From the end, if it is below 0.
fn at<'v, 'a>(items: &'v [Json<'a>], index: i64) -> Option<&'v Json<'a>> {
    let index = if index < 0 {
        index + items.len() as i64
    } else {
        index
    };
    items.get(usize::try_from(index).ok()?)
}

fn children<'v, 'a>(value: &'v Json<'a>, step: &Step) -> Vec<&'v Json<'a>> {
    match (value, step) {
        (_, Step::Name(_) | Step::Index(_)) => child(value, step).into_iter().collect(),
        (Json::Object(fields), Step::Wildcard) => fields.iter().map(|(_, value)| value).collect(),
        (Json::Array(items), Step::Wildcard) => items.iter().collect(),
        (Json::Object(fields), Step::Names(names)) => names
            .iter()
            .filter_map(|name| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value))
            .collect(),
        (Json::Array(items), Step::Indices(indices)) => {
            indices.iter().filter_map(|index| at(items, *index)).collect()
        }
        (Json::Array(items), Step::Slice(from, to)) => {
            let length = items.len() as i64;
            let bound = |bound: i64| if bound < 0 { bound + length } else { bound }.clamp(0, length) as usize;
            let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(length)));
            items.get(from..to).unwrap_or_default().iter().collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str, path: &str) -> String {
        let document = Json::parse(document).unwrap();
        let path = compiled(path).unwrap();
        match path.read(&document) {
            Err(_) => "error".into(),
            Ok(None) => "nothing".into(),
            Ok(Some(Found::One(value))) => text(value),
            Ok(Some(Found::List(values))) => {
                format!("[{}]", values.into_iter().map(text).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn text(value: &Json<'_>) -> String {
        let mut out = String::new();
        value.write(&mut out).unwrap();
        out
    }

    #[test]
    fn paths_lead_to_values() {
        let document = r#"{"a": {"b c": 1}, "l": [1, {"x": 2}, {"x": 3}], "n": null}"#;
        for (path, expected) in [
            ("$.a['b c']", "1"),
            ("lax $.l[1].x", "2"),
            ("$.l[-1].x", "3"),
            ("$.l[*].x", "[2,3]"),
            ("$.l[0:2]", r#"[1,{"x":2}]"#),
            ("$.l[0,2]", r#"[1,{"x":3}]"#),
            ("$.n", "nothing"),
            ("$.zz", "error"),
            ("lax $.zz", "nothing"),
            ("lax $.zz[*]", "[]"),
            ("STRICT $.zz[*]", "error"),
        ] {
            assert_eq!(read(document, path), expected, "{path}");
        }
    }

    #[test]
    fn what_paths_have_not_is_named() {
        for (path, part) in [
            ("$..a", "'..'"),
            ("$.a[?(@.b)]", "a filter"),
            ("$.a.length()", "a function"),
        ] {
            assert!(compiled(path).unwrap_err().contains(part), "{path}");
        }
        assert!(compiled("a.b").is_err());
        assert!(compiled("$.a[").is_err());
    }
}
