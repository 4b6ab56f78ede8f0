//! What is read of tables: columns, and fields of columns, of all scans of a job.
//!
//! ```text
//!   programs over scans --Scans::collect--> accesses of each table --> what its source gives --Columns::placed--> programs over that
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_plan::connector::{CatalogTable, ColumnKind};
use thalweg_plan::{Expr, ExprKind};

use super::expr::{as_int, call_of};
use super::program::Program;
use crate::logical::{Rel, RelKind};

/// A column of a table, or a field below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Access {
    pub(crate) column: usize,
    pub(crate) fields: Vec<usize>,
}

/// What all scans of a job read of each table.
#[derive(Debug, Default)]
pub(crate) struct Scans(Vec<Scanned>);

/// What all scans of one table read.
#[derive(Debug)]
struct Scanned {
    table: Arc<CatalogTable>,
    accesses: BTreeSet<Access>,
    /// How many scans there are.
    times: usize,
}

impl Scans {
    /// Adds the scans of a relation.
    pub(crate) fn collect(&mut self, rel: &Rel) {
        let program = Program::of(rel);
        match &program.base.kind {
            RelKind::Scan(table) => self.add(table, &program),
            RelKind::Project { .. } | RelKind::Filter { .. } => self.collect(program.base),
            _ => inputs(program.base)
                .into_iter()
                .for_each(|input| self.collect(input)),
        }
    }

    fn add(&mut self, table: &Arc<CatalogTable>, program: &Program<'_>) {
        let mut accesses = BTreeSet::new();
        for expr in program.exprs() {
            accesses_of(&expanded(expr, table), &mut accesses);
        }
        match self.0.iter_mut().find(|known| known.table == *table) {
            Some(known) => {
                known.accesses.extend(accesses);
                known.times += 1;
            }
            None => self.0.push(Scanned {
                table: Arc::clone(table),
                accesses,
                times: 1,
            }),
        }
    }

    pub(crate) fn is_only_one(&self, table: &CatalogTable) -> bool {
        self.0
            .iter()
            .any(|known| *known.table == *table && known.times == 1)
    }

    pub(crate) fn of(&self, table: &CatalogTable) -> BTreeSet<Access> {
        let known = self.0.iter().find(|known| *known.table == *table);
        known.map(|known| known.accesses.clone()).unwrap_or_default()
    }
}

/// The inputs of a relation.
fn inputs(rel: &Rel) -> Vec<&Rel> {
    match &rel.kind {
        RelKind::Scan(_) | RelKind::Values(_) => Vec::new(),
        RelKind::Project { input, .. }
        | RelKind::Filter { input, .. }
        | RelKind::WindowTableFunction { input, .. }
        | RelKind::Aggregate { input, .. }
        | RelKind::Over { input, .. }
        | RelKind::Rank { input, .. }
        | RelKind::Correlate { input, .. }
        | RelKind::Sort { input, .. } => vec![input],
        RelKind::Join { left, right, .. }
        | RelKind::TemporalJoin { left, right, .. }
        | RelKind::SetOperation { left, right, .. } => vec![left, right],
        RelKind::Union(inputs) => inputs.iter().collect(),
    }
}

/// The same without computed columns but the rowtime.
pub(crate) fn expanded(expr: &Expr, table: &CatalogTable) -> Expr {
    let rowtime = table.schema.watermark.as_ref().map(|watermark| watermark.column);
    expr.clone().map_columns(&mut |column, data_type| match table
        .schema
        .columns
        .get(column)
        .map(|known| (&known.kind, &known.data_type))
    {
        Some((ColumnKind::Computed(computed), data_type)) if rowtime != Some(column) => Expr {
            data_type: data_type.clone(),
            ..expanded(computed, table)
        },
        _ => Expr::column(column, data_type),
    })
}

pub(crate) fn accesses_of(expr: &Expr, accesses: &mut BTreeSet<Access>) {
    if let Some(access) = access_of(expr) {
        accesses.insert(access);
    } else if let ExprKind::Call { args, .. } = &expr.kind {
        args.iter().for_each(|arg| accesses_of(arg, accesses));
    }
}

/// A column, or fields of fields of it.
fn access_of(expr: &Expr) -> Option<Access> {
    if let ExprKind::Column(column) = expr.kind {
        let fields = Vec::new();
        return Some(Access { column, fields });
    }
    let [row, field] = call_of(expr, "FIELD")? else {
        return None;
    };
    let mut access = access_of(row)?;
    access.fields.push(usize::try_from(as_int(field)?).ok()?);
    Some(access)
}

impl Access {
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.column == other.column && other.fields.starts_with(&self.fields)
    }
}

/// Columns of a source and where they are.
pub(crate) struct Columns {
    pub(crate) accesses: Vec<Access>,
    /// Where the rowtime is, if it is computed.
    pub(crate) computed_rowtime: Option<(usize, usize)>,
}

impl Columns {
    /// An expression over the table's columns as one over the source's.
    pub(crate) fn placed(&self, expr: &Expr) -> Expr {
        if let Some(access) = access_of(expr) {
            if let Some((column, place)) = self.computed_rowtime
                && access.column == column
                && access.fields.is_empty()
            {
                return Expr::column(place, expr.data_type.clone());
            }
            if let Some(place) = self.accesses.iter().position(|known| *known == access) {
                return Expr::column(place, expr.data_type.clone());
            }
        }
        match &expr.kind {
            ExprKind::Call { function, args } => Expr {
                kind: ExprKind::Call {
                    function: Arc::clone(function),
                    args: args.iter().map(|arg| self.placed(arg)).collect(),
                },
                ..expr.clone()
            },
            _ => expr.clone(),
        }
    }

    pub(crate) fn place_of(&self, column: usize) -> Option<usize> {
        let whole = |access: &Access| access.column == column && access.fields.is_empty();
        self.accesses.iter().position(whole)
    }
}
