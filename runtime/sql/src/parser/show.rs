//! SHOW and DESCRIBE.

use super::cursor::Parser;
use super::token::TokenKind;
use crate::ast::{Describe, LikeFilter, Show, ShowKind, Statement};
use crate::error::{Position, SqlError};

const KINDS: [&str; 11] = [
    "CATALOGS",
    "DATABASES",
    "TABLES",
    "VIEWS",
    "FUNCTIONS",
    "COLUMNS",
    "JOBS",
    "JARS",
    "MODULES",
    "CREATE",
    "CURRENT",
];

/// Of Flink, and refused by name.
const REFUSED: [&str; 5] = [
    "PARTITIONS",
    "PROCEDURES",
    "MODELS",
    "MATERIALIZED",
    "CONNECTIONS",
];

impl Parser<'_> {
    /// Behind SHOW.
    pub(crate) fn show(&mut self, position: Position) -> Result<Statement, SqlError> {
        if let Some(what) = REFUSED.iter().find(|what| self.peek().is_word(what)) {
            return Err(SqlError::unsupported(
                format!("SHOW {what} is not supported"),
                position,
            ));
        }
        if self.accept("USER") {
            self.expect("FUNCTIONS")?;
            return self.shown(ShowKind::UserFunctions, position);
        }
        if self.accept("FULL") {
            self.expect("MODULES")?;
            return self.shown(ShowKind::Modules, position);
        }
        let what = match self.expect_one(&KINDS)? {
            "CATALOGS" => ShowKind::Catalogs,
            "DATABASES" => ShowKind::Databases,
            "TABLES" => ShowKind::Tables,
            "VIEWS" => ShowKind::Views,
            "FUNCTIONS" => ShowKind::Functions,
            "COLUMNS" => ShowKind::Columns,
            "JOBS" => ShowKind::Jobs,
            "JARS" => ShowKind::Jars,
            "MODULES" => ShowKind::Modules,
            "CREATE" => self.show_create()?,
            _ => match self.expect_one(&["CATALOG", "DATABASE"])? {
                "CATALOG" => ShowKind::CurrentCatalog,
                _ => ShowKind::CurrentDatabase,
            },
        };
        self.shown(what, position)
    }

    fn show_create(&mut self) -> Result<ShowKind, SqlError> {
        let position = self.position();
        if let Some(what) = ["CATALOG", "DATABASE", "MODEL"]
            .iter()
            .find(|what| self.peek().is_word(what))
        {
            return Err(SqlError::unsupported(
                format!("SHOW CREATE {what} is not supported"),
                position,
            ));
        }
        Ok(match self.expect_one(&["TABLE", "VIEW"])? {
            "TABLE" => ShowKind::CreateTable(self.object_name()?),
            _ => ShowKind::CreateView(self.object_name()?),
        })
    }

    /// FROM and LIKE, where the thing has them.
    fn shown(&mut self, what: ShowKind, position: Position) -> Result<Statement, SqlError> {
        use ShowKind as Kind;
        let (from_allowed, like_allowed) = match what {
            Kind::Tables
            | Kind::Views
            | Kind::Functions
            | Kind::UserFunctions
            | Kind::Columns
            | Kind::Databases => (true, true),
            Kind::Catalogs => (false, true),
            _ => (false, false),
        };
        let from = match from_allowed && self.accept_one(&["FROM", "IN"]).is_some() {
            true => Some(self.object_name()?),
            false => None,
        };
        if from.is_none() && what == Kind::Columns {
            return Err(self.unexpected());
        }
        let like = match like_allowed {
            true => self.like_filter()?,
            false => None,
        };
        Ok(Statement::Show(Show {
            what,
            from,
            like,
            position,
        }))
    }

    fn like_filter(&mut self) -> Result<Option<LikeFilter>, SqlError> {
        let negated = self.accept("NOT");
        let ignore_case = match self.accept_one(&["LIKE", "ILIKE"]) {
            Some(word) => word == "ILIKE",
            None if negated => return Err(self.unexpected()),
            None => return Ok(None),
        };
        Ok(Some(LikeFilter {
            negated,
            ignore_case,
            pattern: self.string()?,
        }))
    }

    /// Behind DESCRIBE.
    pub(crate) fn describe(&mut self) -> Result<Statement, SqlError> {
        let position = self.position();
        let refused = ["JOB", "CATALOG", "DATABASE", "FUNCTION", "MODEL"];
        let behind = self.peek_nth(1);
        let has_operand = behind.is_name() || behind.kind == TokenKind::String;
        if let Some(what) = refused
            .iter()
            .find(|what| has_operand && self.peek().is_word(what))
        {
            return Err(SqlError::unsupported(
                format!("DESCRIBE {what} is not supported"),
                position,
            ));
        }
        let extended = self.accept("EXTENDED");
        Ok(Statement::Describe(Describe {
            name: self.object_name()?,
            extended,
        }))
    }
}
