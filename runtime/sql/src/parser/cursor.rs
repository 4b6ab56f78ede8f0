//! The parser's way through the tokens, and its memory of what would have been right at the place where it is.

use std::cell::RefCell;

use sqlparser::ast::{Ident, ObjectName, Value, ValueWithSpan};
use sqlparser::tokenizer::Span;

use super::token::{Token, TokenKind};
use super::words::is_reserved;
use crate::ast::Text;
use crate::error::{Position, SqlError, nearest};

/// So many calls within one another.
const MAX_RECURSION: usize = 64;
/// Of a tree; chains of operators count.
const MAX_HEIGHT: usize = 300;
/// Each may double the tree.
const MAX_DUPLICATES: usize = 10;
/// So many expected words are named.
const MAX_EXPECTED: usize = 12;

/// Where the parser is in a statement.
pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    end: &'a Token,
    recursion: usize,
    height: usize,
    duplicates: usize,
    expected: RefCell<Expected>,
}

/// What was asked for at a token, in vain.
#[derive(Default)]
struct Expected {
    at: usize,
    words: Vec<&'static str>,
}

impl<'a> Parser<'a> {
    /// Over tokens of `text`, the last of which ends a statement: [`TokenKind::End`] or `;`.
    pub(crate) fn new(text: &'a str, tokens: &'a [Token], end: &'a Token) -> Self {
        Self {
            text,
            tokens,
            at: 0,
            end,
            recursion: 0,
            height: 0,
            duplicates: 0,
            expected: RefCell::default(),
        }
    }

    /// The next token.
    pub(crate) fn peek(&self) -> &'a Token {
        self.peek_nth(0)
    }

    /// The one `n` behind the next.
    pub(crate) fn peek_nth(&self, n: usize) -> &'a Token {
        self.token(self.at.saturating_add(n))
    }

    /// The token at a place of [`Parser::index`].
    pub(crate) fn token(&self, index: usize) -> &'a Token {
        self.tokens.get(index).unwrap_or(self.end)
    }

    /// The next token's place.
    pub(crate) fn index(&self) -> usize {
        self.at
    }

    /// How many tokens there are.
    pub(crate) fn count(&self) -> usize {
        self.tokens.len()
    }

    /// Takes the next token.
    pub(crate) fn next(&mut self) -> &'a Token {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len());
        token
    }

    /// Where the next token is.
    pub(crate) fn position(&self) -> Position {
        self.peek().position
    }

    /// The text from a token to the last one that was taken.
    pub(crate) fn text_from(&self, first: &Token) -> String {
        let last = self
            .at
            .checked_sub(1)
            .map_or(first.end, |last| self.token(last).end);
        self.text
            .get(first.start..last.max(first.start))
            .unwrap_or_default()
            .to_owned()
    }

    /// Whether the statement is over.
    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Nothing may follow.
    pub(crate) fn expect_end(&self) -> Result<(), SqlError> {
        match self.at_end() {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// Remembers that this would have been right at the next token.
    pub(crate) fn wanted(&self, word: &'static str) {
        let mut expected = self.expected.borrow_mut();
        if expected.at != self.at {
            expected.at = self.at;
            expected.words.clear();
        }
        if !expected.words.contains(&word) {
            expected.words.push(word);
        }
    }

    /// Whether the next token is this keyword.
    pub(crate) fn at_word(&self, keyword: &'static str) -> bool {
        let found = self.peek().is_word(keyword);
        if !found {
            self.wanted(keyword);
        }
        found
    }

    /// Whether these keywords come next.
    pub(crate) fn at_words(&self, keywords: &[&'static str]) -> bool {
        let found = keywords
            .iter()
            .enumerate()
            .all(|(n, keyword)| self.peek_nth(n).is_word(keyword));
        if let (false, Some(first)) = (found, keywords.first()) {
            self.wanted(first);
        }
        found
    }

    /// Whether the next token is this symbol.
    pub(crate) fn at_symbol(&self, symbol: &'static str) -> bool {
        let found = self.peek().is_symbol(symbol);
        if !found {
            self.wanted(symbol);
        }
        found
    }

    /// Takes this keyword if it comes next.
    pub(crate) fn accept(&mut self, keyword: &'static str) -> bool {
        let found = self.at_word(keyword);
        if found {
            self.next();
        }
        found
    }

    /// Takes these keywords if they come next.
    pub(crate) fn accept_all(&mut self, keywords: &[&'static str]) -> bool {
        let found = self.at_words(keywords);
        if found {
            self.at += keywords.len();
        }
        found
    }

    /// Takes one of these keywords if it comes next.
    pub(crate) fn accept_one(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        keywords.iter().copied().find(|keyword| self.accept(keyword))
    }

    /// Takes this symbol if it comes next.
    pub(crate) fn accept_symbol(&mut self, symbol: &'static str) -> bool {
        let found = self.at_symbol(symbol);
        if found {
            self.next();
        }
        found
    }

    /// Takes this keyword.
    pub(crate) fn expect(&mut self, keyword: &'static str) -> Result<&'a Token, SqlError> {
        match self.at_word(keyword) {
            true => Ok(self.next()),
            false => Err(self.unexpected()),
        }
    }

    /// Takes these keywords.
    pub(crate) fn expect_all(&mut self, keywords: &[&'static str]) -> Result<(), SqlError> {
        keywords
            .iter()
            .try_for_each(|keyword| self.expect(keyword).map(drop))
    }

    /// Takes one of these keywords.
    pub(crate) fn expect_one(&mut self, keywords: &[&'static str]) -> Result<&'static str, SqlError> {
        self.accept_one(keywords).ok_or_else(|| self.unexpected())
    }

    /// Takes this symbol.
    pub(crate) fn expect_symbol(&mut self, symbol: &'static str) -> Result<&'a Token, SqlError> {
        match self.at_symbol(symbol) {
            true => Ok(self.next()),
            false => Err(self.unexpected()),
        }
    }

    /// The next token is wrong.
    pub(crate) fn unexpected(&self) -> SqlError {
        let token = self.peek();
        let expected = self.expected.borrow();
        let known: &[&'static str] = match expected.at == self.at {
            true => &expected.words,
            false => &[],
        };
        let mut message = format!("Encountered {}", self.quote(token));
        if token.kind == TokenKind::Word && is_reserved(&token.value) && known.contains(&IDENTIFIER) {
            message.push_str(" (a reserved word: as an identifier it needs backticks)");
        }
        let near = match token.kind {
            TokenKind::Word => {
                let others = |word: &&str| word.len() > 2 && !word.eq_ignore_ascii_case(&token.value);
                nearest(&token.value, known.iter().copied().filter(others))
            }
            _ => None,
        };
        match (near, known) {
            (Some(near), _) => message.push_str(&format!("; did you mean {near}?")),
            (None, []) => {}
            (None, [one]) => message.push_str(&format!("; expected {one}")),
            (None, many) => {
                let shown = many.get(..MAX_EXPECTED).unwrap_or(many);
                let more = if shown.len() < many.len() { ", .." } else { "" };
                message.push_str(&format!("; expected one of {}{more}", shown.join(" ")));
            }
        }
        SqlError::syntax(message, token.position)
    }

    fn quote(&self, token: &Token) -> String {
        const SHOWN: usize = 40;
        if token.kind == TokenKind::End || std::ptr::eq(token, self.end) {
            return "the end of the statement".to_owned();
        }
        let text = self.text.get(token.start..token.end).unwrap_or_default();
        match text.chars().count() > SHOWN {
            true => format!("\"{}..\"", text.chars().take(SHOWN).collect::<String>()),
            false => format!("\"{text}\""),
        }
    }

    /// Takes an identifier.
    pub(crate) fn identifier(&mut self) -> Result<Ident, SqlError> {
        match self.accept_identifier() {
            Some(ident) => Ok(ident),
            None => Err(self.unexpected()),
        }
    }

    /// Takes an identifier if one comes next.
    pub(crate) fn accept_identifier(&mut self) -> Option<Ident> {
        if !self.at_identifier() {
            return None;
        }
        Some(ident(self.next()))
    }

    /// Whether an identifier comes next.
    pub(crate) fn at_identifier(&self) -> bool {
        let token = self.peek();
        let found = match token.kind {
            TokenKind::Quoted => true,
            TokenKind::Word => !is_reserved(&token.value),
            _ => false,
        };
        if !found {
            self.wanted(IDENTIFIER);
        }
        found
    }

    /// `a`, `a.b`, `a.b.c`.
    pub(crate) fn object_name(&mut self) -> Result<ObjectName, SqlError> {
        Ok(ObjectName::from(self.compound_identifier()?))
    }

    /// `a`, `a.b`, `a.b.c`, ..
    pub(crate) fn compound_identifier(&mut self) -> Result<Vec<Ident>, SqlError> {
        let mut parts = vec![self.identifier()?];
        while self.accept_symbol(".") {
            parts.push(self.identifier()?);
        }
        Ok(parts)
    }

    /// `(a, b)`.
    pub(crate) fn identifiers_in_parentheses(&mut self) -> Result<Vec<Ident>, SqlError> {
        self.in_parentheses(|parser| parser.comma_separated(Self::identifier))
    }

    /// `( .. )`.
    pub(crate) fn in_parentheses<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.expect_symbol("(")?;
        let parsed = inner(self)?;
        self.expect_symbol(")")?;
        Ok(parsed)
    }

    /// One or more, with commas between.
    pub(crate) fn comma_separated<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut items = vec![item(self)?];
        while self.accept_symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Takes a string literal.
    pub(crate) fn string(&mut self) -> Result<Text, SqlError> {
        self.accept_string().ok_or_else(|| self.unexpected())
    }

    /// Takes a string literal if one comes next.
    pub(crate) fn accept_string(&mut self) -> Option<Text> {
        if self.peek().kind != TokenKind::String {
            self.wanted(STRING);
            return None;
        }
        let token = self.next();
        Some(Text {
            value: token.value.clone(),
            position: token.position,
        })
    }

    /// Takes a string literal, as sqlparser's tree has it.
    pub(crate) fn string_value(&mut self) -> Result<ValueWithSpan, SqlError> {
        let span = self.peek().span();
        let text = self.string()?;
        Ok(Value::SingleQuotedString(text.value).with_span(span))
    }

    /// Takes a whole number.
    pub(crate) fn whole_number<T: std::str::FromStr>(&mut self) -> Result<T, SqlError> {
        let token = self.peek();
        let is_whole =
            token.kind == TokenKind::Number && token.value.bytes().all(|digit| digit.is_ascii_digit());
        if !is_whole {
            self.wanted(NUMBER);
            return Err(self.unexpected());
        }
        self.next();
        token.value.parse().map_err(|_| {
            SqlError::syntax(
                format!("The number {} is too large here", token.value),
                token.position,
            )
        })
    }

    /// Runs a part of the grammar that can contain itself.
    pub(crate) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let height = self.height;
        if self.recursion >= MAX_RECURSION {
            return Err(self.too_deep());
        }
        self.recursion += 1;
        self.grow()?;
        let parsed = inner(self);
        self.recursion -= 1;
        self.height = height;
        parsed
    }

    /// The tree gets one level higher, until the innermost [`Parser::nested`] is over.
    pub(crate) fn grow(&mut self) -> Result<(), SqlError> {
        self.height += 1;
        match self.height > MAX_HEIGHT {
            true => Err(self.too_deep()),
            false => Ok(()),
        }
    }

    /// Where parts of the tree that stand beside one another begin.
    pub(crate) fn heights(&self) -> Heights {
        Heights {
            start: self.height,
            highest: self.height,
        }
    }

    /// A part is over; the next one stands beside it.
    pub(crate) fn beside(&mut self, heights: Heights) -> Heights {
        let highest = heights.highest.max(self.height);
        self.height = heights.start;
        Heights { highest, ..heights }
    }

    /// All parts are over, and a balanced tree stands above them.
    pub(crate) fn above(&mut self, heights: Heights, parts: usize) -> Result<(), SqlError> {
        self.height = heights.highest;
        let levels = parts.next_power_of_two().ilog2();
        (0..levels).try_for_each(|_| self.grow())
    }

    /// A part of the tree is about to be in it twice.
    pub(crate) fn duplicate(&mut self) -> Result<(), SqlError> {
        self.duplicates += 1;
        match self.duplicates > MAX_DUPLICATES {
            true => Err(SqlError::unsupported(
                format!("More than {MAX_DUPLICATES} BETWEEN SYMMETRIC in one statement are not supported"),
                self.position(),
            )),
            false => Ok(()),
        }
    }

    fn too_deep(&self) -> SqlError {
        SqlError::unsupported(
            format!(
                "The statement is nested too deeply (more than {MAX_RECURSION} levels, or {MAX_HEIGHT} operators in a row)"
            ),
            self.position(),
        )
    }
}

/// See [`Parser::heights`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heights {
    start: usize,
    highest: usize,
}

const IDENTIFIER: &str = "identifier";
const STRING: &str = "string";
const NUMBER: &str = "number";

/// A token as an identifier.
pub(crate) fn ident(token: &Token) -> Ident {
    Ident {
        value: token.value.clone(),
        quote_style: (token.kind == TokenKind::Quoted).then_some('`'),
        span: token.span(),
    }
}

/// An identifier that stands for a keyword.
pub(crate) fn ident_of(name: &str, span: Span) -> Ident {
    Ident {
        value: name.to_owned(),
        quote_style: None,
        span,
    }
}
