//! FOR SYSTEM_TIME AS OF processing time: a table whose connector can look up keys.
//!
//! ```text
//!   projection(filter(table))         the columns that are asked for are read; the filter is the lookup's
//!   ON left = column                  keys; the left one may be an expression, which a Calc below computes
//!   ON anything of the table alone    goes to the filter: it says the same of INNER and LEFT
//!   ON anything else                  the lookup's condition
//! ```

use std::collections::BTreeSet;

use thalweg_plan::connector::{CatalogTable, ColumnKind, SourceColumn};
use thalweg_plan::spec::{JoinKind, LookupJoinSpec};
use thalweg_plan::{Distribution, Expr, Field, NodeSpec, Schema};

use super::access::expanded;
use super::calc::{calc, unique_names};
use super::draft::{Draft, DraftInput};
use super::expr::{all_of, as_column, boolean, columns, conjuncts, identity, is_deterministic, renumbered};
use super::join::{Joining, Prepared, joined_schema};
use super::lower::Planner;
use super::program::Program;
use super::scan::refused;
use crate::error::{Position, SqlError};
use crate::logical::RelKind;

/// A join with what a table has when a row comes.
pub(crate) struct Lookup<'a> {
    pub(crate) left: Draft,
    /// Of the right side.
    pub(crate) program: Program<'a>,
    /// Inner or Left.
    pub(crate) kind: JoinKind,
    /// Over the left columns and, behind them, the program's.
    pub(crate) conditions: Vec<Expr>,
    pub(crate) position: Option<Position>,
}

impl Lookup<'_> {
    /// The join; refused if the right side is no table that can be looked up.
    pub(crate) fn lower(self, planner: &Planner<'_>) -> Result<Draft, SqlError> {
        let cannot = SqlError::unsupported(
            "Processing-time temporal join is not supported yet.",
            self.position,
        );
        let RelKind::Scan(table) = &self.program.base.kind else {
            return Err(cannot);
        };
        let abilities = planner
            .connectors
            .source(table)
            .map_err(|problem| refused("source for reading", table, &problem, self.position))?;
        match abilities.lookup {
            true => self.joined(table),
            false => Err(cannot),
        }
    }

    fn joined(self, table: &CatalogTable) -> Result<Draft, SqlError> {
        let asked = Asked::of(table, &self.program);
        let of_table = |expr: &Expr| asked.placed(expr);
        let projection: Vec<Expr> = self.program.projection.iter().map(of_table).collect();
        let filter = self.program.filter.as_ref().map(of_table);
        let of_left = self.left.schema.fields.clone();
        let mut joining = asked.joining(self.left, self.kind, &self.conditions, &projection);
        let of_table_alone = keep_keys(&mut joining);
        if joining.equal.is_empty() {
            let message = format!(
                "Temporal table join requires an equality condition on fields of table [{}].",
                table.path
            );
            return Err(SqlError::semantic(message, self.position));
        }
        let Prepared {
            left,
            keys,
            condition,
            ..
        } = joining.prepared();
        let filters = filter.into_iter().flat_map(conjuncts).chain(of_table_alone);
        let schema = joined_schema(self.kind, &left.schema, &asked.schema, true);
        let spec = LookupJoinSpec {
            kind: self.kind,
            table: table.clone(),
            columns: asked.sources,
            keys,
            filter: all_of(filters),
            condition,
        };
        let shift = left.width();
        let mut exprs = identity(of_left.iter().map(|field| &field.data_type));
        let behind = |expr: &Expr| renumbered(expr, |column| shift + column);
        exprs.extend(projection.iter().map(behind));
        let names = of_left.into_iter().map(|field| field.name);
        let names: Vec<String> = names.chain(self.program.names.iter().cloned()).collect();
        let join = Draft {
            kinds: left.kinds,
            schema: Schema {
                fields: unique_names(schema.fields),
            },
            ..Draft::new(
                NodeSpec::LookupJoin(spec),
                vec![DraftInput::new(left, Distribution::Forward)],
                Schema::default(),
            )
        };
        Ok(calc(join, exprs, None, names))
    }
}

/// Columns of the table that are asked for.
struct Asked<'a> {
    table: &'a CatalogTable,
    /// Positions in the table.
    columns: Vec<usize>,
    sources: Vec<SourceColumn>,
    schema: Schema,
}

impl<'a> Asked<'a> {
    fn of(table: &'a CatalogTable, program: &Program<'_>) -> Self {
        let wanted: BTreeSet<usize> = program
            .exprs()
            .flat_map(|expr| columns(&computed(expr, table)))
            .collect();
        let source = |column: &usize| {
            let column = &table.schema.columns[*column];
            let data_type = column.data_type.clone().materialized();
            match &column.kind {
                ColumnKind::Metadata { key, .. } => SourceColumn::Metadata {
                    key: key.clone(),
                    data_type,
                },
                _ => SourceColumn::Physical {
                    path: vec![column.name.clone()],
                    data_type,
                },
            }
        };
        let field = |column: &usize| {
            let column = &table.schema.columns[*column];
            Field::new(&*column.name, column.data_type.clone().materialized())
        };
        Self {
            table,
            sources: wanted.iter().map(source).collect(),
            schema: Schema {
                fields: wanted.iter().map(field).collect(),
            },
            columns: wanted.into_iter().collect(),
        }
    }

    /// An expression over the table's columns as one over those that are asked for.
    fn placed(&self, expr: &Expr) -> Expr {
        renumbered(&computed(expr, self.table), |column| {
            let place = self.columns.iter().position(|known| *known == column);
            place.unwrap_or_default()
        })
    }

    /// Both sides, with the table's columns in the place of what the program makes of them.
    fn joining(&self, left: Draft, kind: JoinKind, conditions: &[Expr], projection: &[Expr]) -> Joining {
        let width = left.width();
        let inlined = |expr: &Expr| {
            expr.clone()
                .map_columns(&mut |column, data_type| match column.checked_sub(width) {
                    None => Expr::column(column, data_type),
                    Some(column) => renumbered(&projection[column], |place| width + place),
                })
        };
        let right = Draft::new(NodeSpec::Values(Vec::new()), Vec::new(), self.schema.clone());
        Joining::new(kind, left, right, conditions.iter().map(inlined).collect())
    }
}

/// Without computed columns: what is read has none, nor rowtimes that are.
fn computed(expr: &Expr, table: &CatalogTable) -> Expr {
    expanded(expr, table).map_columns(&mut |column, data_type| match table
        .schema
        .columns
        .get(column)
        .map(|known| &known.kind)
    {
        Some(ColumnKind::Computed(rowtime)) => Expr {
            data_type: data_type.materialized(),
            ..expanded(rowtime, table)
        },
        _ => Expr::column(column, data_type),
    })
}

/// Leaves the equalities with columns of the table as keys; the others are conditions like any. Gives those of the table alone, over its columns.
fn keep_keys(joining: &mut Joining) -> Vec<Expr> {
    let width = joining.left.width();
    let equal = std::mem::take(&mut joining.equal).into_iter();
    let (keys, others): (Vec<_>, Vec<_>) = equal.partition(|pair| as_column(&pair.right).is_some());
    joining.equal = keys;
    let others = others.into_iter().map(|pair| {
        let right = renumbered(&pair.right, |column| width + column);
        let operator = if pair.null_safe {
            "IS NOT DISTINCT FROM"
        } else {
            "="
        };
        Expr::call(operator, vec![pair.left, right], boolean(true))
    });
    let rest = std::mem::take(&mut joining.rest).into_iter().chain(others);
    let of_table = |expr: &Expr| {
        let columns = columns(expr);
        is_deterministic(expr) && !columns.is_empty() && columns.iter().all(|column| *column >= width)
    };
    let (of_table, rest): (Vec<_>, Vec<_>) = rest.partition(of_table);
    joining.rest = rest;
    let placed = of_table.iter();
    placed
        .map(|expr| renumbered(expr, |column| column - width))
        .collect()
}
