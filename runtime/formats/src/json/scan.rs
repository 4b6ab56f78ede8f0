//! Tokens of JSON text, read where they stand.

use crate::FormatError;
use crate::text::{parse_double, write_double};

/// The deepest nesting; Jackson's.
const MAX_DEPTH: usize = 1_000;

/// Reads JSON from its begin. The text is UTF-8.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    pub(crate) at: usize,
}

/// A value that is neither object nor array.
pub(crate) enum Scalar<'a> {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(&'a [u8]),
    /// Without escapes, where it stands.
    Plain(&'a [u8]),
    /// Had escapes: it is in the scratch that was given.
    Unescaped,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    #[cold]
    pub(crate) fn error(&self, expected: &str) -> FormatError {
        let found = match std::str::from_utf8(self.text.get(self.at..).unwrap_or_default()) {
            Ok("") => "the end".to_owned(),
            Ok(rest) => format!("{:?}", rest.chars().next().unwrap_or_default()),
            Err(_) => "a byte within a character".to_owned(),
        };
        FormatError::syntax(format!(
            "malformed JSON at byte {}: {expected} is expected, not {found}",
            self.at + 1
        ))
    }

    /// The next byte that is no space, not taken; 0 at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return *byte,
            }
        }
        0
    }

    /// Takes the byte that [`Self::peek`] showed.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.at += 1;
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, name: &str) -> Result<(), FormatError> {
        if self.peek() != byte {
            return Err(self.error(name));
        }
        self.at += 1;
        Ok(())
    }

    /// Behind an element: whether another one comes; else `close` is taken.
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, FormatError> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.error(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }

    /// Behind `{` or `[`: whether it is empty; then `close` is taken.
    #[inline]
    pub(crate) fn is_empty(&mut self, close: u8) -> bool {
        let empty = self.peek() == close;
        self.at += usize::from(empty);
        empty
    }

    /// A field's name and the colon behind it; in `scratch` if it has escapes.
    #[inline]
    pub(crate) fn name<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], FormatError>
    where
        'a: 's,
    {
        if self.peek() != b'"' {
            return Err(self.error("a field's name"));
        }
        let plain = self.string(scratch)?;
        self.expect(b':', "`:`")?;
        Ok(match plain {
            Some(plain) => plain,
            None => scratch.as_slice(),
        })
    }

    /// A string, at its quote: where it stands, or in `scratch` if it has escapes.
    #[inline]
    pub(crate) fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Option<&'a [u8]>, FormatError> {
        let begin = self.at + 1;
        self.at = begin;
        loop {
            let Some(byte) = self.text.get(self.at) else {
                return Err(self.error("the string's closing quote"));
            };
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(Some(&self.text[begin..self.at - 1]));
                }
                b'\\' => break,
                0..0x20 => return Err(self.error("an escape for a control character")),
                _ => self.at += 1,
            }
        }
        scratch.clear();
        scratch.extend_from_slice(&self.text[begin..self.at]);
        self.escaped(scratch)?;
        Ok(None)
    }

    /// The rest of a string, from its first escape on.
    fn escaped(&mut self, scratch: &mut Vec<u8>) -> Result<(), FormatError> {
        loop {
            let Some(byte) = self.text.get(self.at) else {
                return Err(self.error("the string's closing quote"));
            };
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    self.escape(scratch)?;
                }
                0..0x20 => return Err(self.error("an escape for a control character")),
                byte => {
                    scratch.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, scratch: &mut Vec<u8>) -> Result<(), FormatError> {
        let byte = match self.text.get(self.at) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0C,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode(scratch),
            _ => return Err(self.error("an escape")),
        };
        scratch.push(byte);
        self.at += 1;
        Ok(())
    }

    /// `uXXXX`, and the second half of a pair; a half alone becomes `?`, as Java encodes it.
    fn unicode(&mut self, scratch: &mut Vec<u8>) -> Result<(), FormatError> {
        let first = self.hex()?;
        let mut code = first;
        if (0xD800..0xDC00).contains(&first) && self.text.get(self.at..self.at + 2) == Some(&b"\\u"[..]) {
            let behind = self.at;
            self.at += 1;
            let second = self.hex()?;
            if (0xDC00..0xE000).contains(&second) {
                code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            } else {
                self.at = behind;
            }
        }
        let character = char::from_u32(code).unwrap_or('?');
        scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, FormatError> {
        self.at += 1;
        let digits = self.text.get(self.at..self.at + 4);
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0, |value, digit| {
                Some(value * 16 + char::from(*digit).to_digit(16)?)
            })
        });
        let value = value.ok_or_else(|| self.error("4 hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }

    /// A number as it is written.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<&'a [u8], FormatError> {
        let begin = self.at;
        let mut rest = self.text.get(begin..).unwrap_or_default().iter();
        if rest.as_slice().first() == Some(&b'-') {
            rest.next();
        }
        let whole = digits(&mut rest);
        let has_leading_zero = whole > 1 && self.text[self.text.len() - rest.len() - whole] == b'0';
        let mut valid = whole > 0 && !has_leading_zero;
        if rest.as_slice().first() == Some(&b'.') {
            rest.next();
            valid &= digits(&mut rest) > 0;
        }
        if matches!(rest.as_slice().first(), Some(b'e' | b'E')) {
            rest.next();
            if matches!(rest.as_slice().first(), Some(b'+' | b'-')) {
                rest.next();
            }
            valid &= digits(&mut rest) > 0;
        }
        let end = self.text.len() - rest.len();
        if !valid {
            return Err(self.error("a value"));
        }
        self.at = end;
        Ok(&self.text[begin..end])
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), FormatError> {
        let end = self.at + text.len();
        let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'_';
        if self.text.get(self.at..end) != Some(text) || !self.text.get(end).is_none_or(ends) {
            return Err(self.error("a value"));
        }
        self.at = end;
        Ok(())
    }

    /// A value that is neither object nor array; those are an error of `FormatError::Value`.
    #[inline]
    pub(crate) fn scalar(&mut self, scratch: &mut Vec<u8>) -> Result<Scalar<'a>, FormatError> {
        match self.peek() {
            b'"' => Ok(match self.string(scratch)? {
                Some(plain) => Scalar::Plain(plain),
                None => Scalar::Unescaped,
            }),
            b't' => self.literal(b"true").map(|()| Scalar::Boolean(true)),
            b'f' => self.literal(b"false").map(|()| Scalar::Boolean(false)),
            b'n' => self.literal(b"null").map(|()| Scalar::Null),
            b'{' => Err(FormatError::value("an object where a single value is expected")),
            b'[' => Err(FormatError::value("an array where a single value is expected")),
            _ => self.number().map(Scalar::Number),
        }
    }

    /// Takes `null` if that comes.
    #[inline]
    pub(crate) fn null(&mut self) -> Result<bool, FormatError> {
        if self.peek() != b'n' {
            return Ok(false);
        }
        self.literal(b"null").map(|()| true)
    }

    /// Walks over a value of any kind.
    pub(crate) fn skip(&mut self, scratch: &mut Vec<u8>) -> Result<(), FormatError> {
        match self.peek() {
            b'{' | b'[' => self.walk(scratch, None),
            _ => self.scalar(scratch).map(drop),
        }
    }

    /// Walks over a value and writes it without spaces, as Jackson writes a tree.
    pub(crate) fn copy(&mut self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), FormatError> {
        self.walk(scratch, Some(out))
    }

    fn walk(&mut self, scratch: &mut Vec<u8>, mut out: Option<&mut Vec<u8>>) -> Result<(), FormatError> {
        let mut closers: Vec<u8> = Vec::new();
        let mut write = |bytes: &[u8]| {
            if let Some(out) = &mut out {
                out.extend_from_slice(bytes);
            }
        };
        loop {
            // A value.
            let open = self.peek();
            if matches!(open, b'{' | b'[') {
                self.take();
                write(&[open]);
                let close = if open == b'{' { b'}' } else { b']' };
                if self.is_empty(close) {
                    write(&[close]);
                } else {
                    if closers.len() >= MAX_DEPTH {
                        return Err(self.error("a value nested less than 1000 levels deep"));
                    }
                    closers.push(close);
                    if close == b'}' {
                        self.copy_name(scratch, &mut write)?;
                    }
                    continue;
                }
            } else {
                self.copy_scalar(scratch, &mut write)?;
            }
            // What is behind it.
            loop {
                let Some(close) = closers.last().copied() else {
                    return Ok(());
                };
                if self.more(close)? {
                    write(b",");
                    if close == b'}' {
                        self.copy_name(scratch, &mut write)?;
                    }
                    break;
                }
                write(&[close]);
                closers.pop();
            }
        }
    }

    fn copy_name(&mut self, scratch: &mut Vec<u8>, write: &mut impl FnMut(&[u8])) -> Result<(), FormatError> {
        let name = self.name(scratch)?;
        write_string(name, write);
        write(b":");
        Ok(())
    }

    fn copy_scalar(
        &mut self,
        scratch: &mut Vec<u8>,
        write: &mut impl FnMut(&[u8]),
    ) -> Result<(), FormatError> {
        match self.scalar(scratch)? {
            Scalar::Null => write(b"null"),
            Scalar::Boolean(true) => write(b"true"),
            Scalar::Boolean(false) => write(b"false"),
            Scalar::Number(text) if is_integer(text) => write(text),
            Scalar::Number(text) => {
                scratch.clear();
                write_double(scratch, parse_double(text).unwrap_or(f64::NAN));
                write(scratch);
            }
            Scalar::Plain(text) => write_string(text, write),
            Scalar::Unescaped => write_string(scratch, write),
        }
        Ok(())
    }
}

fn digits(rest: &mut std::slice::Iter<'_, u8>) -> usize {
    let count = rest
        .as_slice()
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count > 0 {
        rest.nth(count - 1);
    }
    count
}

/// Whether a number has neither fraction nor exponent.
#[inline]
pub(crate) fn is_integer(number: &[u8]) -> bool {
    !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

/// A string with its quotes; what is not ASCII stays as it is.
pub(crate) fn write_string(text: &[u8], write: &mut impl FnMut(&[u8])) {
    write(b"\"");
    let mut begin = 0;
    for (place, byte) in text.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x0C => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &[],
            _ => continue,
        };
        write(&text[begin..place]);
        begin = place + 1;
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            let [high, low] = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            write(&[b'\\', b'u', b'0', b'0', high, low]);
        } else {
            write(escape);
        }
    }
    write(&text[begin..]);
    write(b"\"");
}
