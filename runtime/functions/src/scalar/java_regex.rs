//! Regular expressions of `java.util.regex`, on an engine that never goes back: look-around, back references and possessive
//! repetition are refused by name, all else means what it means in Java.
//!
//! Patterns are compiled once a thread and kept, as few as [`MOST_KEPT`].

use std::cell::RefCell;
use std::rc::Rc;

use regex::Regex;

/// Kept compiled patterns of a thread.
const MOST_KEPT: usize = 64;

/// Why there is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatternError {
    /// Java refuses it too.
    Invalid,
    /// Java has it: what it is.
    Unsupported(String),
}

type Compiled = Result<Rc<Regex>, PatternError>;

thread_local! {
    static KEPT: RefCell<Vec<(String, Compiled)>> = const { RefCell::new(Vec::new()) };
}

/// The pattern; from those kept, if it was compiled before.
pub(super) fn compiled(pattern: &str) -> Compiled {
    KEPT.with_borrow_mut(|kept| {
        if let Some(place) = kept.iter().position(|(known, _)| known == pattern) {
            kept[..=place].rotate_right(1);
        } else {
            kept.truncate(MOST_KEPT - 1);
            kept.insert(0, (pattern.to_owned(), compile(pattern)));
        }
        kept[0].1.clone()
    })
}

fn compile(pattern: &str) -> Compiled {
    let translated = translate(pattern)?;
    Regex::new(&translated).map(Rc::new).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::Unsupported("a pattern as large".into()),
        _ => PatternError::Invalid,
    })
}

/// What `.` matches.
const NO_LINE_END: &str = r"[^\n\r\x{85}\x{2028}\x{2029}]";

fn unsupported<T>(what: &str) -> Result<T, PatternError> {
    Err(PatternError::Unsupported(what.into()))
}

/// Java's pattern in the syntax of this engine.
fn translate(pattern: &str) -> Result<String, PatternError> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let dot_is_all = has_flag(pattern, 's');
    let mut depth = 0usize;
    let mut rest = pattern;
    let mut repeats = false;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        let was_repeat = std::mem::take(&mut repeats);
        match character {
            '\\' => rest = escape(rest, &mut out)?,
            '[' => {
                depth += 1;
                out.push('[');
                // A bracket that stands first is itself in neither engine's class; a caret may be in front.
                if let Some(behind) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = behind;
                }
            }
            ']' if depth > 0 => {
                depth -= 1;
                out.push(']');
            }
            '-' | '~' if depth > 0 && rest.starts_with(character) => {
                out.push('\\');
                out.push(character);
            }
            _ if depth > 0 => out.push(character),
            '.' if !dot_is_all => out.push_str(NO_LINE_END),
            '(' => {
                refuse_group(rest)?;
                out.push('(');
            }
            '+' if was_repeat => return unsupported("possessive repetition"),
            '*' | '+' | '?' | '}' => {
                repeats = !(was_repeat && character == '?');
                out.push(character);
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Whether a flag is set somewhere: `(?s)`, `(?is:`.
fn has_flag(pattern: &str, flag: char) -> bool {
    pattern.match_indices("(?").any(|(start, _)| {
        pattern[start + 2..]
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .any(|found| found == flag)
    })
}

fn refuse_group(behind: &str) -> Result<(), PatternError> {
    match behind.get(..3).or_else(|| behind.get(..2)) {
        Some(start) if start.starts_with("?=") || start.starts_with("?!") => unsupported("look-ahead"),
        Some("?<=" | "?<!") => unsupported("look-behind"),
        Some(start) if start.starts_with("?>") => unsupported("an atomic group"),
        _ => Ok(()),
    }
}

/// What is behind a backslash; gives the rest.
fn escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, PatternError> {
    let Some(character) = rest.chars().next() else {
        return Err(PatternError::Invalid);
    };
    let behind = &rest[character.len_utf8()..];
    // Java's classes are of ASCII.
    let simple = match character {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[a-zA-Z0-9_]",
        'W' => "[^a-zA-Z0-9_]",
        's' => r"[ \t\n\x0B\f\r]",
        'S' => r"[^ \t\n\x0B\f\r]",
        'h' => r"[ \t\xA0\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}]",
        'v' => r"[\n\x0B\f\r\x{85}\x{2028}\x{2029}]",
        'R' => r"(?:\r\n|[\n\x0B\f\r\x{85}\x{2028}\x{2029}])",
        'e' => r"\x1B",
        'b' => r"\b",
        'B' => r"\B",
        'A' => r"\A",
        'z' | 'Z' => r"\z",
        't' => r"\t",
        'n' => r"\n",
        'r' => r"\r",
        'f' => r"\f",
        'a' => r"\x07",
        '1'..='9' | 'k' => return unsupported("a back reference"),
        'G' | 'X' | 'N' | 'c' => return unsupported(&format!("\\{character}")),
        'Q' => {
            let (quoted, behind) = behind.split_once("\\E").unwrap_or((behind, ""));
            out.push_str(&regex::escape(quoted));
            return Ok(behind);
        }
        'p' | 'P' => return property(character, behind, out),
        'u' | 'x' => {
            out.push('\\');
            out.push(character);
            return Ok(behind);
        }
        '0' => return octal(behind, out),
        other if other.is_ascii_alphabetic() => return Err(PatternError::Invalid),
        other => {
            out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4])));
            return Ok(behind);
        }
    };
    out.push_str(simple);
    Ok(behind)
}

fn octal<'a>(behind: &'a str, out: &mut String) -> Result<&'a str, PatternError> {
    let digits = behind
        .bytes()
        .take(3)
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .count();
    let code = u32::from_str_radix(&behind[..digits], 8).map_err(|_| PatternError::Invalid)?;
    out.push_str(&format!("\\x{{{code:x}}}"));
    Ok(&behind[digits..])
}

/// `\p{Alpha}`, `\pL`, `\p{IsLatin}`.
fn property<'a>(kind: char, behind: &'a str, out: &mut String) -> Result<&'a str, PatternError> {
    let (name, behind) = match behind.strip_prefix('{') {
        Some(named) => named.split_once('}').ok_or(PatternError::Invalid)?,
        None => behind.split_at_checked(1).ok_or(PatternError::Invalid)?,
    };
    let posix = match name {
        "Lower" | "Upper" | "ASCII" | "Alpha" | "Digit" | "Alnum" | "Punct" | "Graph" | "Print" | "Blank"
        | "Cntrl" | "XDigit" | "Space" => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    match posix {
        Some(class) if kind == 'p' => out.push_str(&format!("[[:{class}:]]")),
        Some(class) => out.push_str(&format!("[[:^{class}:]]")),
        None if name.starts_with("java") || name.starts_with("In") || name.starts_with("block=") => {
            return unsupported(&format!("\\p{{{name}}}"));
        }
        None => out.push_str(&format!(
            "\\{kind}{{{}}}",
            name.strip_prefix("Is").unwrap_or(name)
        )),
    }
    Ok(behind)
}

/// Matches one behind the other as `Matcher.find` finds them: an empty one may stand right behind another.
pub(super) fn for_each_match(regex: &Regex, text: &str, mut found: impl FnMut(usize, usize)) {
    let mut from = 0;
    while let Some(next) = regex.find_at(text, from) {
        found(next.start(), next.end());
        from = next.end();
        if next.is_empty() {
            match text[from..].chars().next() {
                Some(skipped) => from += skipped.len_utf8(),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compiled(pattern).unwrap().is_match(text)
    }

    #[test]
    fn classes_are_of_ascii_and_a_dot_ends_at_lines() {
        assert!(!matches(r"^\w$", "ä") && !matches(r"^\d$", "٣") && matches(r"^\W$", "ä"));
        assert!(!matches("a.b", "a\rb") && matches("(?s)a.b", "a\rb"));
        assert!(matches(r"^[\w.]+$", "a.b") && matches(r"^\p{Alpha}\p{IsAlphabetic}$", "aä"));
        assert!(matches(r"^\Qa.b\E$", "a.b") && !matches(r"^\Qa.b\E$", "axb"));
        assert!(matches(r"^\<\-\/$", "<-/"));
    }

    #[test]
    fn what_the_engine_has_not_is_told_from_what_java_has_not() {
        let error = |pattern: &str| compiled(pattern).unwrap_err();
        for pattern in ["(?=a)", "(?<!a)b", r"(a)\1", "a++", "(?>a)"] {
            assert!(
                matches!(error(pattern), PatternError::Unsupported(_)),
                "{pattern}"
            );
        }
        for pattern in ["(", "[a", "*a", r"\y"] {
            assert_eq!(error(pattern), PatternError::Invalid, "{pattern}");
        }
        assert!(matches("a+?b", "ab"));
    }

    #[test]
    fn empty_matches_stand_behind_others() {
        let mut found = Vec::new();
        for_each_match(&compiled("a*").unwrap(), "baac", |start, end| {
            found.push((start, end));
        });
        assert_eq!(found, [(0, 0), (1, 3), (3, 3), (4, 4)]);
    }
}
