//! JSON as Jackson reads and writes it, without a copy of what has no escapes.
//!
//! What is behind the first value isn't looked at. Numbers keep their digits: one with a point or an exponent is a `BigDecimal`
//! and written as such. Objects are written in the order of their keys.

use std::borrow::Cow;
use std::fmt::Write;

/// How deep values may be nested, as in Jackson.
const DEEPEST: usize = 1000;

/// A value; texts are of the document where they can be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Boolean(bool),
    /// Its digits.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// Of keys that repeat, the last stands.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The first value of a text; `None` if there is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        // A number or word must end where another character of it could be.
        let next = text.as_bytes().get(reader.at);
        let is_word = matches!(value, Json::Null | Json::Boolean(_) | Json::Number(_));
        let ends = next.is_none_or(|byte| byte.is_ascii_whitespace());
        (!is_word || ends).then_some(value)
    }

    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Json::Array(_) | Json::Object(_))
    }

    /// As Java's `toString` of the value, which a scalar is.
    pub(super) fn write_plain(&self, out: &mut impl Write) -> std::fmt::Result {
        match self {
            Json::String(text) => out.write_str(text),
            other => other.write(out),
        }
    }

    /// As JSON.
    pub(super) fn write(&self, out: &mut impl Write) -> std::fmt::Result {
        match self {
            Json::Null => out.write_str("null"),
            Json::Boolean(value) => write!(out, "{value}"),
            Json::Number(digits) => write_number(out, digits),
            Json::String(text) => write_string(out, text),
            Json::Array(items) => {
                out.write_char('[')?;
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        out.write_char(',')?;
                    }
                    item.write(out)?;
                }
                out.write_char(']')
            }
            Json::Object(fields) => {
                let mut order: Vec<&(Cow<'_, str>, Json<'_>)> = fields.iter().collect();
                order.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
                out.write_char('{')?;
                for (place, (key, value)) in order.into_iter().enumerate() {
                    if place > 0 {
                        out.write_char(',')?;
                    }
                    write_string(out, key)?;
                    out.write_char(':')?;
                    value.write(out)?;
                }
                out.write_char('}')
            }
        }
    }
}

/// Whether Jackson makes a whole number of it.
pub(super) fn is_integer(digits: &str) -> bool {
    !digits.contains(['.', 'e', 'E'])
}

/// A whole number as it is, others as `BigDecimal.toString`.
pub(super) fn write_number(out: &mut impl Write, text: &str) -> std::fmt::Result {
    if is_integer(text) {
        return out.write_str(if text == "-0" { "0" } else { text });
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().unwrap_or(0)),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits: String = mantissa.chars().filter(|character| *character != '.').collect();
    let digits = digits.trim_start_matches('0');
    let (sign, digits) = if digits.is_empty() {
        ("", "0")
    } else {
        (sign, digits)
    };
    let scale = fraction as i64 - exponent;
    let adjusted = digits.len() as i64 - 1 - scale;
    out.write_str(sign)?;
    if scale >= 0 && adjusted >= -6 {
        let whole = digits.len() as i64 - scale;
        return match whole {
            whole if scale > 0 && whole > 0 => {
                let (front, behind) = digits.split_at(whole as usize);
                write!(out, "{front}.{behind}")
            }
            whole if scale > 0 => write!(out, "0.{}{digits}", "0".repeat(whole.unsigned_abs() as usize)),
            _ => out.write_str(digits),
        };
    }
    out.write_str(&digits[..1])?;
    if digits.len() > 1 {
        write!(out, ".{}", &digits[1..])?;
    }
    match adjusted {
        0 => Ok(()),
        adjusted => write!(out, "E{adjusted:+}"),
    }
}

/// In quotes, with Jackson's escapes.
pub(super) fn write_string(out: &mut impl Write, text: &str) -> std::fmt::Result {
    out.write_char('"')?;
    let mut rest = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.write_str(&text[rest..at])?;
        rest = at + 1;
        match byte {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            0x08 => out.write_str("\\b")?,
            0x0c => out.write_str("\\f")?,
            other => write!(out, "\\u{other:04X}")?,
        }
    }
    out.write_str(&text[rest..])?;
    out.write_char('"')
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        self.space();
        match self.peek()? {
            b'{' if depth < DEEPEST => self.object(depth),
            b'[' if depth < DEEPEST => self.array(depth),
            b'"' => self.string().map(Json::String),
            b't' => self.word("true", Json::Boolean(true)),
            b'f' => self.word("false", Json::Boolean(false)),
            b'n' => self.word("null", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then(|| self.at - start)
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        let _sign = self.take(b'-');
        let leads_with_zero = self.peek() == Some(b'0');
        let whole = self.digits()?;
        if leads_with_zero && whole > 1 {
            return None;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if self.take(b'e').or_else(|| self.take(b'E')).is_some() {
            let _sign = self.take(b'-').or_else(|| self.take(b'+'));
            self.digits()?;
        }
        Some(Json::Number(&self.text[start..self.at]))
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                b'\\' => break,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        let mut text = self.text[start..self.at].to_owned();
        loop {
            let from = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..0x20) {
                self.at += 1;
            }
            text.push_str(&self.text[from..self.at]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(Cow::Owned(text));
                }
                b'\\' => {
                    self.at += 1;
                    text.push(self.escaped()?);
                }
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => byte.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                if let 0xD800..=0xDBFF = unit
                    && self.text[self.at..].starts_with("\\u")
                {
                    let behind = self.at;
                    self.at += 2;
                    let pair = [unit, self.unit()?];
                    match char::decode_utf16(pair).next() {
                        Some(Ok(character)) => return Some(character),
                        // Half a pair alone is written as Java does.
                        _ => self.at = behind,
                    }
                }
                char::from_u32(unit.into()).unwrap_or('?')
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        self.take(b'[')?;
        let mut items = Vec::new();
        self.space();
        if self.take(b']').is_some() {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.take(b',') {
                Some(()) => {}
                None => return self.take(b']').map(|()| Json::Array(items)),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        self.take(b'{')?;
        let mut fields: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        self.space();
        if self.take(b'}').is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.take(b':')?;
            let value = self.value(depth + 1)?;
            match fields.iter_mut().find(|(known, _)| *known == key) {
                Some(field) => field.1 = value,
                None => fields.push((key, value)),
            }
            self.space();
            match self.take(b',') {
                Some(()) => {}
                None => return self.take(b'}').map(|()| Json::Object(fields)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Option<String> {
        let mut out = String::new();
        Json::parse(text)?.write(&mut out).unwrap();
        Some(out)
    }

    #[test]
    fn values_are_written_as_jackson_does() {
        for (text, expected) in [
            (
                r#"{"b": 1, "a": [true, null, "x\u0041\n"]}"#,
                r#"{"a":[true,null,"xA\n"],"b":1}"#,
            ),
            ("1.50", "1.50"),
            ("1e2", "1E+2"),
            ("-12.5e-9", "-1.25E-8"),
            ("0.0000001", "1E-7"),
            ("123e-1", "12.3"),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#"{"a":1,"a":2} rest"#, r#"{"a":2}"#),
        ] {
            assert_eq!(again(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in [
            "", "not", "{", "[1,]", "{\"a\"}", "01", "1x", "\"\n\"", "nullx", "{'a':1}", r#""\x""#,
        ] {
            assert_eq!(again(text), None, "{text}");
        }
        assert_eq!(again(&"[".repeat(100_000)), None);
    }
}
