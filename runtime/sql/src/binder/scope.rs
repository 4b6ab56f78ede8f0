//! Which names mean which columns, at one place of a query.
//!
//! ```text
//!   FROM a JOIN b: tables [a: columns 0..3] [b: columns 3..5]        outer: the scope of the query around a subquery
//! ```
//!
//! Invariant: a column's position is its position in the relation that FROM gave.

use sqlparser::ast::Ident;
use thalweg_plan::{DataType, Expr, Literal, Schema, TypeRoot};

use crate::error::{Position, SqlError};

/// A call of it stands for a column of the query around a subquery, until the subquery is unnested.
pub(crate) const OUTER: &str = "$OUTER";

/// Names at one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) tables: Vec<ScopeTable>,
    /// The columns that `*` stands for, as positions in the relation: those of USING first, and once.
    star: Vec<usize>,
    /// Of the query around this one.
    pub(crate) outer: Option<Box<Scope>>,
}

/// A table of FROM.
#[derive(Debug, Clone)]
pub(crate) struct ScopeTable {
    /// Its alias or name; `None`: a query without an alias.
    pub(crate) name: Option<String>,
    /// Catalog and database, if it goes by its own name.
    pub(crate) path: Vec<String>,
    pub(crate) columns: Vec<ScopeColumn>,
}

/// A column of a table of FROM.
#[derive(Debug, Clone)]
pub(crate) struct ScopeColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// In the relation.
    pub(crate) index: usize,
}

impl Scope {
    /// One table.
    pub(crate) fn of_table(name: Option<String>, path: Vec<String>, schema: &Schema) -> Self {
        let columns = schema.fields.iter().enumerate();
        let columns = columns.map(|(index, field)| ScopeColumn {
            name: field.name.clone(),
            data_type: field.data_type.clone(),
            index,
        });
        Self {
            tables: vec![ScopeTable {
                name,
                path,
                columns: columns.collect(),
            }],
            star: (0..schema.fields.len()).collect(),
            outer: None,
        }
    }

    /// `right`'s tables behind this one's.
    pub(crate) fn join(&mut self, right: Self, width: usize) {
        self.star.extend(right.star.iter().map(|index| index + width));
        self.tables.extend(right.tables.into_iter().map(|mut table| {
            for column in &mut table.columns {
                column.index += width;
            }
            table
        }));
    }

    /// USING: of both columns one is seen.
    pub(crate) fn merge(&mut self, pairs: &[(usize, usize)]) {
        let is_of_pair = |index: usize| {
            pairs
                .iter()
                .any(|(left, right)| index == *left || index == *right)
        };
        let firsts = pairs.iter().map(|(left, _)| *left);
        let others = self.star.iter().copied().filter(|index| !is_of_pair(*index));
        self.star = firsts.chain(others).collect();
    }

    /// All columns that `*` stands for.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ScopeColumn> {
        let column = |index: &usize| self.columns().find(|column| column.index == *index);
        self.star.iter().filter_map(column)
    }

    fn columns(&self) -> impl Iterator<Item = &ScopeColumn> {
        self.tables.iter().flat_map(|table| &table.columns)
    }

    /// The columns of `t.*`.
    pub(crate) fn of(&self, qualifier: &[Ident]) -> Option<&ScopeTable> {
        self.tables.iter().find(|table| table.is_named(qualifier))
    }

    /// What `a`, `t.a`, `a.field`, `t.a.field` .. means.
    pub(crate) fn resolve(&self, parts: &[Ident]) -> Result<Expr, SqlError> {
        if let Some(found) = self.resolve_here(parts)? {
            return Ok(found);
        }
        let mut outer = self.outer.as_deref();
        let mut levels = 1;
        while let Some(scope) = outer {
            if let Some(found) = scope.resolve_here(parts)? {
                if levels > 1 {
                    let position = parts.first().and_then(|part| Position::of_span(part.span));
                    let message = "A subquery can take columns of the query right around it only";
                    return Err(SqlError::unsupported(message, position));
                }
                let data_type = found.data_type.clone();
                return Ok(Expr::call(OUTER, vec![found], data_type));
            }
            levels += 1;
            outer = scope.outer.as_deref();
        }
        Err(self.unknown(parts))
    }

    fn resolve_here(&self, parts: &[Ident]) -> Result<Option<Expr>, SqlError> {
        // The longest qualifier that names a table wins.
        for length in (1..parts.len()).rev() {
            let (qualifier, rest) = parts.split_at(length);
            let Some(table) = self.of(qualifier) else { continue };
            if let Some(column) = table.columns.iter().find(|column| column.name == rest[0].value) {
                return fields(column, &rest[1..]).map(Some);
            }
        }
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let mut found = self.all().filter(|column| column.name == first.value);
        let Some(column) = found.next() else {
            return Ok(None);
        };
        if found.next().is_some() {
            return Err(SqlError::semantic(
                format!("Column '{}' is ambiguous: say which table's", first.value),
                Position::of_span(first.span),
            ));
        }
        fields(column, &parts[1..]).map(Some)
    }

    fn unknown(&self, parts: &[Ident]) -> SqlError {
        let position = parts.first().and_then(|part| Position::of_span(part.span));
        if let [qualifier @ .., last] = parts
            && !qualifier.is_empty()
            && let Some(table) = self.of(qualifier)
        {
            let known = table.columns.iter().map(|column| column.name.as_str());
            return SqlError::unknown("column", &last.value, known, Position::of_span(last.span));
        }
        let is_qualified = parts.len() > 1;
        let first = parts.first().map_or("", |part| part.value.as_str());
        let tables = self.tables.iter().filter_map(|table| table.name.as_deref());
        if is_qualified {
            return SqlError::unknown("table", first, tables, position);
        }
        SqlError::unknown(
            "column",
            first,
            self.all().map(|column| column.name.as_str()),
            position,
        )
    }
}

impl ScopeTable {
    fn is_named(&self, qualifier: &[Ident]) -> bool {
        let Some((last, before)) = qualifier.split_last() else {
            return false;
        };
        let skip = self.path.len().checked_sub(before.len());
        self.name.as_deref() == Some(last.value.as_str())
            && skip.is_some_and(|skip| {
                self.path[skip..]
                    .iter()
                    .zip(before)
                    .all(|(mine, theirs)| *mine == theirs.value)
            })
    }
}

/// `column.field.field`.
fn fields(column: &ScopeColumn, names: &[Ident]) -> Result<Expr, SqlError> {
    let mut expr = Expr::column(column.index, column.data_type.clone());
    for name in names {
        expr = field(expr, name)?;
    }
    Ok(expr)
}

/// A field of a row.
pub(crate) fn field(row: Expr, name: &Ident) -> Result<Expr, SqlError> {
    let position = Position::of_span(name.span);
    let TypeRoot::Row(fields) = &row.data_type.root else {
        return Err(SqlError::of_type(
            format!("'{}' can't be a field: {} is no ROW", name.value, row.data_type),
            position,
        ));
    };
    let Some(index) = fields.iter().position(|field| field.name == name.value) else {
        let known = fields.iter().map(|field| field.name.as_str());
        return Err(SqlError::unknown("field", &name.value, known, position));
    };
    let nullable = row.data_type.nullable || fields[index].data_type.nullable;
    let data_type = fields[index].data_type.clone().with_nullable(nullable);
    let number = Expr::literal(Literal::Int(index as i64), DataType::not_null(TypeRoot::Int));
    Ok(Expr::call("FIELD", vec![row, number], data_type).at(position.map(Position::pair)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_plan::Field;

    fn scope() -> Scope {
        let row = TypeRoot::Row(vec![Field::new("x", DataType::not_null(TypeRoot::Int))]);
        let schema = Schema {
            fields: vec![
                Field::new("a", DataType::string()),
                Field::new("r", DataType::nullable(row)),
            ],
        };
        let mut scope = Scope::of_table(
            Some("t".to_owned()),
            vec!["c".to_owned(), "d".to_owned()],
            &schema,
        );
        scope.join(Scope::of_table(Some("u".to_owned()), Vec::new(), &schema), 2);
        scope
    }

    fn names(text: &str) -> Vec<Ident> {
        text.split('.').map(Ident::new).collect()
    }

    #[test]
    fn names_are_columns_of_tables_and_fields_of_rows() {
        assert_eq!(scope().resolve(&names("u.a")).unwrap().to_string(), "$2");
        assert_eq!(scope().resolve(&names("c.d.t.a")).unwrap().to_string(), "$0");
        let x = scope().resolve(&names("t.r.x")).unwrap();
        assert_eq!(x.to_string(), "FIELD($1, 0)");
        assert!(x.data_type.nullable, "a field of a row that may be null");
    }

    #[test]
    fn names_that_mean_nothing_or_two_things_are_refused() {
        let message = |text: &str| scope().resolve(&names(text)).unwrap_err().message;
        assert_eq!(message("a"), "Column 'a' is ambiguous: say which table's");
        assert_eq!(message("t.b"), "Unknown column 'b'; did you mean 'a'?");
        assert_eq!(message("v.a"), "Unknown table 'v'; did you mean 't'?");
        assert_eq!(message("t.r.y"), "Unknown field 'y'; did you mean 'x'?");
    }

    #[test]
    fn what_is_not_here_may_be_of_the_query_around() {
        let inner = Scope {
            outer: Some(Box::new(scope())),
            ..Scope::default()
        };
        assert_eq!(inner.resolve(&names("u.a")).unwrap().to_string(), "$OUTER($2)");
    }
}
