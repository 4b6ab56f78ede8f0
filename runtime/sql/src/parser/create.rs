//! CREATE and DROP: tables, views, functions.

use sqlparser::ast::ObjectName;

use super::cursor::Parser;
use super::token::TokenKind;
use crate::ast::{
    ColumnDef, ColumnDefKind, CreateFunction, CreateTable, CreateView, DistributionDef, Drop, LikeClause,
    LikeFeature, LikeOption, LikeStrategy, ObjectKind, PrimaryKeyDef, SchemaChange, SourceExpr, Statement,
    Text, WatermarkDef,
};
use crate::error::{Position, SqlError};

/// What stands between CREATE and the thing.
struct Modifiers {
    or_replace: bool,
    temporary: bool,
    system: bool,
    position: Position,
}

impl Parser<'_> {
    /// Behind CREATE.
    pub(crate) fn create(&mut self, position: Position) -> Result<Statement, SqlError> {
        let or_replace = self.accept_all(&["OR", "REPLACE"]);
        let temporary = self.accept("TEMPORARY");
        let modifiers = Modifiers {
            or_replace,
            temporary,
            system: temporary && self.accept("SYSTEM"),
            position,
        };
        if !modifiers.system {
            if self.accept("TABLE") {
                return self.create_table(&modifiers);
            }
            if self.accept("VIEW") {
                return self.create_view(&modifiers);
            }
        }
        if or_replace {
            return Err(self.unexpected());
        }
        self.expect("FUNCTION")?;
        self.create_function(&modifiers)
    }

    fn if_not_exists(&mut self) -> bool {
        self.accept_all(&["IF", "NOT", "EXISTS"])
    }

    fn create_table(&mut self, modifiers: &Modifiers) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = self.object_name()?;
        let elements = self.table_elements()?;
        let comment = self.comment()?;
        let distribution = self.distribution()?;
        let partitioned_by = match self.accept_all(&["PARTITIONED", "BY"]) {
            true => self.identifiers_in_parentheses()?,
            false => Vec::new(),
        };
        let options = match self.accept("WITH") {
            true => self.option_entries()?,
            false => Vec::new(),
        };
        let like = self.like_clause()?;
        let as_query = match self.accept("AS") {
            true => Some(self.query()?),
            false => None,
        };
        Ok(Statement::CreateTable(Box::new(CreateTable {
            temporary: modifiers.temporary,
            if_not_exists,
            or_replace: modifiers.or_replace,
            name,
            columns: elements.columns.into_iter().map(|(column, _)| column).collect(),
            watermark: elements.watermark,
            primary_key: elements.primary_key,
            comment,
            distribution,
            partitioned_by,
            options,
            like,
            as_query,
            position: modifiers.position,
        })))
    }

    fn table_elements(&mut self) -> Result<SchemaChange, SqlError> {
        let mut elements = SchemaChange::default();
        if self.at_symbol("(") {
            self.in_parentheses(|parser| {
                parser.comma_separated(|parser| {
                    let column = parser.table_element(&mut elements)?;
                    elements.columns.extend(column.map(|column| (column, None)));
                    Ok(())
                })
            })?;
        }
        Ok(elements)
    }

    /// A watermark or key, put in `elements`, or a column.
    pub(crate) fn table_element(
        &mut self,
        elements: &mut SchemaChange,
    ) -> Result<Option<ColumnDef>, SqlError> {
        let position = self.position();
        let twice = |what: &str| SqlError::semantic(format!("A table has at most one {what}"), position);
        if self.at_words(&["WATERMARK", "FOR"]) {
            let watermark = self.watermark()?;
            return match elements.watermark.replace(watermark) {
                Some(_) => Err(twice("WATERMARK")),
                None => Ok(None),
            };
        }
        let primary_key = match self.at_word("CONSTRAINT") || self.at_words(&["PRIMARY", "KEY"]) {
            true => Some(self.table_key()?),
            false => None,
        };
        if let Some(primary_key) = primary_key {
            return match elements.primary_key.replace(primary_key) {
                Some(_) => Err(twice("PRIMARY KEY")),
                None => Ok(None),
            };
        }
        if self.at_word("UNIQUE") {
            return Err(SqlError::unsupported("UNIQUE is not supported", position));
        }
        let (column, key) = self.column()?;
        match key.and_then(|key| elements.primary_key.replace(key)) {
            Some(_) => Err(twice("PRIMARY KEY")),
            None => Ok(Some(column)),
        }
    }

    fn watermark(&mut self) -> Result<WatermarkDef, SqlError> {
        let position = self.expect("WATERMARK")?.position;
        self.expect("FOR")?;
        let column = self.compound_identifier()?;
        self.expect("AS")?;
        Ok(WatermarkDef {
            column,
            expression: self.source_expression()?,
            position,
        })
    }

    fn source_expression(&mut self) -> Result<SourceExpr, SqlError> {
        let first = self.peek();
        let expr = self.expression()?;
        Ok(SourceExpr {
            expr,
            text: self.text_from(first),
        })
    }

    /// `[CONSTRAINT name] PRIMARY KEY (a, b) NOT ENFORCED`.
    fn table_key(&mut self) -> Result<PrimaryKeyDef, SqlError> {
        let name = match self.accept("CONSTRAINT") {
            true => Some(self.identifier()?),
            false => None,
        };
        if self.at_word("UNIQUE") {
            return Err(SqlError::unsupported("UNIQUE is not supported", self.position()));
        }
        let position = self.expect("PRIMARY")?.position;
        self.expect("KEY")?;
        let columns = self.identifiers_in_parentheses()?;
        self.not_enforced(position)?;
        Ok(PrimaryKeyDef {
            name,
            columns,
            position,
        })
    }

    fn not_enforced(&mut self, position: Position) -> Result<(), SqlError> {
        if self.accept_all(&["NOT", "ENFORCED"]) {
            return Ok(());
        }
        Err(SqlError::unsupported(
            "A PRIMARY KEY can't be enforced, as rows are not kept here: add NOT ENFORCED",
            position,
        ))
    }

    /// A column, and the key that it may be.
    fn column(&mut self) -> Result<(ColumnDef, Option<PrimaryKeyDef>), SqlError> {
        let name = self.identifier()?;
        if self.accept("AS") {
            let kind = ColumnDefKind::Computed(Box::new(self.source_expression()?));
            let comment = self.comment()?;
            return Ok((ColumnDef { name, kind, comment }, None));
        }
        let data_type = self.data_type()?;
        if self.accept("METADATA") {
            let key = match self.accept("FROM") {
                true => Some(self.string()?),
                false => None,
            };
            let kind = ColumnDefKind::Metadata {
                data_type,
                key,
                is_virtual: self.accept("VIRTUAL"),
            };
            let comment = self.comment()?;
            return Ok((ColumnDef { name, kind, comment }, None));
        }
        let key = self.column_key(&name)?;
        let comment = self.comment()?;
        if self.at_word("DEFAULT") {
            return Err(SqlError::unsupported(
                "DEFAULT of a column is not supported",
                self.position(),
            ));
        }
        let kind = ColumnDefKind::Physical(data_type);
        Ok((ColumnDef { name, kind, comment }, key))
    }

    fn column_key(&mut self, column: &sqlparser::ast::Ident) -> Result<Option<PrimaryKeyDef>, SqlError> {
        let name = match self.accept("CONSTRAINT") {
            true => Some(self.identifier()?),
            false => None,
        };
        if self.at_word("UNIQUE") {
            return Err(SqlError::unsupported("UNIQUE is not supported", self.position()));
        }
        if name.is_none() && !self.at_word("PRIMARY") {
            return Ok(None);
        }
        let position = self.expect("PRIMARY")?.position;
        self.expect("KEY")?;
        self.not_enforced(position)?;
        Ok(Some(PrimaryKeyDef {
            name,
            columns: vec![column.clone()],
            position,
        }))
    }

    fn comment(&mut self) -> Result<Option<Text>, SqlError> {
        match self.accept("COMMENT") {
            true => self.string().map(Some),
            false => Ok(None),
        }
    }

    fn distribution(&mut self) -> Result<Option<DistributionDef>, SqlError> {
        let position = self.position();
        if !self.accept("DISTRIBUTED") {
            return Ok(None);
        }
        let (mut kind, mut columns) = (None, Vec::new());
        if self.accept("BY") {
            kind = self.accept_one(&["HASH", "RANGE"]).map(str::to_owned);
            columns = self.identifiers_in_parentheses()?;
        }
        let buckets = match columns.is_empty() || self.at_word("INTO") {
            true => {
                self.expect("INTO")?;
                let buckets = self.whole_number()?;
                self.expect("BUCKETS")?;
                Some(buckets)
            }
            false => None,
        };
        Ok(Some(DistributionDef {
            kind,
            columns,
            buckets,
            position,
        }))
    }

    fn like_clause(&mut self) -> Result<Option<LikeClause>, SqlError> {
        let position = self.position();
        if !self.accept("LIKE") {
            return Ok(None);
        }
        let table = self.object_name()?;
        let mut options: Vec<LikeOption> = Vec::new();
        if self.accept_symbol("(") {
            while !self.accept_symbol(")") {
                let option = self.like_option()?;
                if options.iter().any(|other| other.feature == option.feature) {
                    return Err(SqlError::semantic(
                        format!("{:?} is said twice in LIKE", option.feature),
                        option.position,
                    ));
                }
                options.push(option);
            }
        }
        Ok(Some(LikeClause {
            table,
            options,
            position,
        }))
    }

    fn like_option(&mut self) -> Result<LikeOption, SqlError> {
        let position = self.position();
        let strategy = match self.expect_one(&["INCLUDING", "EXCLUDING", "OVERWRITING"])? {
            "INCLUDING" => LikeStrategy::Including,
            "EXCLUDING" => LikeStrategy::Excluding,
            _ => LikeStrategy::Overwriting,
        };
        let words = [
            "ALL",
            "CONSTRAINTS",
            "DISTRIBUTION",
            "GENERATED",
            "METADATA",
            "OPTIONS",
            "PARTITIONS",
            "WATERMARKS",
        ];
        let word = self.expect_one(&words)?;
        let feature = match word {
            "ALL" => LikeFeature::All,
            "CONSTRAINTS" => LikeFeature::Constraints,
            "DISTRIBUTION" => LikeFeature::Distribution,
            "GENERATED" => LikeFeature::Generated,
            "METADATA" => LikeFeature::Metadata,
            "OPTIONS" => LikeFeature::Options,
            "PARTITIONS" => LikeFeature::Partitions,
            _ => LikeFeature::Watermarks,
        };
        let mergeable = matches!(
            feature,
            LikeFeature::Generated | LikeFeature::Metadata | LikeFeature::Options | LikeFeature::Watermarks
        );
        if strategy == LikeStrategy::Overwriting && !mergeable {
            return Err(SqlError::semantic(
                format!("Illegal merging strategy: OVERWRITING {word}; use INCLUDING or EXCLUDING"),
                position,
            ));
        }
        Ok(LikeOption {
            strategy,
            feature,
            position,
        })
    }

    fn create_view(&mut self, modifiers: &Modifiers) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = self.object_name()?;
        let columns = match self.at_symbol("(") {
            true => self.identifiers_in_parentheses()?,
            false => Vec::new(),
        };
        let comment = self.comment()?;
        self.expect("AS")?;
        let (query, text) = self.query_with_text()?;
        Ok(Statement::CreateView(Box::new(CreateView {
            temporary: modifiers.temporary,
            if_not_exists,
            or_replace: modifiers.or_replace,
            name,
            columns,
            comment,
            query,
            text,
            position: modifiers.position,
        })))
    }

    fn create_function(&mut self, modifiers: &Modifiers) -> Result<Statement, SqlError> {
        let if_not_exists = self.if_not_exists();
        let name = self.function_name()?;
        self.expect("AS")?;
        let class = self.string()?;
        let language = match self.accept("LANGUAGE") {
            true => Some(self.expect_one(&["JAVA", "SCALA", "SQL", "PYTHON"])?.to_owned()),
            false => None,
        };
        if self.at_word("USING") || self.at_word("WITH") {
            return Err(SqlError::unsupported(
                "USING and WITH of a function are not supported: functions are found by their name in the job's package",
                self.position(),
            ));
        }
        Ok(Statement::CreateFunction(CreateFunction {
            temporary: modifiers.temporary,
            system: modifiers.system,
            if_not_exists,
            name,
            class,
            language,
            position: modifiers.position,
        }))
    }

    /// A function's name may be a reserved word.
    fn function_name(&mut self) -> Result<ObjectName, SqlError> {
        let word = self.peek();
        let is_last = !self.peek_nth(1).is_symbol(".");
        if word.kind == TokenKind::Word && is_last {
            return Ok(ObjectName::from(vec![super::cursor::ident(self.next())]));
        }
        self.object_name()
    }

    /// Behind DROP.
    pub(crate) fn drop_object(&mut self) -> Result<Statement, SqlError> {
        let temporary = self.accept("TEMPORARY");
        let system = temporary && self.accept("SYSTEM");
        let kind = match system {
            true => self.expect_one(&["FUNCTION"])?,
            false => self.expect_one(&["TABLE", "VIEW", "FUNCTION"])?,
        };
        let kind = match kind {
            "TABLE" => ObjectKind::Table,
            "VIEW" => ObjectKind::View,
            _ => ObjectKind::Function,
        };
        let if_exists = self.accept_all(&["IF", "EXISTS"]);
        let name = match kind {
            ObjectKind::Function => self.function_name()?,
            _ => self.object_name()?,
        };
        Ok(Statement::Drop(Drop {
            kind,
            temporary,
            system,
            if_exists,
            name,
        }))
    }
}
