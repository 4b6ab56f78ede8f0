//! LIKE and SIMILAR TO.
//!
//! As Flink translates patterns to `java.util.regex`: `%` is any text, `_` any character but the end of a line.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::any_nullable;
use crate::common_type::is_character;
use crate::registry::{Call, ScalarFunction, Signature};

pub(super) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "LIKE",
        usage: "string LIKE pattern [ESCAPE character]",
        infer,
        kernel: like,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "SIMILAR TO",
        usage: "string SIMILAR TO pattern [ESCAPE character]",
        infer,
        kernel: similar,
        is_deterministic: true,
    },
];

fn infer(args: &[Expr]) -> Result<Signature, String> {
    let fits = |arg: &Expr| is_character(&arg.data_type.root) || arg.data_type.root == TypeRoot::Null;
    if !(2..=3).contains(&args.len()) || !args.iter().all(fits) {
        return Err("(STRING, STRING [, STRING])".into());
    }
    let to = |arg: &Expr| match arg.data_type.root {
        TypeRoot::Null => DataType::string(),
        _ => arg.data_type.clone(),
    };
    Ok(Signature {
        args: args.iter().map(to).collect(),
        result: DataType {
            root: TypeRoot::Boolean,
            nullable: any_nullable(args),
        },
    })
}

/// Matches each text with its pattern; patterns are compiled when they change.
fn matched<P>(
    call: &Call<'_>,
    compile: impl Fn(&str, Option<char>) -> Result<P, String>,
    matches: impl Fn(&P, &str) -> bool,
) -> Result<ArrayRef, String> {
    let [text, pattern, rest @ ..] = call.args else {
        return Err("a text and a pattern are needed".into());
    };
    let (texts, patterns) = (
        text.array().as_string::<i32>(),
        pattern.array().as_string::<i32>(),
    );
    let escapes = rest
        .first()
        .map(|escape| (escape, escape.array().as_string::<i32>()));
    let mut compiled: Option<(usize, P)> = None;
    let mut result = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let (i, j) = (text.index(row), pattern.index(row));
        let escape = escapes.map(|(escape, values)| (values, escape.index(row)));
        let is_null =
            texts.is_null(i) || patterns.is_null(j) || escape.is_some_and(|(values, k)| values.is_null(k));
        if is_null {
            result.push(None);
            continue;
        }
        let stays = compiled
            .as_ref()
            .is_some_and(|(at, _)| *at == j && escapes.is_none_or(|(escape, _)| escape.is_scalar()));
        if !stays {
            let escape = escape
                .map(|(values, k)| escape_char(values.value(k)))
                .transpose()?;
            compiled = Some((j, compile(patterns.value(j), escape)?));
        }
        result.push(
            compiled
                .as_ref()
                .map(|(_, pattern)| matches(pattern, texts.value(i))),
        );
    }
    Ok(Arc::new(BooleanArray::from(result)))
}

fn escape_char(escape: &str) -> Result<char, String> {
    let mut chars = escape.chars();
    match (chars.next(), chars.next()) {
        (Some(escape), None) => Ok(escape),
        _ => Err(format!("Invalid escape character '{escape}'")),
    }
}

fn like(call: &Call<'_>) -> Result<ArrayRef, String> {
    matched(call, LikePattern::compile, LikePattern::matches)
}

/// A pattern cut at its `%`.
struct LikePattern {
    /// Between two parts there is any text. Never empty.
    parts: Vec<Part>,
}

/// A piece of a pattern without `%`; `None` is one character.
struct Part {
    atoms: Vec<Option<char>>,
    /// The text, if there is no `_`.
    literal: Option<String>,
}

impl Part {
    fn new(atoms: Vec<Option<char>>) -> Self {
        let literal = atoms.iter().copied().collect();
        Self { atoms, literal }
    }

    /// Bytes of the text's beginning that match.
    fn prefix(&self, text: &str) -> Option<usize> {
        if let Some(literal) = &self.literal {
            return text.starts_with(literal.as_str()).then_some(literal.len());
        }
        let mut chars = text.chars();
        for atom in &self.atoms {
            let next = chars.next()?;
            let fits = match atom {
                Some(wanted) => *wanted == next,
                None => !is_line_end(next),
            };
            if !fits {
                return None;
            }
        }
        Some(text.len() - chars.as_str().len())
    }

    /// The first match: bytes to its end.
    fn find(&self, text: &str) -> Option<usize> {
        if let Some(literal) = &self.literal {
            return text.find(literal.as_str()).map(|at| at + literal.len());
        }
        let starts = text.char_indices().map(|(at, _)| at);
        starts
            .filter_map(|at| Some(at + self.prefix(&text[at..])?))
            .next()
    }

    /// Whether the text ends so.
    fn is_suffix(&self, text: &str) -> bool {
        if let Some(literal) = &self.literal {
            return text.ends_with(literal.as_str());
        }
        let length = self.atoms.len();
        let start = text.char_indices().rev().map(|(at, _)| at).nth(length - 1);
        start.is_some_and(|start| self.prefix(&text[start..]) == Some(text.len() - start))
    }
}

/// What Java's `.` doesn't match.
fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

impl LikePattern {
    fn compile(pattern: &str, escape: Option<char>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut atoms = Vec::new();
        let mut chars = pattern.char_indices();
        while let Some((at, character)) = chars.next() {
            match character {
                character if Some(character) == escape => match chars.next() {
                    Some((_, next)) if next == '%' || next == '_' || Some(next) == escape => {
                        atoms.push(Some(next));
                    }
                    _ => return Err(format!("Invalid escape sequence '{pattern}', {at}")),
                },
                '%' => parts.push(Part::new(std::mem::take(&mut atoms))),
                '_' => atoms.push(None),
                other => atoms.push(Some(other)),
            }
        }
        parts.push(Part::new(atoms));
        Ok(Self { parts })
    }

    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            let whole = self.parts.first();
            return whole.is_some_and(|whole| whole.prefix(text) == Some(text.len()));
        };
        let Some(begin) = first.prefix(text) else {
            return false;
        };
        let mut rest = &text[begin..];
        for part in middle.iter().filter(|part| !part.atoms.is_empty()) {
            match part.find(rest) {
                Some(end) => rest = &rest[end..],
                None => return false,
            }
        }
        last.atoms.is_empty() || last.is_suffix(rest)
    }
}

fn similar(call: &Call<'_>) -> Result<ArrayRef, String> {
    let compile = |pattern: &str, escape: Option<char>| {
        let regex = similar_regex(pattern, escape)?;
        regex::Regex::new(&regex).map_err(|_| format!("Invalid regular expression '{pattern}'"))
    };
    matched(call, compile, |regex: &regex::Regex, text| regex.is_match(text))
}

/// SQL's regular expression as one of ours: `%` and `_` are wild, `| * + ? { } ( ) [ ]` are as usual, and as in Calcite so are `.` and `^`, which
/// the standard knows as themselves; all else is itself.
fn similar_regex(pattern: &str, escape: Option<char>) -> Result<String, String> {
    let mut regex = String::from(r"\A(?:");
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(character) = chars.next() {
        match character {
            character if Some(character) == escape => match chars.next() {
                Some(next) => regex.push_str(&regex::escape(next.encode_utf8(&mut [0; 4]))),
                None => return Err(format!("Invalid escape sequence '{pattern}'")),
            },
            '[' if in_class => regex.push_str(&posix_class(&mut chars)),
            '[' => {
                in_class = true;
                regex.push('[');
            }
            ']' if in_class => {
                in_class = false;
                regex.push(']');
            }
            '-' | '^' if in_class => regex.push(character),
            other if in_class => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            '%' => regex.push_str("(?s:.*)"),
            '_' | '.' => regex.push_str(r"[^\n\r\x{85}\x{2028}\x{2029}]"),
            '^' | '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' => regex.push(character),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    if in_class {
        return Err(format!("Invalid regular expression '{pattern}'"));
    }
    regex.push_str(r")\z");
    Ok(regex)
}

/// `[:ALPHA:]` and the like within a class, behind the bracket; else the bracket itself.
fn posix_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    const CLASSES: [(&str, &str); 7] = [
        ("ALPHA", "a-zA-Z"),
        ("UPPER", "A-Z"),
        ("LOWER", "a-z"),
        ("DIGIT", "0-9"),
        ("ALNUM", "a-zA-Z0-9"),
        ("SPACE", " "),
        ("WHITESPACE", r"\s"),
    ];
    let rest: String = chars.clone().collect();
    for (name, class) in CLASSES {
        for name in [name.to_owned(), name.to_lowercase()] {
            let written = format!(":{name}:]");
            if rest.starts_with(&written) {
                for _ in written.chars() {
                    chars.next();
                }
                return class.to_owned();
            }
        }
    }
    r"\[".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str, escape: Option<char>) -> Result<bool, String> {
        LikePattern::compile(pattern, escape).map(|compiled| compiled.matches(text))
    }

    #[test]
    fn a_percent_sign_is_any_text_and_an_underscore_one_character() {
        let cases = [
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "a_c", true),
            ("aéc", "a_c", true),
            ("abbc", "a_c", false),
            ("abcbc", "a%bc", true),
            ("ab", "ab%b", false),
            ("a\nc", "a_c", false),
            ("a\nc", "a%c", true),
            ("", "", true),
            ("", "%", true),
            ("x", "", false),
            ("xay", "%a_", true),
            ("aab", "%a_", true),
        ];
        for (text, pattern, expected) in cases {
            assert_eq!(like(text, pattern, None), Ok(expected), "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn an_escaped_wildcard_is_itself() {
        assert_eq!(like("10%", "10!%", Some('!')), Ok(true));
        assert_eq!(like("100", "10!%", Some('!')), Ok(false));
        assert_eq!(like("a!", "a!!", Some('!')), Ok(true));
        assert!(like("a", "!a", Some('!')).is_err());
    }

    #[test]
    fn similar_patterns_are_regular_expressions() {
        let similar = |text: &str, pattern: &str| {
            let regex = similar_regex(pattern, None).unwrap();
            regex::Regex::new(&regex).unwrap().is_match(text)
        };
        assert!(similar("abc", "a(b|x)c"));
        assert!(similar("aaa", "a+"));
        assert!(similar("b7", "[a-c][0-9]"));
        assert!(!similar("a.c", "abc"));
        assert!(similar("Hello", "(H|a).*"));
        assert!(similar("a$", "^a$"));
        assert!(similar("a.c", "a.c"));
        assert!(similar("foobar", "foo%"));
        assert!(similar("x1", "[[:ALPHA:]][[:digit:]]"));
        assert!(!similar("a1", "[:ALPHA:][:DIGIT:]"));
        assert!(similar("b", "[^ac]"));
    }
}
