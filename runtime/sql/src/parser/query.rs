//! Queries: WITH, SELECT, set operations, VALUES, ORDER BY, LIMIT.

use sqlparser::ast::{
    Cte, Distinct, Expr, Fetch, GroupByExpr, LimitClause, NamedWindowDefinition, NamedWindowExpr, Offset,
    OffsetRows, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Parens, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, TableAlias,
    TableAliasColumnDef, TableWithJoins, Values, WildcardAdditionalOptions, With,
};
use sqlparser::tokenizer::Span;

use super::cursor::Parser;
use super::function::attached;
use super::table::named_table;
use crate::error::SqlError;

/// What can stand behind a query in parentheses that is a part of a query.
const BEHIND_QUERY: [&str; 8] = [
    "UNION",
    "EXCEPT",
    "MINUS",
    "INTERSECT",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
];

impl Parser<'_> {
    /// Whether a query begins here, in parentheses or not.
    pub(crate) fn at_query(&self) -> bool {
        self.at_query_from(self.index(), 0)
    }

    /// Whether a parenthesis comes next, and a query begins in it.
    pub(crate) fn at_query_in_parentheses(&self) -> bool {
        self.at_symbol("(") && self.at_query_from(self.index() + 1, 0)
    }

    fn at_query_from(&self, index: usize, depth: usize) -> bool {
        let token = self.token(index);
        if token.is_symbol("(") && depth < 100 {
            return self.at_query_from(index + 1, depth + 1) && {
                let behind = self.token(self.behind_parenthesis(index));
                behind.is_symbol(")") || BEHIND_QUERY.iter().any(|word| behind.is_word(word))
            };
        }
        let behind = self.token(index + 1);
        token.is_word("SELECT")
            || token.is_word("WITH")
            || token.is_word("VALUES")
            || token.is_word("TABLE") && !behind.is_symbol("(")
    }

    /// Behind the parenthesis that closes the one at `index`.
    fn behind_parenthesis(&self, index: usize) -> usize {
        let mut open = 0_usize;
        let mut at = index;
        loop {
            let token = self.token(at);
            if token.is_symbol("(") {
                open += 1;
            } else if token.is_symbol(")") {
                open = open.saturating_sub(1);
            }
            at += 1;
            if open == 0 || at >= self.count() {
                return at;
            }
        }
    }

    /// A whole query.
    pub(crate) fn query(&mut self) -> Result<Box<Query>, SqlError> {
        self.nested(Self::query_inner)
    }

    fn query_inner(&mut self) -> Result<Box<Query>, SqlError> {
        let with = self.with()?;
        let body = Box::new(self.unions()?);
        let order_by = match self.at_word("ORDER") {
            true => Some(OrderBy {
                kind: OrderByKind::Expressions(self.order_by()?),
                interpolate: None,
            }),
            false => None,
        };
        let limit_clause = self.limit()?;
        let fetch = self.fetch()?;
        Ok(Box::new(Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks: Vec::new(),
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: Vec::new(),
        }))
    }

    fn with(&mut self) -> Result<Option<With>, SqlError> {
        let with = self.peek();
        if !self.accept("WITH") {
            return Ok(None);
        }
        if self.at_word("RECURSIVE") {
            return Err(SqlError::unsupported(
                "WITH RECURSIVE is not supported",
                self.position(),
            ));
        }
        Ok(Some(With {
            with_token: attached(with.span()),
            recursive: false,
            cte_tables: self.comma_separated(Self::common_table)?,
        }))
    }

    fn common_table(&mut self) -> Result<Cte, SqlError> {
        let name = self.identifier()?;
        let columns = match self.at_symbol("(") {
            true => self.identifiers_in_parentheses()?,
            false => Vec::new(),
        };
        self.expect("AS")?;
        let query = self.in_parentheses(Self::query)?;
        let closing = self.token(self.index().saturating_sub(1));
        Ok(Cte {
            alias: alias(true, name, columns),
            query,
            from: None,
            materialized: None,
            closing_paren_token: attached(closing.span()),
        })
    }

    fn unions(&mut self) -> Result<SetExpr, SqlError> {
        let mut left = self.intersections()?;
        while let Some(word) = self.accept_one(&["UNION", "EXCEPT", "MINUS"]) {
            self.grow()?;
            let op = match word {
                "UNION" => SetOperator::Union,
                _ => SetOperator::Except,
            };
            let set_quantifier = self.set_quantifier();
            left = set_operation(left, op, set_quantifier, self.intersections()?);
        }
        Ok(left)
    }

    fn intersections(&mut self) -> Result<SetExpr, SqlError> {
        let mut left = self.query_term()?;
        while self.accept("INTERSECT") {
            self.grow()?;
            let set_quantifier = self.set_quantifier();
            left = set_operation(left, SetOperator::Intersect, set_quantifier, self.query_term()?);
        }
        Ok(left)
    }

    fn set_quantifier(&mut self) -> SetQuantifier {
        match self.accept_one(&["ALL", "DISTINCT"]) {
            Some("ALL") => SetQuantifier::All,
            Some(_) => SetQuantifier::Distinct,
            None => SetQuantifier::None,
        }
    }

    fn query_term(&mut self) -> Result<SetExpr, SqlError> {
        if self.at_word("SELECT") {
            return Ok(SetExpr::Select(Box::new(self.select()?)));
        }
        if self.at_word("VALUES") {
            return Ok(SetExpr::Values(self.values()?));
        }
        if self.at_word("TABLE") {
            return self.explicit_table();
        }
        if self.at_symbol("(") {
            return Ok(SetExpr::Query(self.in_parentheses(Self::query)?));
        }
        Err(self.unexpected())
    }

    /// `TABLE t` is `SELECT * FROM t`.
    fn explicit_table(&mut self) -> Result<SetExpr, SqlError> {
        let word = self.expect("TABLE")?;
        let mut select = empty_select(word.span());
        let options = WildcardAdditionalOptions {
            wildcard_token: attached(word.span()),
            ..WildcardAdditionalOptions::default()
        };
        select.projection = vec![SelectItem::Wildcard(options)];
        select.from = vec![TableWithJoins {
            relation: named_table(self.object_name()?),
            joins: Vec::new(),
        }];
        Ok(SetExpr::Select(Box::new(select)))
    }

    fn values(&mut self) -> Result<Values, SqlError> {
        self.expect("VALUES")?;
        let rows = self.comma_separated(|parser| {
            let explicit = parser.at_word("ROW") && parser.peek_nth(1).is_symbol("(");
            if explicit {
                parser.next();
            }
            let opening = parser.peek();
            let content = match explicit || parser.at_symbol("(") && !parser.at_query_in_parentheses() {
                true => parser.in_parentheses(|parser| parser.comma_separated(Self::expression))?,
                false => vec![parser.expression()?],
            };
            let closing = parser.token(parser.index().saturating_sub(1));
            Ok(Parens {
                opening_token: attached(opening.span()),
                content,
                closing_token: attached(closing.span()),
            })
        })?;
        Ok(Values {
            explicit_row: false,
            value_keyword: false,
            rows,
        })
    }

    fn select(&mut self) -> Result<Select, SqlError> {
        let select = self.expect("SELECT")?;
        let optimizer_hints = self.query_hints()?;
        if self.at_word("STREAM") {
            return Err(SqlError::unsupported(
                "SELECT STREAM is not supported: leave STREAM out",
                self.position(),
            ));
        }
        let distinct = match self.accept_one(&["DISTINCT", "ALL"]) {
            Some("DISTINCT") => Some(Distinct::Distinct),
            _ => None,
        };
        let projection = self.comma_separated(Self::select_item)?;
        let from = match self.accept("FROM") {
            true => self.comma_separated(Self::table_with_joins)?,
            false => Vec::new(),
        };
        let selection = self.condition_behind("WHERE")?;
        let group_by = match self.accept("GROUP") {
            true => {
                self.expect("BY")?;
                self.comma_separated(Self::group_by_item)?
            }
            false => Vec::new(),
        };
        let having = self.condition_behind("HAVING")?;
        let named_window = match self.accept("WINDOW") {
            true => self.comma_separated(Self::named_window)?,
            false => Vec::new(),
        };
        if self.at_word("QUALIFY") {
            return Err(SqlError::unsupported(
                "QUALIFY is not supported: use a subquery with WHERE",
                self.position(),
            ));
        }
        Ok(Select {
            optimizer_hints,
            distinct,
            projection,
            from,
            selection,
            group_by: GroupByExpr::Expressions(group_by, Vec::new()),
            having,
            named_window,
            ..empty_select(select.span())
        })
    }

    fn condition_behind(&mut self, keyword: &'static str) -> Result<Option<Expr>, SqlError> {
        match self.accept(keyword) {
            true => self.expression().map(Some),
            false => Ok(None),
        }
    }

    fn select_item(&mut self) -> Result<SelectItem, SqlError> {
        if let Some(wildcard) = self.wildcard()? {
            return Ok(wildcard);
        }
        let expr = self.expression()?;
        let alias = match self.accept("AS") {
            true => Some(self.identifier()?),
            false => self.accept_identifier(),
        };
        Ok(match alias {
            Some(alias) => SelectItem::ExprWithAlias { expr, alias },
            None => SelectItem::UnnamedExpr(expr),
        })
    }

    /// `*`, `t.*`.
    fn wildcard(&mut self) -> Result<Option<SelectItem>, SqlError> {
        let mut parts = 0;
        while self.peek_nth(parts * 2 + 1).is_symbol(".") && self.peek_nth(parts * 2).is_name() {
            parts += 1;
        }
        let star = self.peek_nth(parts * 2);
        if !star.is_symbol("*") {
            return Ok(None);
        }
        let options = WildcardAdditionalOptions {
            wildcard_token: attached(star.span()),
            ..WildcardAdditionalOptions::default()
        };
        let mut name = Vec::new();
        for _ in 0..parts {
            name.push(self.identifier()?);
            self.expect_symbol(".")?;
        }
        self.expect_symbol("*")?;
        Ok(Some(match name.is_empty() {
            true => SelectItem::Wildcard(options),
            false => SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name.into()),
                options,
            ),
        }))
    }

    fn group_by_item(&mut self) -> Result<Expr, SqlError> {
        if self.at_symbol("(") && self.peek_nth(1).is_symbol(")") {
            self.next();
            self.next();
            return Ok(Expr::Tuple(Vec::new()));
        }
        if self.accept_all(&["GROUPING", "SETS"]) {
            return Ok(Expr::GroupingSets(self.grouping_sets()?));
        }
        if self.accept("ROLLUP") {
            return Ok(Expr::Rollup(self.grouping_sets()?));
        }
        if self.accept("CUBE") {
            return Ok(Expr::Cube(self.grouping_sets()?));
        }
        self.expression()
    }

    fn grouping_sets(&mut self) -> Result<Vec<Vec<Expr>>, SqlError> {
        self.in_parentheses(|parser| parser.comma_separated(Self::grouping_set))
    }

    fn grouping_set(&mut self) -> Result<Vec<Expr>, SqlError> {
        let nested = ["GROUPING", "ROLLUP", "CUBE"].into_iter().find(|word| {
            let behind = self.peek_nth(1);
            self.at_word(word)
                && (behind.is_symbol("(") || behind.is_word("SETS"))
                && !(*word == "GROUPING" && behind.is_symbol("("))
        });
        if let Some(word) = nested {
            return Err(SqlError::unsupported(
                format!("{word} within GROUPING SETS, ROLLUP or CUBE is not supported"),
                self.position(),
            ));
        }
        let behind = self.token(match self.at_symbol("(") {
            true => self.behind_parenthesis(self.index()),
            false => self.index(),
        });
        let is_set = self.at_symbol("(") && (behind.is_symbol(",") || behind.is_symbol(")"));
        if !is_set {
            return Ok(vec![self.expression()?]);
        }
        self.in_parentheses(|parser| match parser.at_symbol(")") {
            true => Ok(Vec::new()),
            false => parser.comma_separated(Self::expression),
        })
    }

    fn named_window(&mut self) -> Result<NamedWindowDefinition, SqlError> {
        let name = self.identifier()?;
        self.expect("AS")?;
        Ok(NamedWindowDefinition(
            name,
            NamedWindowExpr::WindowSpec(self.window_spec()?),
        ))
    }

    /// `a DESC NULLS LAST`.
    pub(crate) fn order_by_item(&mut self) -> Result<OrderByExpr, SqlError> {
        let expr = self.expression()?;
        let asc = self.accept_one(&["ASC", "DESC"]).map(|word| word == "ASC");
        let nulls_first = match self.accept("NULLS") {
            true => Some(self.expect_one(&["FIRST", "LAST"])? == "FIRST"),
            false => None,
        };
        Ok(OrderByExpr {
            expr,
            options: OrderByOptions { asc, nulls_first },
            with_fill: None,
        })
    }

    fn limit(&mut self) -> Result<Option<LimitClause>, SqlError> {
        let (mut limit, mut offset) = (None, None);
        loop {
            if limit.is_none() && self.accept("LIMIT") {
                if !self.accept("ALL") {
                    limit = Some(self.operand()?);
                }
            } else if offset.is_none() && self.accept("OFFSET") {
                let value = self.operand()?;
                let rows = match self.accept_one(&["ROW", "ROWS"]) {
                    Some("ROW") => OffsetRows::Row,
                    Some(_) => OffsetRows::Rows,
                    None => OffsetRows::None,
                };
                offset = Some(Offset { value, rows });
            } else {
                break;
            }
        }
        if limit.is_none() && offset.is_none() {
            return Ok(None);
        }
        Ok(Some(LimitClause::LimitOffset {
            limit,
            offset,
            limit_by: Vec::new(),
        }))
    }

    fn fetch(&mut self) -> Result<Option<Fetch>, SqlError> {
        if !self.accept("FETCH") {
            return Ok(None);
        }
        self.expect_one(&["FIRST", "NEXT"])?;
        let quantity = match self.at_word("ROW") || self.at_word("ROWS") {
            true => None,
            false => Some(self.operand()?),
        };
        self.expect_one(&["ROW", "ROWS"])?;
        self.expect("ONLY")?;
        Ok(Some(Fetch {
            with_ties: false,
            percent: false,
            quantity,
        }))
    }
}

/// `AS name(columns)`.
pub(crate) fn alias(
    explicit: bool,
    name: sqlparser::ast::Ident,
    columns: Vec<sqlparser::ast::Ident>,
) -> TableAlias {
    let columns = columns.into_iter().map(|name| TableAliasColumnDef {
        name,
        data_type: None,
    });
    TableAlias {
        explicit,
        name,
        columns: columns.collect(),
        at: None,
    }
}

fn empty_select(span: Span) -> Select {
    Select {
        select_token: attached(span),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: Vec::new(),
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

fn set_operation(left: SetExpr, op: SetOperator, set_quantifier: SetQuantifier, right: SetExpr) -> SetExpr {
    SetExpr::SetOperation {
        left: Box::new(left),
        op,
        set_quantifier,
        right: Box::new(right),
    }
}
