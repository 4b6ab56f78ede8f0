//! ALTER TABLE and ALTER VIEW.

use super::cursor::Parser;
use crate::ast::{AlterTable, AlterView, ColumnPlace, SchemaChange, Statement, TableChange, ViewChange};
use crate::error::SqlError;

impl Parser<'_> {
    /// Behind ALTER.
    pub(crate) fn alter(&mut self) -> Result<Statement, SqlError> {
        match self.expect_one(&["TABLE", "VIEW"])? {
            "TABLE" => self.alter_table(),
            _ => self.alter_view(),
        }
    }

    fn alter_table(&mut self) -> Result<Statement, SqlError> {
        let if_exists = self.accept_all(&["IF", "EXISTS"]);
        let name = self.object_name()?;
        let position = self.position();
        let change = self.table_change()?;
        Ok(Statement::AlterTable(Box::new(AlterTable {
            name,
            if_exists,
            change,
            position,
        })))
    }

    fn table_change(&mut self) -> Result<TableChange, SqlError> {
        let position = self.position();
        let refused = |what: &str| {
            Err(SqlError::unsupported(
                format!("ALTER TABLE .. {what} is not supported"),
                position,
            ))
        };
        match self.expect_one(&["RENAME", "SET", "RESET", "ADD", "MODIFY", "DROP"])? {
            "RENAME" if self.accept("TO") => Ok(TableChange::Rename(self.object_name()?)),
            "RENAME" => {
                let from = self.identifier()?;
                self.expect("TO")?;
                Ok(TableChange::RenameColumn(from, self.identifier()?))
            }
            "SET" => Ok(TableChange::Set(self.option_entries()?)),
            "RESET" => Ok(TableChange::Reset(self.option_keys()?)),
            "ADD" if self.at_word("PARTITION") || self.at_words(&["IF", "NOT", "EXISTS"]) => {
                refused("ADD PARTITION")
            }
            "ADD" if self.at_word("DISTRIBUTION") || self.at_word("DISTRIBUTED") => {
                refused("ADD DISTRIBUTION")
            }
            "ADD" => self.schema_change().map(TableChange::Add),
            "MODIFY" if self.at_word("DISTRIBUTION") || self.at_word("DISTRIBUTED") => {
                refused("MODIFY DISTRIBUTION")
            }
            "MODIFY" => self.schema_change().map(TableChange::Modify),
            _ if self.at_word("PARTITION") || self.at_words(&["IF", "EXISTS"]) => refused("DROP PARTITION"),
            _ if self.at_word("DISTRIBUTION") => refused("DROP DISTRIBUTION"),
            _ => self.dropped(),
        }
    }

    fn dropped(&mut self) -> Result<TableChange, SqlError> {
        if self.accept_all(&["PRIMARY", "KEY"]) {
            return Ok(TableChange::DropPrimaryKey);
        }
        if self.accept("CONSTRAINT") {
            self.identifier()?;
            return Ok(TableChange::DropPrimaryKey);
        }
        if self.at_word("WATERMARK") {
            self.next();
            return Ok(TableChange::DropWatermark);
        }
        Ok(TableChange::DropColumns(match self.at_symbol("(") {
            true => self.identifiers_in_parentheses()?,
            false => vec![self.identifier()?],
        }))
    }

    fn schema_change(&mut self) -> Result<SchemaChange, SqlError> {
        let mut change = SchemaChange::default();
        match self.at_symbol("(") {
            true => {
                self.in_parentheses(|parser| {
                    parser.comma_separated(|parser| parser.changed_element(&mut change))
                })?;
            }
            false => self.changed_element(&mut change)?,
        }
        Ok(change)
    }

    fn changed_element(&mut self, change: &mut SchemaChange) -> Result<(), SqlError> {
        let Some(column) = self.table_element(change)? else {
            return Ok(());
        };
        let place = if self.accept("FIRST") {
            Some(ColumnPlace::First)
        } else if self.accept("AFTER") {
            Some(ColumnPlace::After(self.identifier()?))
        } else {
            None
        };
        change.columns.push((column, place));
        Ok(())
    }

    fn alter_view(&mut self) -> Result<Statement, SqlError> {
        let name = self.object_name()?;
        let change = match self.expect_one(&["RENAME", "AS"])? {
            "RENAME" => {
                self.expect("TO")?;
                ViewChange::Rename(self.object_name()?)
            }
            _ => {
                let (query, text) = self.query_with_text()?;
                ViewChange::Query(query, text)
            }
        };
        Ok(Statement::AlterView(AlterView { name, change }))
    }
}
