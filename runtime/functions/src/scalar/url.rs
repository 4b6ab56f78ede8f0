//! PARSE_URL as `java.net.URL` takes addresses apart, and the encoding of HTML forms.

use arrow::array::ArrayRef;

use super::string::function;
use super::support::{DONE, Kind, STRING, map_text, push, push_char, texts, write_texts};
use crate::registry::{Call, ScalarFunction};

use super::support::fallible;
use super::support::fixed;
use Kind::Text;

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    function!(or_null "PARSE_URL", "PARSE_URL(url, part [, parameter])", &[Text, Text, Text], 2, STRING, parse_url),
    function!("URL_ENCODE", "URL_ENCODE(string)", &[Text], 1, STRING, url_encode),
    function!(or_null "URL_DECODE", "URL_DECODE(string)", &[Text], 1, STRING, url_decode),
];

/// An address in its parts.
struct Url<'a> {
    protocol: String,
    authority: Option<&'a str>,
    user: Option<&'a str>,
    host: Option<&'a str>,
    path: String,
    query: Option<&'a str>,
    reference: Option<&'a str>,
}

/// Those for which Java has handlers.
const PROTOCOLS: [&str; 6] = ["http", "https", "ftp", "file", "jar", "mailto"];

impl<'a> Url<'a> {
    /// `None` where `new URL(..)` throws.
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_matches(|character: char| character <= ' ');
        let text = match text.get(..4) {
            Some(start) if start.eq_ignore_ascii_case("url:") => &text[4..],
            _ => text,
        };
        let (protocol, rest) = text.split_once(':')?;
        let protocol = protocol.to_ascii_lowercase();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            return None;
        }
        let (rest, reference) = split_at(rest, '#');
        let (rest, query) = split_at(rest, '?');
        let (authority, path) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(behind) => {
                let end = behind.find('/').unwrap_or(behind.len());
                (Some(&behind[..end]), &behind[end..])
            }
        };
        let (user, host) = match authority {
            None => (None, Some("")),
            Some(authority) => host_of(authority)?,
        };
        Some(Self {
            protocol,
            authority,
            user,
            host,
            path: normal(path),
            query,
            reference,
        })
    }

    fn write(&self, part: &str, out: &mut arrow::array::StringBuilder) -> Option<()> {
        match part {
            "HOST" => push(out, self.host?),
            "PATH" => push(out, &self.path),
            "QUERY" => push(out, self.query?),
            "REF" => push(out, self.reference?),
            "PROTOCOL" => push(out, &self.protocol),
            "FILE" => {
                push(out, &self.path);
                if let Some(query) = self.query {
                    push(out, "?");
                    push(out, query);
                }
            }
            "AUTHORITY" => push(out, self.authority?),
            "USERINFO" => push(out, self.user?),
            _ => return None,
        }
        Some(())
    }

    /// The value of the first parameter of that name.
    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.query?
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    }
}

fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((front, behind)) => (front, Some(behind)),
        None => (text, None),
    }
}

/// User and host; two `@` make an authority that has neither. `None` if the port is no number.
fn host_of(authority: &str) -> Option<(Option<&str>, Option<&str>)> {
    let (user, server) = match authority.split_once('@') {
        Some((_, behind)) if behind.contains('@') => return Some((None, None)),
        Some((user, server)) => (Some(user), server),
        None => (None, authority),
    };
    let host_end = match server.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => server.find(':').unwrap_or(server.len()),
    };
    let port = &server[host_end..];
    let is_port = |digits: &str| digits.is_empty() || digits.parse::<i32>().is_ok_and(|port| port >= -1);
    let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    fits.then_some((user, Some(&server[..host_end])))
}

/// Without `.` and `..` where they can be resolved.
fn normal(path: &str) -> String {
    if !path.contains("/.") && !path.starts_with("./") {
        return path.to_owned();
    }
    let is_absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(usize::from(is_absolute)).collect();
    let last = segments.len() - 1;
    for (place, segment) in segments.iter().enumerate() {
        match *segment {
            "." => {
                if place == last {
                    kept.push("");
                }
            }
            ".." if kept.last().is_some_and(|above| *above != "..") => {
                kept.pop();
                if place == last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    let joined = kept.join("/");
    if is_absolute { format!("/{joined}") } else { joined }
}

fn parse_url(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, parts) = (texts(call, 0)?, texts(call, 1)?);
    let keys = (call.args.len() > 2).then(|| texts(call, 2)).transpose()?;
    write_texts(call.rows, input.bytes(call.rows), |row, out| {
        let (Some(url), Some(part)) = (input.get(row).and_then(Url::parse), parts.get(row)) else {
            return Ok(None);
        };
        let Some(keys) = &keys else {
            return Ok(url.write(part, out));
        };
        let value = keys
            .get(row)
            .filter(|_| part == "QUERY")
            .and_then(|key| url.parameter(key));
        Ok(value.map(|value| push(out, value)))
    })
}

fn url_encode(call: &Call<'_>) -> Result<ArrayRef, String> {
    use std::fmt::Write;
    map_text(call, |text, out| {
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                    push_char(out, byte.into());
                }
                b' ' => push_char(out, '+'),
                other => {
                    let _infallible = write!(out, "%{other:02X}");
                }
            }
        }
        DONE
    })
}

/// Null if a `%` isn't followed by two digits.
fn url_decode(call: &Call<'_>) -> Result<ArrayRef, String> {
    let mut bytes = Vec::new();
    map_text(call, |text, out| {
        bytes.clear();
        let mut rest = text.as_bytes();
        while let Some((&byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let digit = |place: usize| {
                        behind
                            .get(place)
                            .and_then(|&digit| char::from(digit).to_digit(16))
                    };
                    let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                        return Ok(None);
                    };
                    bytes.push((high * 16 + low) as u8);
                    rest = &behind[2..];
                }
                other => bytes.push(other),
            }
        }
        push(out, &String::from_utf8_lossy(&bytes));
        DONE
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::text;

    #[test]
    fn addresses_are_taken_apart_as_in_java() {
        let url = text("http://user@h.com:80/p/a?q=1&r=2#f");
        for (part, expected) in [
            ("HOST", "h.com"),
            ("PATH", "/p/a"),
            ("QUERY", "q=1&r=2"),
            ("REF", "f"),
            ("PROTOCOL", "http"),
            ("FILE", "/p/a?q=1&r=2"),
            ("AUTHORITY", "user@h.com:80"),
            ("USERINFO", "user"),
            ("host", "NULL"),
        ] {
            check(&[("PARSE_URL", &[url.clone(), text(part)], expected)]);
        }
        check(&[
            ("PARSE_URL", &[url.clone(), text("QUERY"), text("r")], "2"),
            ("PARSE_URL", &[url.clone(), text("QUERY"), text("x")], "NULL"),
            ("PARSE_URL", &[url, text("HOST"), text("r")], "NULL"),
            ("PARSE_URL", &[text("nothing"), text("HOST")], "NULL"),
            ("PARSE_URL", &[text("http://h/a/../b/./c"), text("PATH")], "/b/c"),
            ("URL_ENCODE", &[text("a b,c/é~")], "a+b%2Cc%2F%C3%A9%7E"),
            ("URL_DECODE", &[text("a%20b+c")], "a b c"),
            ("URL_DECODE", &[text("illegal escape pattern test%")], "NULL"),
        ]);
    }
}
