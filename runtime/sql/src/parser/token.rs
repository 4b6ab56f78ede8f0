//! Flink's lexical rules: text to tokens with positions.
//!
//! Identifiers are quoted by backticks, strings by single quotes; comments are `--`, `//` and `/* */`; `/*+ .. */` is a hint, whose inside is
//! tokens like all else. Invariant: tokens never overlap, are in order, and the last one is [`TokenKind::End`].

use sqlparser::tokenizer::{Location, Span};

use crate::error::{Position, SqlError};

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: TokenKind,
    /// Of words as written; of quoted things what is in the quotes; of symbols empty.
    pub(crate) value: String,
    /// First byte.
    pub(crate) start: usize,
    /// Byte behind the last.
    pub(crate) end: usize,
    /// Of the first character.
    pub(crate) position: Position,
    /// Behind the last character.
    pub(crate) end_position: Position,
}

/// Kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword or identifier.
    Word,
    /// An identifier in backticks.
    Quoted,
    /// `1`, `1.5`, `1e3`.
    Number,
    /// A string literal.
    String,
    /// `X'0a'`.
    Hex,
    /// An operator, bracket, `/*+` or `*/`.
    Symbol(&'static str),
    /// Behind everything.
    End,
}

impl Token {
    /// Where it is, as sqlparser's tree has it.
    pub(crate) fn span(&self) -> Span {
        Span::new(Location::from(self.position), Location::from(self.end_position))
    }

    /// Whether it is a word or a quoted identifier.
    pub(crate) fn is_name(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::Quoted)
    }

    /// Whether it is this keyword.
    pub(crate) fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.value.eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this symbol.
    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.kind, TokenKind::Symbol(found) if found == symbol)
    }
}

/// Longer ones first.
const SYMBOLS: [&str; 29] = [
    "=>", "<>", "!=", "<=", ">=", "||", "(", ")", "[", "]", "{", "}", ",", ";", ".", "=", "<", ">", "+", "-",
    "*", "/", "%", ":", "?", "|", "&", "^", "~",
];

/// All tokens of a text whose first character is at `start`.
pub(crate) fn tokenize(text: &str, start: Position) -> Result<Vec<Token>, SqlError> {
    let mut lexer = Lexer {
        text,
        at: 0,
        position: start,
        in_hint: false,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let token = lexer.next_token()?;
        let ended = token.kind == TokenKind::End;
        tokens.push(token);
        if ended {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    position: Position,
    in_hint: bool,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        if next == '\n' {
            self.position.line = self.position.line.saturating_add(1);
            self.position.column = 1;
        } else {
            self.position.column = self.position.column.saturating_add(1);
        }
        Some(next)
    }

    fn advance_by(&mut self, chars: usize) {
        for _ in 0..chars {
            self.advance();
        }
    }

    fn take_while(&mut self, accepts: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(next) = self.peek().filter(|next| accepts(*next)) {
            taken.push(next);
            self.advance();
        }
        taken
    }

    fn skip_blanks(&mut self) -> Result<(), SqlError> {
        loop {
            let rest = self.rest();
            if rest.starts_with("--") || rest.starts_with("//") {
                self.take_while(|next| next != '\n');
            } else if rest.starts_with("/*") && !rest.starts_with("/*+") {
                self.skip_block_comment()?;
            } else if rest.starts_with(|next: char| next.is_whitespace() || next == '\u{feff}') {
                self.advance();
            } else {
                return Ok(());
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), SqlError> {
        let start = self.position;
        self.advance_by(2);
        while !self.rest().starts_with("*/") {
            if self.advance().is_none() {
                return Err(SqlError::syntax("Comment is not closed: expected */", start));
            }
        }
        self.advance_by(2);
        Ok(())
    }

    fn next_token(&mut self) -> Result<Token, SqlError> {
        let (start, position) = (self.at, self.position);
        let (kind, value) = self.scan()?;
        Ok(Token {
            kind,
            value,
            start,
            end: self.at,
            position,
            end_position: self.position,
        })
    }

    fn scan(&mut self) -> Result<(TokenKind, String), SqlError> {
        let Some(first) = self.peek() else {
            return Ok((TokenKind::End, String::new()));
        };
        let second = self.peek_second();
        match (first, second) {
            ('\'', _) => Ok((TokenKind::String, self.quoted('\'', "string literal")?)),
            ('`', _) => self.quoted_identifier(),
            ('n' | 'N', Some('\'')) => {
                self.advance();
                Ok((TokenKind::String, self.quoted('\'', "string literal")?))
            }
            ('x' | 'X', Some('\'')) => self.hex(),
            ('u' | 'U', Some('&')) if self.rest().chars().nth(2) == Some('\'') => self.unicode(),
            _ if first.is_alphabetic() || first == '_' => {
                let word = self.take_while(|next| next.is_alphanumeric() || next == '_' || next == '$');
                Ok((TokenKind::Word, word))
            }
            _ if first.is_ascii_digit() => Ok((TokenKind::Number, self.number())),
            ('.', Some(digit)) if digit.is_ascii_digit() => Ok((TokenKind::Number, self.number())),
            _ => self.symbol(first),
        }
    }

    fn quoted(&mut self, quote: char, what: &str) -> Result<String, SqlError> {
        let start = self.position;
        self.advance();
        let mut value = String::new();
        loop {
            match self.advance() {
                None => {
                    return Err(SqlError::syntax(
                        format!("The {what} is not closed: expected {quote}"),
                        start,
                    ));
                }
                Some(next) if next == quote && self.peek() == Some(quote) => {
                    self.advance();
                    value.push(quote);
                }
                Some(next) if next == quote => return Ok(value),
                Some(next) => value.push(next),
            }
        }
    }

    fn quoted_identifier(&mut self) -> Result<(TokenKind, String), SqlError> {
        let start = self.position;
        let name = self.quoted('`', "quoted identifier")?;
        if name.is_empty() {
            return Err(SqlError::syntax("An identifier must not be empty", start));
        }
        Ok((TokenKind::Quoted, name))
    }

    fn hex(&mut self) -> Result<(TokenKind, String), SqlError> {
        let start = self.position;
        self.advance();
        let digits = self.quoted('\'', "binary literal")?;
        match digits.chars().all(|digit| digit.is_ascii_hexdigit()) && digits.len() % 2 == 0 {
            true => Ok((TokenKind::Hex, digits)),
            false => Err(SqlError::syntax(
                "A binary literal must have an even number of hexadecimal digits",
                start,
            )),
        }
    }

    /// `U&'\00e9'`, with `UESCAPE '!'` behind it.
    fn unicode(&mut self) -> Result<(TokenKind, String), SqlError> {
        let start = self.position;
        self.advance_by(2);
        let text = self.quoted('\'', "string literal")?;
        let escape = self.unicode_escape()?.unwrap_or('\\');
        match decode_unicode(&text, escape) {
            Some(decoded) => Ok((TokenKind::String, decoded)),
            None => Err(SqlError::syntax(
                format!("Malformed Unicode escape: expected four hexadecimal digits after {escape}"),
                start,
            )),
        }
    }

    fn unicode_escape(&mut self) -> Result<Option<char>, SqlError> {
        let before = (self.at, self.position);
        self.skip_blanks()?;
        let is_there = self
            .rest()
            .get(..7)
            .is_some_and(|word| word.eq_ignore_ascii_case("UESCAPE"));
        if !is_there {
            (self.at, self.position) = before;
            return Ok(None);
        }
        self.advance_by(7);
        self.skip_blanks()?;
        let position = self.position;
        let wrong = || SqlError::syntax("UESCAPE must be followed by one character in quotes", position);
        if self.peek() != Some('\'') {
            return Err(wrong());
        }
        let text = self.quoted('\'', "string literal")?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(escape), None) => Ok(Some(escape)),
            _ => Err(wrong()),
        }
    }

    fn number(&mut self) -> String {
        let mut number = self.take_while(|next| next.is_ascii_digit());
        if self.peek() == Some('.') {
            number.push('.');
            self.advance();
            number.push_str(&self.take_while(|next| next.is_ascii_digit()));
        }
        let mut ahead = self.rest().chars();
        if let Some('e' | 'E') = ahead.next() {
            let (sign, digit) = match ahead.next() {
                Some(sign @ ('+' | '-')) => (Some(sign), ahead.next()),
                other => (None, other),
            };
            if digit.is_some_and(|digit| digit.is_ascii_digit()) {
                number.push('E');
                number.extend(sign);
                self.advance_by(1 + usize::from(sign.is_some()));
                number.push_str(&self.take_while(|next| next.is_ascii_digit()));
            }
        }
        number
    }

    fn symbol(&mut self, first: char) -> Result<(TokenKind, String), SqlError> {
        let found = if self.rest().starts_with("/*+") {
            self.in_hint = true;
            Some("/*+")
        } else if self.in_hint && self.rest().starts_with("*/") {
            self.in_hint = false;
            Some("*/")
        } else {
            SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol))
        };
        match found {
            Some(symbol) => {
                self.advance_by(symbol.len());
                Ok((TokenKind::Symbol(symbol), String::new()))
            }
            None if first == '"' => Err(SqlError::syntax(
                "Encountered \": identifiers are quoted by backticks, strings by single quotes",
                self.position,
            )),
            None => Err(SqlError::syntax(
                format!("Encountered {first:?}, which begins nothing"),
                self.position,
            )),
        }
    }
}

fn decode_unicode(text: &str, escape: char) -> Option<String> {
    let mut units = Vec::new();
    let mut chars = text.chars().peekable();
    let mut buffer = [0; 2];
    while let Some(next) = chars.next() {
        if next != escape || chars.next_if_eq(&escape).is_some() {
            units.extend_from_slice(next.encode_utf16(&mut buffer));
            continue;
        }
        let digits: String = chars.by_ref().take(4).collect();
        let is_hex = digits.len() == 4 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex)?);
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(TokenKind, String)> {
        let tokens = tokenize(text, Position::START).unwrap();
        tokens
            .into_iter()
            .map(|token| (token.kind, token.value))
            .collect()
    }

    #[test]
    fn comments_are_skipped_and_hints_are_not() {
        let symbol = |text| (TokenKind::Symbol(text), String::new());
        let word = |text: &str| (TokenKind::Word, text.to_owned());
        assert_eq!(
            kinds("a -- b\n/* c */ // d\n/*+ e */ * 2"),
            [
                word("a"),
                symbol("/*+"),
                word("e"),
                symbol("*/"),
                symbol("*"),
                (TokenKind::Number, "2".to_owned()),
                (TokenKind::End, String::new()),
            ]
        );
    }

    #[test]
    fn quotes_are_doubled_to_stand_for_themselves() {
        assert_eq!(kinds("'it''s'")[0], (TokenKind::String, "it's".to_owned()));
        assert_eq!(kinds("`a``b`")[0], (TokenKind::Quoted, "a`b".to_owned()));
    }

    #[test]
    fn unicode_literals_are_decoded() {
        assert_eq!(kinds(r"U&'\00e9\D83D\DE00'")[0].1, "é😀");
        assert_eq!(kinds(r"u&'!00e9!!' UESCAPE '!'")[0].1, "é!");
        assert!(tokenize(r"U&'\00g0'", Position::START).is_err());
    }

    #[test]
    fn positions_count_characters_and_lines() {
        let tokens = tokenize("é x\n  'a\nb' y", Position::START).unwrap();
        let at: Vec<(u32, u32)> = tokens.iter().map(|token| token.position.pair()).collect();
        assert_eq!(at, [(1, 1), (1, 3), (2, 3), (3, 4), (3, 5)]);
    }

    #[test]
    fn what_is_not_closed_is_reported_where_it_begins() {
        for text in ["x 'abc", "x `abc", "x /* abc", "x \"abc\"", "x X'0g'", "x @"] {
            let error = tokenize(text, Position::START).unwrap_err();
            assert_eq!(error.position, Some(Position { line: 1, column: 3 }), "{text}");
        }
    }
}
