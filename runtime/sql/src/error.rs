//! What is wrong with a script, and where: the one error of parser, catalog, planner and session.
//!
//! An error is made where it is found, with a [`Position`]; [`SqlError::with_source`] adds the line of the script once, where the script's text is
//! at hand. `Display` is one line; [`SqlError::render`] is that line, the script's line and a caret.

use std::fmt;

use sqlparser::tokenizer::{Location, Span};
use thalweg_types::failure::{Classify, FailureClass};

/// A place in a script: 1-based line and column, counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// 1 is the first.
    pub line: u32,
    /// 1 is the first.
    pub column: u32,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlErrorKind {
    /// The text is no statement.
    Syntax,
    /// A table, column, function or variable that isn't there.
    Unknown,
    /// Types don't fit.
    Type,
    /// Flink has it, this engine doesn't (yet); or Flink refuses it, too.
    Unsupported,
    /// It is a statement, but it means nothing.
    Semantic,
    /// An option of a table, a hint or the configuration.
    Option,
    /// A value that can't be computed, as a constant's overflow.
    Value,
    /// The planner contradicts itself.
    Bug,
}

/// An error in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// What kind of thing is wrong.
    pub kind: SqlErrorKind,
    /// What is wrong and what to do, without the place.
    pub message: String,
    /// Where; `None` if it is no single place.
    pub position: Option<Position>,
    /// The script's line at `position`.
    source_line: Option<Box<str>>,
}

impl Position {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };

    /// Where a part of sqlparser's tree begins; `None` if the tree doesn't say.
    pub fn of_span(span: Span) -> Option<Self> {
        Self::of_location(span.start)
    }

    /// `None` for sqlparser's empty location.
    pub fn of_location(location: Location) -> Option<Self> {
        let line = u32::try_from(location.line).ok()?;
        let column = u32::try_from(location.column).ok()?;
        (line > 0).then_some(Self { line, column })
    }

    /// Where a part of sqlparser's tree begins: `Position::of(&expr)`.
    pub fn of(part: &impl sqlparser::ast::Spanned) -> Option<Self> {
        Self::of_span(part.span())
    }

    /// As `thalweg_plan::Expr::position` has it.
    pub fn pair(self) -> (u32, u32) {
        (self.line, self.column)
    }
}

impl From<Position> for Location {
    fn from(position: Position) -> Self {
        Location::new(u64::from(position.line), u64::from(position.column))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl SqlError {
    /// An error at a place.
    pub fn new(
        kind: SqlErrorKind,
        message: impl Into<String>,
        position: impl Into<Option<Position>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            position: position.into(),
            source_line: None,
        }
    }

    /// The text is no statement.
    pub fn syntax(message: impl Into<String>, position: impl Into<Option<Position>>) -> Self {
        Self::new(SqlErrorKind::Syntax, message, position)
    }

    /// `what` names the thing: "MATCH_RECOGNIZE is not supported".
    pub fn unsupported(message: impl Into<String>, position: impl Into<Option<Position>>) -> Self {
        Self::new(SqlErrorKind::Unsupported, message, position)
    }

    /// Types don't fit.
    pub fn of_type(message: impl Into<String>, position: impl Into<Option<Position>>) -> Self {
        Self::new(SqlErrorKind::Type, message, position)
    }

    /// It means nothing.
    pub fn semantic(message: impl Into<String>, position: impl Into<Option<Position>>) -> Self {
        Self::new(SqlErrorKind::Semantic, message, position)
    }

    /// An option of a table, a hint or the configuration.
    pub fn option(message: impl Into<String>, position: impl Into<Option<Position>>) -> Self {
        Self::new(SqlErrorKind::Option, message, position)
    }

    /// A name that isn't there: "Unknown column 'priec'; did you mean 'price'?".
    pub fn unknown<'a>(
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        position: impl Into<Option<Position>>,
    ) -> Self {
        let hint = nearest(name, known).map(|near| format!("; did you mean '{near}'?"));
        let message = format!("Unknown {what} '{name}'{}", hint.unwrap_or_default());
        Self::new(SqlErrorKind::Unknown, message, position)
    }

    /// The same, at `position` unless it has one.
    #[must_use]
    pub fn or_at(mut self, position: impl Into<Option<Position>>) -> Self {
        self.position = self.position.or(position.into());
        self
    }

    /// The same with the line that it is in, unless it has one.
    #[must_use]
    pub fn with_source(mut self, script: &str) -> Self {
        if let (None, Some(position)) = (&self.source_line, self.position) {
            let line = script.split('\n').nth((position.line as usize).saturating_sub(1));
            self.source_line = line.map(|line| line.trim_end_matches('\r').into());
        }
        self
    }

    /// With the script's line and a caret below it.
    pub fn render(&self) -> String {
        let (Some(line), Some(position)) = (&self.source_line, self.position) else {
            return self.to_string();
        };
        let number = position.line.to_string();
        let before = (position.column as usize).saturating_sub(1);
        let (shown, offset) = excerpt(line, before);
        // Tabs stay tabs, so that the caret is below its place in every terminal.
        let blanks: String = shown
            .chars()
            .take(before - offset)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let margin = " ".repeat(number.len());
        format!("{self}\n{number} | {shown}\n{margin} | {blanks}^")
    }
}

/// The part of a line that is shown around a column, and how many characters before it are left out.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 160;
    let offset = column.saturating_sub(WIDTH / 2);
    let offset = if column < WIDTH { 0 } else { offset };
    (line.chars().skip(offset).take(WIDTH).collect(), offset)
}

/// The known name that is most like a wrong one; `None` if none is like it.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = name.to_lowercase();
    let limit = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&wrong, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

impl fmt::Display for SqlErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "Syntax error",
            Self::Unknown | Self::Semantic => "Invalid statement",
            Self::Type => "Type mismatch",
            Self::Unsupported => "Not supported",
            Self::Option => "Invalid option",
            Self::Value => "Invalid value",
            Self::Bug => "Bug",
        })
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} at {position}: {}", self.kind, self.message),
            None => write!(f, "{}: {}", self.kind, self.message),
        }
    }
}

impl std::error::Error for SqlError {}

impl Classify for SqlError {
    fn class(&self) -> FailureClass {
        match self.kind {
            SqlErrorKind::Bug => FailureClass::Bug,
            _ => FailureClass::Fatal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let error = SqlError::unknown(
            "column",
            "priec",
            ["id", "price"],
            Position { line: 2, column: 4 },
        );
        assert_eq!(
            error.with_source("SELECT\n\t  priec FROM t").render(),
            "Invalid statement at line 2, column 4: Unknown column 'priec'; did you mean 'price'?\n2 | \t  priec FROM t\n  | \t  ^"
        );
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let script = format!("{}x{}", " ".repeat(500), "y".repeat(500));
        let error = SqlError::syntax("no", Position { line: 1, column: 501 });
        let rendered = error.with_source(&script).render();
        let lines: Vec<&str> = rendered.lines().collect();
        assert_eq!(lines[1].find('x'), lines[2].find('^'));
        assert!(lines[1].len() < 200);
    }

    #[test]
    fn names_that_are_not_alike_are_not_suggested() {
        assert_eq!(nearest("abc", ["xyz", "person"]), None);
        assert_eq!(nearest("Bids", ["auction", "bid"]), Some("bid"));
    }
}
