//! Flink's types, as they are written in CREATE TABLE and CAST.

use sqlparser::ast::{self as tree, Ident, ObjectName, ObjectNamePart};
use sqlparser::tokenizer::Span;
use thalweg_plan::data_type::{MAX_LENGTH, TimeKind};
use thalweg_plan::{DataType, Field, TypeRoot};

use super::cursor::Parser;
use super::token::{TokenKind, tokenize};
use crate::ast::TypeDef;
use crate::error::{Position, SqlError};

/// The type in a CAST or RETURNING.
///
/// sqlparser's types can't hold Flink's, so the parser puts their text there.
pub fn data_type_of(written: &tree::DataType) -> Result<DataType, SqlError> {
    let wrong = || {
        SqlError::new(
            crate::SqlErrorKind::Bug,
            format!("{written} is no type of the parser"),
            None,
        )
    };
    let tree::DataType::Custom(ObjectName(parts), _) = written else {
        return Err(wrong());
    };
    let [ObjectNamePart::Identifier(name)] = parts.as_slice() else {
        return Err(wrong());
    };
    let position = Position::of_span(name.span).unwrap_or(Position::START);
    parse_data_type(&name.value, position)
}

/// A type's text, whose first character is at `position`.
pub fn parse_data_type(text: &str, position: Position) -> Result<DataType, SqlError> {
    let tokens = tokenize(text, position)?;
    let Some((end, tokens)) = tokens.split_last() else {
        return Err(SqlError::syntax("A type is missing", position));
    };
    let mut parser = Parser::new(text, tokens, end);
    let parsed = parser.data_type()?;
    parser.expect_end()?;
    Ok(parsed.data_type)
}

/// A type in sqlparser's tree; [`data_type_of`] gets it back.
pub(crate) fn type_tree(type_def: &TypeDef, span: Span) -> tree::DataType {
    let name = Ident {
        value: quoted_names(&type_def.data_type),
        quote_style: None,
        span,
    };
    tree::DataType::Custom(ObjectName::from(vec![name]), Vec::new())
}

/// As `Display`, with backticks in names doubled.
fn quoted_names(data_type: &DataType) -> String {
    let root = match &data_type.root {
        TypeRoot::Array(element) => format!("ARRAY<{}>", quoted_names(element)),
        TypeRoot::Multiset(element) => format!("MULTISET<{}>", quoted_names(element)),
        TypeRoot::Map(key, value) => format!("MAP<{}, {}>", quoted_names(key), quoted_names(value)),
        TypeRoot::Row(fields) => {
            let field = |field: &Field| {
                format!(
                    "`{}` {}",
                    field.name.replace('`', "``"),
                    quoted_names(&field.data_type)
                )
            };
            format!("ROW<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        root => root.to_string(),
    };
    match data_type.nullable {
        true => root,
        false => format!("{root} NOT NULL"),
    }
}

impl Parser<'_> {
    /// A type with its nullability.
    pub(crate) fn data_type(&mut self) -> Result<TypeDef, SqlError> {
        let position = self.position();
        let data_type = self.nested(Self::type_with_nullability)?;
        Ok(TypeDef { data_type, position })
    }

    fn type_with_nullability(&mut self) -> Result<DataType, SqlError> {
        let mut data_type = DataType::nullable(self.type_root()?);
        loop {
            data_type = data_type.with_nullable(self.nullability()?);
            let collection = match self.accept_one(&["ARRAY", "MULTISET"]) {
                Some("ARRAY") => TypeRoot::Array(Box::new(data_type)),
                Some(_) => TypeRoot::Multiset(Box::new(data_type)),
                None => return Ok(data_type),
            };
            self.grow()?;
            data_type = DataType::nullable(collection);
        }
    }

    fn nullability(&mut self) -> Result<bool, SqlError> {
        if self.accept_all(&["NOT", "NULL"]) {
            return Ok(false);
        }
        self.accept("NULL");
        Ok(true)
    }

    fn type_root(&mut self) -> Result<TypeRoot, SqlError> {
        let token = self.peek();
        if token.kind != TokenKind::Word {
            self.wanted("a type");
            return Err(self.unexpected());
        }
        let name = token.value.to_ascii_uppercase();
        if self.refused_type(&name) {
            return Err(SqlError::unsupported(
                format!("Type {name} is not supported"),
                token.position,
            ));
        }
        if !TYPE_NAMES.contains(&name.as_str()) {
            return Err(SqlError::unknown(
                "type",
                &token.value,
                TYPE_NAMES,
                token.position,
            ));
        }
        self.next();
        Ok(match name.as_str() {
            "BOOLEAN" => TypeRoot::Boolean,
            "TINYINT" => TypeRoot::TinyInt,
            "SMALLINT" => TypeRoot::SmallInt,
            "INT" | "INTEGER" => TypeRoot::Int,
            "BIGINT" => TypeRoot::BigInt,
            "FLOAT" => TypeRoot::Float,
            "DOUBLE" => {
                self.accept("PRECISION");
                TypeRoot::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal(token.position)?,
            "STRING" => TypeRoot::VarChar(MAX_LENGTH),
            "CHAR" | "CHARACTER" if !self.accept("VARYING") => TypeRoot::Char(self.length(1)?),
            "CHAR" | "CHARACTER" | "VARCHAR" => TypeRoot::VarChar(self.length(MAX_LENGTH)?),
            "BYTES" => TypeRoot::VarBinary(MAX_LENGTH),
            "BINARY" if !self.accept("VARYING") => TypeRoot::Binary(self.length(1)?),
            "BINARY" | "VARBINARY" => TypeRoot::VarBinary(self.length(MAX_LENGTH)?),
            "DATE" => TypeRoot::Date,
            "TIME" => self.time()?,
            "TIMESTAMP" => self.timestamp()?,
            "TIMESTAMP_LTZ" => TypeRoot::TimestampLtz(self.precision(6)?, TimeKind::Regular),
            "INTERVAL" => match self.interval_qualifier()?.is_year_month() {
                true => TypeRoot::IntervalYearMonth,
                false => TypeRoot::IntervalDaySecond,
            },
            "ARRAY" => TypeRoot::Array(Box::new(self.element()?)),
            "MULTISET" => TypeRoot::Multiset(Box::new(self.element()?)),
            "MAP" => self.map()?,
            _ => self.row()?,
        })
    }

    fn refused_type(&self, name: &str) -> bool {
        REFUSED_TYPES.contains(&name)
    }

    fn bounded<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        what: &str,
        least: T,
        most: T,
    ) -> Result<T, SqlError> {
        let position = self.position();
        let number: T = self.whole_number()?;
        match number < least || number > most {
            true => Err(SqlError::of_type(
                format!("{what} must be between {least} and {most}, but is {number}"),
                position,
            )),
            false => Ok(number),
        }
    }

    fn decimal(&mut self, position: Position) -> Result<TypeRoot, SqlError> {
        let (mut precision, mut scale) = (10, 0);
        if self.accept_symbol("(") {
            precision = self.bounded("The precision of a DECIMAL", 1, 38)?;
            if self.accept_symbol(",") {
                scale = self.bounded("The scale of a DECIMAL", 0, 38)?;
            }
            self.expect_symbol(")")?;
        }
        match scale > precision {
            true => Err(SqlError::of_type(
                format!("The scale of a DECIMAL must be at most its precision {precision}, but is {scale}"),
                position,
            )),
            false => Ok(TypeRoot::Decimal { precision, scale }),
        }
    }

    fn length(&mut self, default: u32) -> Result<u32, SqlError> {
        if !self.accept_symbol("(") {
            return Ok(default);
        }
        let length = self.bounded("The length", 1, MAX_LENGTH)?;
        self.expect_symbol(")")?;
        Ok(length)
    }

    fn precision(&mut self, default: u8) -> Result<u8, SqlError> {
        if !self.accept_symbol("(") {
            return Ok(default);
        }
        let precision = self.bounded("The precision of a time", 0, 9)?;
        self.expect_symbol(")")?;
        Ok(precision)
    }

    fn time(&mut self) -> Result<TypeRoot, SqlError> {
        let precision = self.precision(0)?;
        if self.accept("WITHOUT") {
            self.expect_all(&["TIME", "ZONE"])?;
        }
        Ok(TypeRoot::Time(precision))
    }

    fn timestamp(&mut self) -> Result<TypeRoot, SqlError> {
        let precision = self.precision(6)?;
        if self.accept("WITHOUT") {
            self.expect_all(&["TIME", "ZONE"])?;
        } else if self.at_words(&["WITH", "TIME", "ZONE"]) {
            return Err(SqlError::unsupported(
                "Type TIMESTAMP WITH TIME ZONE is not supported: use TIMESTAMP WITH LOCAL TIME ZONE",
                self.position(),
            ));
        } else if self.accept_all(&["WITH", "LOCAL", "TIME", "ZONE"]) {
            return Ok(TypeRoot::TimestampLtz(precision, TimeKind::Regular));
        }
        Ok(TypeRoot::Timestamp(precision, TimeKind::Regular))
    }

    fn element(&mut self) -> Result<DataType, SqlError> {
        self.expect_symbol("<")?;
        let element = self.data_type()?.data_type;
        self.expect_symbol(">")?;
        Ok(element)
    }

    fn map(&mut self) -> Result<TypeRoot, SqlError> {
        self.expect_symbol("<")?;
        let key = self.data_type()?.data_type;
        self.expect_symbol(",")?;
        let value = self.data_type()?.data_type;
        self.expect_symbol(">")?;
        Ok(TypeRoot::Map(Box::new(key), Box::new(value)))
    }

    /// `ROW<a INT, b STRING 'comment'>`, `ROW(a INT)`.
    fn row(&mut self) -> Result<TypeRoot, SqlError> {
        let closing = match self.accept_symbol("<") {
            true => ">",
            false => {
                self.expect_symbol("(")?;
                ")"
            }
        };
        let fields = self.comma_separated(Self::field)?;
        self.expect_symbol(closing)?;
        Ok(TypeRoot::Row(fields))
    }

    fn field(&mut self) -> Result<Field, SqlError> {
        let name = self.identifier()?;
        let data_type = self.data_type()?.data_type;
        // A comment has no effect on anything.
        self.accept_string();
        Ok(Field::new(name.value, data_type))
    }
}

const TYPE_NAMES: [&str; 27] = [
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "DEC",
    "NUMERIC",
    "STRING",
    "CHAR",
    "CHARACTER",
    "VARCHAR",
    "BYTES",
    "BINARY",
    "VARBINARY",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "INTERVAL",
    "ARRAY",
    "MULTISET",
    "MAP",
    "ROW",
];

const REFUSED_TYPES: [&str; 5] = ["RAW", "VARIANT", "BITMAP", "STRUCTURED", "DESCRIPTOR"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        parse_data_type(text, Position::START)
            .map_or_else(|error| error.to_string(), |parsed| parsed.to_string())
    }

    #[test]
    fn types_have_flinks_defaults() {
        let cases = [
            ("varchar", "STRING"),
            ("CHAR", "CHAR(1)"),
            ("VARBINARY", "BYTES"),
            ("BINARY(3) NOT NULL", "BINARY(3) NOT NULL"),
            ("dec(5)", "DECIMAL(5, 0)"),
            ("NUMERIC", "DECIMAL(10, 0)"),
            ("TIME", "TIME(0)"),
            ("TIMESTAMP", "TIMESTAMP(6)"),
            ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
            ("DOUBLE PRECISION NULL", "DOUBLE"),
            ("INTERVAL DAY(3) TO SECOND(6)", "INTERVAL SECOND(3)"),
            ("INTERVAL YEAR", "INTERVAL MONTH"),
            ("INT NOT NULL ARRAY", "ARRAY<INT NOT NULL>"),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn types_are_nested() {
        let text = "ROW<`a b` INT NOT NULL 'first', m MAP<STRING, ARRAY<ROW(x TINYINT)>>, s MULTISET<DATE>>";
        let expected =
            "ROW<`a b` INT NOT NULL, `m` MAP<STRING, ARRAY<ROW<`x` TINYINT>>>, `s` MULTISET<DATE>>";
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn types_survive_sqlparsers_tree() {
        for text in [
            "ROW<`a``b` INT NOT NULL>",
            "MAP<CHAR(3), TIMESTAMP_LTZ(9) NOT NULL>",
        ] {
            let data_type = parse_data_type(text, Position::START).unwrap();
            let type_def = TypeDef {
                data_type: data_type.clone(),
                position: Position::START,
            };
            assert_eq!(data_type_of(&type_tree(&type_def, Span::empty())), Ok(data_type));
        }
    }

    #[test]
    fn what_is_no_type_is_refused_where_it_stands() {
        let cases = [
            (
                "VARCHARR",
                "Invalid statement at line 1, column 1: Unknown type 'VARCHARR'; did you mean 'VARCHAR'?",
            ),
            (
                "ROW<a VARIANT>",
                "Not supported at line 1, column 7: Type VARIANT is not supported",
            ),
            (
                "DECIMAL(39)",
                "Type mismatch at line 1, column 9: The precision of a DECIMAL must be between 1 and 38, but is 39",
            ),
            (
                "DECIMAL(3, 4)",
                "Type mismatch at line 1, column 1: The scale of a DECIMAL must be at most its precision 3, but is 4",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), expected);
        }
    }
}
