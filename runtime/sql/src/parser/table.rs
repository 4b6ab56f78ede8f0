//! FROM: tables, table functions, joins.

use sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableVersion,
    TableWithJoins,
};

use super::cursor::Parser;
use super::query::alias;
use crate::error::SqlError;

impl Parser<'_> {
    /// A table and what is joined to it.
    pub(crate) fn table_with_joins(&mut self) -> Result<TableWithJoins, SqlError> {
        let relation = self.nested(Self::table_factor)?;
        let mut joins = Vec::new();
        while let Some(join) = self.join()? {
            joins.push(join);
            self.grow()?;
        }
        Ok(TableWithJoins { relation, joins })
    }

    fn join(&mut self) -> Result<Option<Join>, SqlError> {
        let natural = self.accept("NATURAL");
        let make: fn(JoinConstraint) -> JoinOperator =
            match self.accept_one(&["INNER", "LEFT", "RIGHT", "FULL", "CROSS", "JOIN"]) {
                Some("JOIN") => JoinOperator::Inner,
                Some(word) => {
                    let outer = matches!(word, "LEFT" | "RIGHT" | "FULL") && self.accept("OUTER");
                    if !outer && (self.at_word("SEMI") || self.at_word("ANTI") || self.at_word("ASOF")) {
                        return Err(SqlError::unsupported(
                            "SEMI, ANTI and ASOF JOIN are not supported: use IN or EXISTS",
                            self.position(),
                        ));
                    }
                    self.expect("JOIN")?;
                    match word {
                        "INNER" => JoinOperator::Inner,
                        "LEFT" => JoinOperator::LeftOuter,
                        "RIGHT" => JoinOperator::RightOuter,
                        "FULL" => JoinOperator::FullOuter,
                        _ => JoinOperator::CrossJoin,
                    }
                }
                None if natural => return Err(self.unexpected()),
                None => return Ok(None),
            };
        let is_cross = matches!(make(JoinConstraint::None), JoinOperator::CrossJoin(_));
        if natural && is_cross {
            return Err(SqlError::syntax(
                "There is no NATURAL CROSS JOIN",
                self.position(),
            ));
        }
        let relation = self.nested(Self::table_factor)?;
        let constraint = match natural {
            true => JoinConstraint::Natural,
            false if is_cross => JoinConstraint::None,
            false => self.join_constraint()?,
        };
        Ok(Some(Join {
            relation,
            global: false,
            join_operator: make(constraint),
        }))
    }

    fn join_constraint(&mut self) -> Result<JoinConstraint, SqlError> {
        if self.accept("ON") {
            return Ok(JoinConstraint::On(self.expression()?));
        }
        if self.accept("USING") {
            let columns = self.identifiers_in_parentheses()?;
            let names = columns.into_iter().map(|column| ObjectName::from(vec![column]));
            return Ok(JoinConstraint::Using(names.collect()));
        }
        Ok(JoinConstraint::None)
    }

    fn table_factor(&mut self) -> Result<TableFactor, SqlError> {
        let factor = self.plain_table_factor()?;
        match self.accept_one(&["MATCH_RECOGNIZE", "TABLESAMPLE", "PIVOT", "UNPIVOT"]) {
            Some(word) => {
                let position = self.token(self.index().saturating_sub(1)).position;
                Err(SqlError::unsupported(
                    format!("{word} is not supported"),
                    position,
                ))
            }
            None => Ok(factor),
        }
    }

    fn plain_table_factor(&mut self) -> Result<TableFactor, SqlError> {
        let lateral = self.accept("LATERAL");
        if self.at_symbol("(") {
            return match lateral || self.at_query_in_parentheses() {
                true => self.derived_table(lateral),
                false => self.nested_join(),
            };
        }
        if self.at_word("TABLE") {
            self.next();
            return self
                .in_parentheses(|parser| parser.table_function(lateral))
                .and_then(|function| self.with_alias(function));
        }
        if self.at_word("UNNEST") {
            return self.unnest();
        }
        if self.at_identifier() || self.peek_nth(1).is_symbol("(") {
            return self.named_or_function(lateral);
        }
        self.at_symbol("(");
        Err(self.unexpected())
    }

    fn derived_table(&mut self, lateral: bool) -> Result<TableFactor, SqlError> {
        let subquery = self.in_parentheses(Self::query)?;
        self.refuse_version()?;
        Ok(TableFactor::Derived {
            lateral,
            subquery,
            alias: self.table_alias()?,
            sample: None,
        })
    }

    fn refuse_version(&self) -> Result<(), SqlError> {
        match self.at_words(&["FOR", "SYSTEM_TIME"]) {
            true => Err(SqlError::unsupported(
                "FOR SYSTEM_TIME AS OF is supported of named tables and views only",
                self.position(),
            )),
            false => Ok(()),
        }
    }

    fn nested_join(&mut self) -> Result<TableFactor, SqlError> {
        let table_with_joins = Box::new(self.in_parentheses(Self::table_with_joins)?);
        if self.at_word("AS") || self.at_identifier() {
            return Err(SqlError::syntax(
                "A join in parentheses has no alias",
                self.position(),
            ));
        }
        Ok(TableFactor::NestedJoin {
            table_with_joins,
            alias: None,
        })
    }

    fn unnest(&mut self) -> Result<TableFactor, SqlError> {
        self.expect("UNNEST")?;
        let array_exprs = self.in_parentheses(|parser| parser.comma_separated(Self::expression))?;
        let with_ordinality = self.accept_all(&["WITH", "ORDINALITY"]);
        Ok(TableFactor::UNNEST {
            alias: self.table_alias()?,
            array_exprs,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality,
        })
    }

    /// `f(..)`, without an alias.
    fn table_function(&mut self, lateral: bool) -> Result<TableFactor, SqlError> {
        let first = self.peek();
        let is_call = first.is_name() && self.peek_nth(1).is_symbol("(");
        // Names of window functions are no identifiers elsewhere: SESSION, HOP.
        let name = match is_call {
            true => ObjectName::from(vec![super::cursor::ident(self.next())]),
            false => self.object_name()?,
        };
        Ok(TableFactor::Function {
            lateral,
            name,
            args: self.table_function_arguments()?,
            with_ordinality: false,
            alias: None,
        })
    }

    fn with_alias(&mut self, mut factor: TableFactor) -> Result<TableFactor, SqlError> {
        let found = self.table_alias()?;
        if let TableFactor::Function { alias, .. } = &mut factor {
            *alias = found;
        }
        Ok(factor)
    }

    fn named_or_function(&mut self, lateral: bool) -> Result<TableFactor, SqlError> {
        let mut behind = 1;
        while self.peek_nth(behind).is_symbol(".") {
            behind += 2;
        }
        if self.peek_nth(behind).is_symbol("(") {
            let function = self.table_function(lateral)?;
            return self.with_alias(function);
        }
        if lateral {
            return Err(SqlError::syntax(
                "LATERAL must be followed by a query in parentheses, TABLE(..) or a table function",
                self.position(),
            ));
        }
        let mut table = named_table(self.object_name()?);
        let hints = self.table_hint_exprs()?;
        let as_of = self.system_time()?;
        let found = self.table_alias()?;
        if let TableFactor::Table {
            with_hints,
            version,
            alias,
            ..
        } = &mut table
        {
            *with_hints = hints;
            *version = as_of.map(TableVersion::ForSystemTimeAsOf);
            *alias = found;
        }
        Ok(table)
    }

    fn system_time(&mut self) -> Result<Option<Expr>, SqlError> {
        if !self.accept("FOR") {
            return Ok(None);
        }
        self.expect_all(&["SYSTEM_TIME", "AS", "OF"])?;
        self.operand().map(Some)
    }

    fn table_alias(&mut self) -> Result<Option<TableAlias>, SqlError> {
        let explicit = self.accept("AS");
        let name = match explicit {
            true => Some(self.identifier()?),
            false if self.at_clause_word() => None,
            false => self.accept_identifier(),
        };
        let Some(name) = name else {
            return Ok(None);
        };
        let columns = match self.at_symbol("(") {
            true => self.identifiers_in_parentheses()?,
            false => Vec::new(),
        };
        Ok(Some(alias(explicit, name, columns)))
    }

    /// Words that are no reserved ones, but begin a clause here.
    fn at_clause_word(&self) -> bool {
        const CLAUSES: [&str; 4] = ["PIVOT", "UNPIVOT", "QUALIFY", "ASOF"];
        CLAUSES.iter().any(|word| self.peek().is_word(word))
    }
}

/// A table by its name, with nothing else.
pub(crate) fn named_table(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
