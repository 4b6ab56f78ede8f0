//! Calls, and all that looks like one: CASE, CAST, EXTRACT, TRIM, intervals, constructors.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    Array, CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField, DuplicateTreatment, Expr,
    ExtractSyntax, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, Interval, Map, MapEntry, NullTreatment, ObjectName,
    OrderByExpr, TimezoneInfo, TrimWhereField, TypedString, UnaryOperator, Value, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Span;

use super::cursor::{Parser, ident_of};
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

    fn no_such(&self, what: &str) -> SqlError {
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

    fn interval(&mut self) -> Result<Expr, SqlError> {
        self.expect("INTERVAL")?;
        let negative = self.accept_symbol("-");
        if !negative {
            self.accept_symbol("+");
        }
        if self.peek().kind != TokenKind::String {
            return Err(SqlError::unsupported(
                "INTERVAL of an expression is not supported: expected a string, as in INTERVAL '10' SECOND",
                self.position(),
            ));
        }
        let mut value = Expr::Value(self.string_value()?);
        if negative {
            value = Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: Box::new(value),
            };
        }
        let qualifier = self.interval_qualifier()?;
        Ok(Expr::Interval(Interval {
            value: Box::new(value),
            leading_field: Some(qualifier.leading),
            leading_precision: qualifier.leading_precision,
            last_field: qualifier.last,
            fractional_seconds_precision: qualifier.fraction,
        }))
    }

    /// `DAY(2) TO SECOND(3)`.
    pub(crate) fn interval_qualifier(&mut self) -> Result<Qualifier, SqlError> {
        let position = self.position();
        let (from, leading) = self.interval_unit(&INTERVAL_UNITS)?;
        let mut qualifier = Qualifier {
            leading,
            leading_precision: None,
            last: None,
            fraction: None,
        };
        if self.accept_symbol("(") {
            qualifier.leading_precision = Some(self.whole_number()?);
            if from == "SECOND" && self.accept_symbol(",") {
                qualifier.fraction = Some(self.whole_number()?);
            }
            self.expect_symbol(")")?;
        }
        if self.accept("TO") {
            let (to, last) = self.interval_unit(&INTERVAL_UNITS)?;
            let fits = matches!(
                (from, to),
                ("YEAR", "MONTH")
                    | ("DAY", "HOUR" | "MINUTE" | "SECOND")
                    | ("HOUR", "MINUTE" | "SECOND")
                    | ("MINUTE", "SECOND")
            );
            if !fits {
                return Err(SqlError::syntax(
                    format!("There is no INTERVAL {from} TO {to}"),
                    position,
                ));
            }
            qualifier.last = Some(last);
            if to == "SECOND" && self.accept_symbol("(") {
                qualifier.fraction = Some(self.whole_number()?);
                self.expect_symbol(")")?;
            }
        }
        Ok(qualifier)
    }

    fn interval_unit(
        &mut self,
        units: &[(&'static str, &'static str, DateTimeField)],
    ) -> Result<(&'static str, DateTimeField), SqlError> {
        for (unit, plural, field) in units {
            if self.accept(unit) || self.accept(plural) {
                return Ok((unit, field.clone()));
            }
        }
        Err(self.unexpected())
    }

    /// A unit of EXTRACT, FLOOR, CEIL.
    fn time_unit(&mut self) -> Result<DateTimeField, SqlError> {
        let units = TIME_UNITS.iter().find(|(unit, _)| self.at_word(unit));
        let Some((_, field)) = units else {
            return Err(self.unexpected());
        };
        self.next();
        Ok(field.clone())
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

    /// A call of `name`; the parenthesis comes next.
    pub(crate) fn function(&mut self, name: ObjectName) -> Result<Expr, SqlError> {
        let args = self.in_parentheses(Self::arguments)?;
        let function = Function {
            name,
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(args),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        };
        self.behind_call(function)
    }

    fn arguments(&mut self) -> Result<FunctionArgumentList, SqlError> {
        let mut list = FunctionArgumentList {
            duplicate_treatment: None,
            args: Vec::new(),
            clauses: Vec::new(),
        };
        if self.at_symbol(")") {
            return Ok(list);
        }
        if self.accept_symbol("*") {
            list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
            return Ok(list);
        }
        list.duplicate_treatment = match self.accept_one(&["DISTINCT", "ALL"]) {
            Some("DISTINCT") => Some(DuplicateTreatment::Distinct),
            Some(_) => Some(DuplicateTreatment::All),
            None => None,
        };
        list.args = self.comma_separated(Self::argument)?;
        if let Some(treatment) = self.null_treatment()? {
            list.clauses
                .push(FunctionArgumentClause::IgnoreOrRespectNulls(treatment));
        }
        if self.at_word("ORDER") {
            list.clauses
                .push(FunctionArgumentClause::OrderBy(self.order_by()?));
        }
        Ok(list)
    }

    /// Arguments of a table function, in parentheses.
    pub(crate) fn table_function_arguments(&mut self) -> Result<Vec<FunctionArg>, SqlError> {
        self.in_parentheses(|parser| match parser.at_symbol(")") {
            true => Ok(Vec::new()),
            false => parser.comma_separated(Self::argument),
        })
    }

    fn argument(&mut self) -> Result<FunctionArg, SqlError> {
        if !self.peek_nth(1).is_symbol("=>") {
            return Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(
                self.argument_value()?,
            )));
        }
        // A parameter's name is no identifier of the script: TIMECOL, SIZE, and reserved words, too.
        let token = self.peek();
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            return Err(self.unexpected());
        }
        let name = super::cursor::ident(self.next());
        self.expect_symbol("=>")?;
        Ok(FunctionArg::Named {
            name,
            arg: FunctionArgExpr::Expr(self.argument_value()?),
            operator: FunctionArgOperator::RightArrow,
        })
    }

    fn argument_value(&mut self) -> Result<Expr, SqlError> {
        if self.at_word("DEFAULT") {
            return Err(self.no_such("DEFAULT as an argument"));
        }
        if self.at_words(&["TABLE"]) {
            return self.table_argument();
        }
        if self.at_query() {
            return Ok(Expr::Subquery(self.query()?));
        }
        self.expression()
    }

    /// `TABLE t [PARTITION BY ..] [ORDER BY ..]`.
    fn table_argument(&mut self) -> Result<Expr, SqlError> {
        let table = self.expect("TABLE")?;
        let operand = match self.at_query_in_parentheses() {
            true => Expr::Subquery(self.in_parentheses(Self::query)?),
            false => super::expression::name(self.compound_identifier()?),
        };
        let partition_by = match self.accept_all(&["PARTITION", "BY"]) {
            false => Vec::new(),
            true if self.at_symbol("(") => {
                self.in_parentheses(|parser| parser.comma_separated(Self::expression))?
            }
            true => vec![self.expression()?],
        };
        let order_by = match self.at_word("ORDER") {
            true => self.order_by()?,
            false => Vec::new(),
        };
        let mut function = plain("TABLE", table.span(), vec![operand]);
        if !partition_by.is_empty() || !order_by.is_empty() {
            function.over = Some(WindowType::WindowSpec(WindowSpec {
                window_name: None,
                partition_by,
                order_by,
                window_frame: None,
            }));
        }
        Ok(Expr::Function(function))
    }

    /// WITHIN GROUP, FILTER, OVER.
    pub(crate) fn behind_call(&mut self, mut function: Function) -> Result<Expr, SqlError> {
        if self.accept_all(&["WITHIN", "GROUP"]) {
            function.within_group = self.in_parentheses(Self::order_by)?;
        }
        if self.at_word("FILTER") && self.peek_nth(1).is_symbol("(") {
            self.next();
            function.filter = Some(self.in_parentheses(|parser| {
                parser.expect("WHERE")?;
                parser.expression().map(Box::new)
            })?);
        }
        function.null_treatment = self.null_treatment()?;
        if self.accept("OVER") {
            function.over = Some(match self.at_symbol("(") {
                true => WindowType::WindowSpec(self.window_spec()?),
                false => WindowType::NamedWindow(self.identifier()?),
            });
        }
        Ok(Expr::Function(function))
    }

    fn null_treatment(&mut self) -> Result<Option<NullTreatment>, SqlError> {
        Ok(if self.accept_all(&["IGNORE", "NULLS"]) {
            Some(NullTreatment::IgnoreNulls)
        } else if self.accept_all(&["RESPECT", "NULLS"]) {
            Some(NullTreatment::RespectNulls)
        } else {
            None
        })
    }

    /// `(w PARTITION BY .. ORDER BY .. ROWS ..)`.
    pub(crate) fn window_spec(&mut self) -> Result<WindowSpec, SqlError> {
        self.in_parentheses(|parser| {
            let window_name = match parser.at_word("PARTITION") {
                true => None,
                false => parser.accept_identifier(),
            };
            let partition_by = match parser.accept_all(&["PARTITION", "BY"]) {
                true => parser.comma_separated(Self::expression)?,
                false => Vec::new(),
            };
            let order_by = match parser.at_word("ORDER") {
                true => parser.order_by()?,
                false => Vec::new(),
            };
            Ok(WindowSpec {
                window_name,
                partition_by,
                order_by,
                window_frame: parser.window_frame()?,
            })
        })
    }

    fn window_frame(&mut self) -> Result<Option<WindowFrame>, SqlError> {
        let units = match self.accept_one(&["ROWS", "RANGE"]) {
            Some("ROWS") => WindowFrameUnits::Rows,
            Some(_) => WindowFrameUnits::Range,
            None => return Ok(None),
        };
        let (start_bound, end_bound) = match self.accept("BETWEEN") {
            true => {
                let start = self.frame_bound()?;
                self.expect("AND")?;
                (start, Some(self.frame_bound()?))
            }
            false => (self.frame_bound()?, None),
        };
        Ok(Some(WindowFrame {
            units,
            start_bound,
            end_bound,
        }))
    }

    fn frame_bound(&mut self) -> Result<WindowFrameBound, SqlError> {
        if self.accept_all(&["CURRENT", "ROW"]) {
            return Ok(WindowFrameBound::CurrentRow);
        }
        let distance = match self.accept("UNBOUNDED") {
            true => None,
            false => Some(Box::new(self.operand()?)),
        };
        Ok(match self.expect_one(&["PRECEDING", "FOLLOWING"])? {
            "PRECEDING" => WindowFrameBound::Preceding(distance),
            _ => WindowFrameBound::Following(distance),
        })
    }

    /// `ORDER BY a, b DESC NULLS LAST`.
    pub(crate) fn order_by(&mut self) -> Result<Vec<OrderByExpr>, SqlError> {
        self.expect_all(&["ORDER", "BY"])?;
        self.comma_separated(Self::order_by_item)
    }
}

/// Units of an interval.
pub(crate) struct Qualifier {
    /// The first unit.
    pub(crate) leading: DateTimeField,
    leading_precision: Option<u64>,
    last: Option<DateTimeField>,
    fraction: Option<u64>,
}

impl Qualifier {
    /// Whether it is of months, not of milliseconds.
    pub(crate) fn is_year_month(&self) -> bool {
        matches!(
            self.leading,
            DateTimeField::Year | DateTimeField::Quarter | DateTimeField::Month
        )
    }
}

/// A call of a function that isn't an identifier of the script.
pub(crate) fn call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    Expr::Function(plain(name, span, args))
}

/// The same as a [`Function`].
pub(crate) fn plain(name: &str, span: Span, args: Vec<Expr>) -> Function {
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Function {
        name: ObjectName::from(vec![Ident {
            value: name.to_owned(),
            quote_style: None,
            span,
        }]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// A string that stands for a keyword.
pub(crate) fn text_literal(text: &str, span: Span) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_span(span))
}

/// A place in sqlparser's tree.
pub(crate) fn attached(span: Span) -> AttachedToken {
    use sqlparser::tokenizer::{Token, TokenWithSpan};
    AttachedToken(TokenWithSpan::new(Token::EOF, span))
}

fn trimmed(trim_where: Option<TrimWhereField>, trim_what: Option<Expr>, expr: Expr) -> Expr {
    Expr::Trim {
        trim_where,
        trim_what: trim_what.map(Box::new),
        expr: Box::new(expr),
        trim_characters: None,
    }
}

const INTERVAL_UNITS: [(&str, &str, DateTimeField); 8] = [
    ("YEAR", "YEARS", DateTimeField::Year),
    ("QUARTER", "QUARTERS", DateTimeField::Quarter),
    ("MONTH", "MONTHS", DateTimeField::Month),
    ("WEEK", "WEEKS", DateTimeField::Week(None)),
    ("DAY", "DAYS", DateTimeField::Day),
    ("HOUR", "HOURS", DateTimeField::Hour),
    ("MINUTE", "MINUTES", DateTimeField::Minute),
    ("SECOND", "SECONDS", DateTimeField::Second),
];

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

const TIME_UNITS: [(&str, DateTimeField); 19] = [
    ("YEAR", DateTimeField::Year),
    ("QUARTER", DateTimeField::Quarter),
    ("MONTH", DateTimeField::Month),
    ("WEEK", DateTimeField::Week(None)),
    ("DAY", DateTimeField::Day),
    ("HOUR", DateTimeField::Hour),
    ("MINUTE", DateTimeField::Minute),
    ("SECOND", DateTimeField::Second),
    ("MILLISECOND", DateTimeField::Millisecond),
    ("MICROSECOND", DateTimeField::Microsecond),
    ("NANOSECOND", DateTimeField::Nanosecond),
    ("DOW", DateTimeField::Dow),
    ("DOY", DateTimeField::Doy),
    ("EPOCH", DateTimeField::Epoch),
    ("ISODOW", DateTimeField::Isodow),
    ("ISOYEAR", DateTimeField::Isoyear),
    ("CENTURY", DateTimeField::Century),
    ("DECADE", DateTimeField::Decade),
    ("MILLENNIUM", DateTimeField::Millennium),
];
