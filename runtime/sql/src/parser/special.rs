//! What looks like a call and has a grammar of its own: CASE, CAST, EXTRACT, TRIM, constructors.

use sqlparser::ast::{
    Array, CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField, Expr, ExtractSyntax,
    FunctionArguments, Map, MapEntry, TimezoneInfo, TrimWhereField, TypedString,
};

use super::cursor::{Parser, ident_of};
use super::function::{attached, call, plain};
use super::token::TokenKind;
use super::types::type_tree;
use crate::error::SqlError;

impl Parser<'_> {
    /// Whatever has a grammar of its own and begins with this word; `None`: nothing has.
    pub(crate) fn special_form(&mut self, word: &str) -> Result<Option<Expr>, SqlError> {
        let behind = self.peek_nth(1);
        let called = behind.is_symbol("(");
        let form: fn(&mut Self) -> Result<Expr, SqlError> = match word {
            "CASE" => Self::case,
            "INTERVAL" => Self::interval,
            "DATE" | "TIME" | "TIMESTAMP" if behind.kind == TokenKind::String => Self::typed_string,
            "ARRAY" | "MAP" if behind.is_symbol("[") => Self::constructor,
            "MULTISET" if behind.is_symbol("[") || called => {
                return Err(self.no_such("MULTISET constructors"));
            }
            "EXISTS" if called => Self::exists,
            "UNIQUE" if called => return Err(self.no_such("UNIQUE")),
            "CAST" | "TRY_CAST" if called => Self::cast,
            "EXTRACT" if called => Self::extract,
            "POSITION" if called => Self::position_of,
            "SUBSTRING" if called => Self::substring,
            "OVERLAY" if called => Self::overlay,
            "TRIM" if called => Self::trim,
            "CEIL" | "CEILING" | "FLOOR" if called => Self::rounded,
            "TIMESTAMPADD" | "TIMESTAMPDIFF" if called => Self::timestamp_arithmetic,
            "CONVERT" | "TRANSLATE" if called => return self.charset_form(),
            "JSON_VALUE" if called => Self::json_value,
            "JSON_QUERY" if called => Self::json_query,
            "JSON_EXISTS" if called => Self::json_exists,
            "JSON_OBJECT" | "JSON_OBJECTAGG" if called => Self::json_object,
            "JSON_ARRAY" | "JSON_ARRAYAGG" if called => Self::json_array,
            "CURRENT_DATE" | "CURRENT_TIME" | "CURRENT_TIMESTAMP" | "LOCALTIME" | "LOCALTIMESTAMP"
                if !called =>
            {
                Self::without_parentheses
            }
            _ => return Ok(None),
        };
        form(self).map(Some)
    }

    pub(super) fn no_such(&self, what: &str) -> SqlError {
        SqlError::unsupported(format!("{what} is not supported"), self.position())
    }

    fn charset_form(&mut self) -> Result<Option<Expr>, SqlError> {
        let is_charset = (2..6).any(|n| self.peek_nth(n).is_word("USING"));
        match is_charset {
            true => Err(self.no_such("Conversion between character sets (USING)")),
            false => Ok(None),
        }
    }

    fn without_parentheses(&mut self) -> Result<Expr, SqlError> {
        let token = self.next();
        let mut function = plain(&token.value, token.span(), Vec::new());
        function.args = FunctionArguments::None;
        Ok(Expr::Function(function))
    }

    fn case(&mut self) -> Result<Expr, SqlError> {
        let case_token = attached(self.next().span());
        let operand = match self.at_word("WHEN") {
            true => None,
            false => Some(Box::new(self.expression()?)),
        };
        let mut conditions = Vec::new();
        self.at_word("WHEN");
        while self.accept("WHEN") {
            let condition = self.expression()?;
            if operand.is_some() && self.at_symbol(",") {
                return Err(self.no_such("CASE with several values in a WHEN"));
            }
            self.expect("THEN")?;
            let result = self.expression()?;
            conditions.push(CaseWhen { condition, result });
        }
        if conditions.is_empty() {
            return Err(self.unexpected());
        }
        let else_result = match self.accept("ELSE") {
            true => Some(Box::new(self.expression()?)),
            false => None,
        };
        let end_token = attached(self.expect("END")?.span());
        Ok(Expr::Case {
            case_token,
            end_token,
            operand,
            conditions,
            else_result,
        })
    }

    fn typed_string(&mut self) -> Result<Expr, SqlError> {
        let data_type = match self.expect_one(&["DATE", "TIME", "TIMESTAMP"])? {
            "DATE" => DataType::Date,
            "TIME" => DataType::Time(None, TimezoneInfo::None),
            _ => DataType::Timestamp(None, TimezoneInfo::None),
        };
        Ok(Expr::TypedString(TypedString {
            data_type,
            value: self.string_value()?,
            uses_odbc_syntax: false,
        }))
    }

    fn constructor(&mut self) -> Result<Expr, SqlError> {
        let word = self.next();
        self.expect_symbol("[")?;
        let items = match self.at_symbol("]") {
            true => Vec::new(),
            false => self.comma_separated(Self::expression)?,
        };
        self.expect_symbol("]")?;
        if word.is_word("ARRAY") {
            return Ok(Expr::Array(Array {
                elem: items,
                named: true,
            }));
        }
        if items.len() % 2 != 0 {
            return Err(SqlError::syntax(
                "MAP needs a value for every key: an even number of items",
                word.position,
            ));
        }
        let mut items = items.into_iter();
        let mut entries = Vec::new();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push(MapEntry {
                key: Box::new(key),
                value: Box::new(value),
            });
        }
        Ok(Expr::Map(Map { entries }))
    }

    fn exists(&mut self) -> Result<Expr, SqlError> {
        self.expect("EXISTS")?;
        let subquery = self.in_parentheses(Self::query)?;
        Ok(Expr::Exists {
            subquery,
            negated: false,
        })
    }

    fn cast(&mut self) -> Result<Expr, SqlError> {
        let kind = match self.expect_one(&["CAST", "TRY_CAST"])? {
            "CAST" => CastKind::Cast,
            _ => CastKind::TryCast,
        };
        self.in_parentheses(|parser| {
            let expr = Box::new(parser.expression()?);
            parser.expect("AS")?;
            let span = parser.peek().span();
            let type_def = parser.data_type()?;
            if parser.at_word("FORMAT") {
                return Err(parser.no_such("CAST with FORMAT"));
            }
            Ok(Expr::Cast {
                kind,
                expr,
                data_type: type_tree(&type_def, span),
                array: false,
                format: None,
            })
        })
    }

    fn extract(&mut self) -> Result<Expr, SqlError> {
        self.next();
        self.in_parentheses(|parser| {
            let field = parser.time_unit()?;
            parser.expect("FROM")?;
            Ok(Expr::Extract {
                field,
                syntax: ExtractSyntax::From,
                expr: Box::new(parser.expression()?),
            })
        })
    }

    fn position_of(&mut self) -> Result<Expr, SqlError> {
        self.next();
        self.in_parentheses(|parser| {
            // IN would be taken for the operator.
            let expr = Box::new(parser.operand()?);
            parser.expect("IN")?;
            let r#in = Box::new(parser.expression()?);
            if parser.at_word("FROM") {
                return Err(parser.no_such("POSITION with FROM"));
            }
            Ok(Expr::Position { expr, r#in })
        })
    }

    fn substring(&mut self) -> Result<Expr, SqlError> {
        self.next();
        self.in_parentheses(|parser| {
            let expr = Box::new(parser.expression()?);
            let special = !parser.at_word("FROM");
            let (from, length) = match special {
                true => (",", parser.accept_symbol(",")),
                false => ("FROM", parser.accept("FROM")),
            };
            if !length {
                return Err(parser.unexpected());
            }
            let substring_from = Some(Box::new(parser.expression()?));
            let has_length = match from {
                "FROM" => parser.accept("FOR"),
                _ => parser.accept_symbol(","),
            };
            let substring_for = match has_length {
                true => Some(Box::new(parser.expression()?)),
                false => None,
            };
            Ok(Expr::Substring {
                expr,
                substring_from,
                substring_for,
                special,
                shorthand: false,
            })
        })
    }

    fn overlay(&mut self) -> Result<Expr, SqlError> {
        self.next();
        self.in_parentheses(|parser| {
            let expr = Box::new(parser.expression()?);
            parser.expect("PLACING")?;
            let overlay_what = Box::new(parser.expression()?);
            parser.expect("FROM")?;
            let overlay_from = Box::new(parser.expression()?);
            let overlay_for = match parser.accept("FOR") {
                true => Some(Box::new(parser.expression()?)),
                false => None,
            };
            Ok(Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            })
        })
    }

    fn trim(&mut self) -> Result<Expr, SqlError> {
        self.next();
        self.in_parentheses(|parser| {
            let trim_where = parser
                .accept_one(&["BOTH", "LEADING", "TRAILING"])
                .map(|side| match side {
                    "LEADING" => TrimWhereField::Leading,
                    "TRAILING" => TrimWhereField::Trailing,
                    _ => TrimWhereField::Both,
                });
            let mut trim_what = None;
            if !(trim_where.is_some() && parser.at_word("FROM")) {
                let first = parser.expression()?;
                if trim_where.is_none() && !parser.at_word("FROM") {
                    return Ok(trimmed(None, None, first));
                }
                trim_what = Some(first);
            }
            parser.expect("FROM")?;
            let expr = parser.expression()?;
            Ok(trimmed(trim_where, trim_what, expr))
        })
    }

    fn rounded(&mut self) -> Result<Expr, SqlError> {
        let up = !self.next().is_word("FLOOR");
        self.in_parentheses(|parser| {
            let expr = Box::new(parser.expression()?);
            let field = match parser.accept("TO") {
                true => parser.time_unit()?,
                false => DateTimeField::NoDateTime,
            };
            let field = CeilFloorKind::DateTimeField(field);
            Ok(match up {
                true => Expr::Ceil { expr, field },
                false => Expr::Floor { expr, field },
            })
        })
    }

    fn timestamp_arithmetic(&mut self) -> Result<Expr, SqlError> {
        let name = self.next();
        let args = self.in_parentheses(|parser| {
            let span = parser.peek().span();
            let unit = match parser.interval_unit(&ARITHMETIC_UNITS) {
                Ok((unit, _)) => unit,
                Err(error) => return Err(error),
            };
            let mut args = vec![Expr::Identifier(ident_of(unit, span))];
            for _ in 0..2 {
                parser.expect_symbol(",")?;
                args.push(parser.expression()?);
            }
            Ok(args)
        })?;
        Ok(call(&name.value.to_ascii_uppercase(), name.span(), args))
    }
}

fn trimmed(trim_where: Option<TrimWhereField>, trim_what: Option<Expr>, expr: Expr) -> Expr {
    Expr::Trim {
        trim_where,
        trim_what: trim_what.map(Box::new),
        expr: Box::new(expr),
        trim_characters: None,
    }
}

/// The second name is the one of ODBC.
const ARITHMETIC_UNITS: [(&str, &str, DateTimeField); 11] = [
    ("YEAR", "SQL_TSI_YEAR", DateTimeField::Year),
    ("QUARTER", "SQL_TSI_QUARTER", DateTimeField::Quarter),
    ("MONTH", "SQL_TSI_MONTH", DateTimeField::Month),
    ("WEEK", "SQL_TSI_WEEK", DateTimeField::Week(None)),
    ("DAY", "SQL_TSI_DAY", DateTimeField::Day),
    ("HOUR", "SQL_TSI_HOUR", DateTimeField::Hour),
    ("MINUTE", "SQL_TSI_MINUTE", DateTimeField::Minute),
    ("SECOND", "SQL_TSI_SECOND", DateTimeField::Second),
    ("MILLISECOND", "FRAC_SECOND", DateTimeField::Millisecond),
    ("MICROSECOND", "SQL_TSI_MICROSECOND", DateTimeField::Microsecond),
    ("NANOSECOND", "SQL_TSI_FRAC_SECOND", DateTimeField::Nanosecond),
];
