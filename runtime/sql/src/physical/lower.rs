//! From relations to operators, from the sources on.
//!
//! ```text
//!   Project, Filter -> one Calc      Scan -> scan      Aggregate -> aggregate, windows      Over -> over      Rank -> top_n
//!   Join, TemporalJoin -> join, time_join      Sort -> sort      Union, Values, Correlate: here
//! ```
//!
//! Invariant: a draft has the columns of its relation, in that order; types differ in nullability and time attributes alone.

use thalweg_plan::connector::Connectors;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::CorrelateSpec;
use thalweg_plan::{Distribution, Expr, ExprKind, Field, Literal, NodeSpec, Schema};

use super::access::Scans;
use super::calc::{calc, conformed, unique_names};
use super::draft::{Draft, DraftInput, Kinds, Monotonicity};
use super::program::Program;
use super::settings::Settings;
use super::{aggregate, batch, join, over, scan, sort, time_join, top_n, windows};
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// What lowering needs beside the relation.
pub(crate) struct Planner<'a> {
    /// What sources and sinks can do.
    pub(crate) connectors: &'a dyn Connectors,
    /// Options.
    pub(crate) settings: Settings,
    /// What is read of each table.
    pub(crate) scans: Scans,
}

impl Planner<'_> {
    /// The operators of a relation.
    pub(crate) fn lower(&self, rel: &Rel) -> Result<Draft, SqlError> {
        let mut draft = self.lowered(rel).map_err(|error| error.or_at(rel.position))?;
        draft.position = draft.position.or(rel.position);
        if self.settings.is_batch {
            draft = batch::of_inserts(draft)?;
        }
        if draft.width() != rel.schema.fields.len() {
            let message = format!(
                "{} columns were planned for a relation of {}",
                draft.width(),
                rel.schema.fields.len()
            );
            return Err(SqlError::new(crate::SqlErrorKind::Bug, message, rel.position));
        }
        Ok(draft)
    }

    fn lowered(&self, rel: &Rel) -> Result<Draft, SqlError> {
        match &rel.kind {
            RelKind::Scan(_) | RelKind::Project { .. } | RelKind::Filter { .. } => self.program(rel, None),
            RelKind::Values(rows) => self.values(rel, rows),
            RelKind::WindowTableFunction { input, window } => {
                windows::table_function(self.lower(input)?, window, rel)
            }
            RelKind::Aggregate { .. } => aggregate::lower(self, rel),
            RelKind::Over {
                input,
                partition,
                order,
                calls,
            } => over::lower(self, self.lower(input)?, partition, order, calls, rel),
            RelKind::Rank { .. } => top_n::lower(self, rel),
            RelKind::Join { .. } => join::lower(self, rel),
            RelKind::TemporalJoin { .. } => time_join::lower(self, rel),
            RelKind::Correlate {
                input,
                function,
                args,
                columns,
                left_outer,
                with_ordinality,
            } => {
                let spec = CorrelateSpec {
                    function: function.clone(),
                    args: args.clone(),
                    columns: columns
                        .fields
                        .iter()
                        .map(|field| field.data_type.clone())
                        .collect(),
                    left_outer: *left_outer,
                    with_ordinality: *with_ordinality,
                    condition: None,
                };
                Ok(correlate(self.lower(input)?, spec, columns))
            }
            RelKind::Union(inputs) => {
                let inputs = inputs.iter().map(|input| self.lower(input));
                Ok(union(inputs.collect::<Result<_, _>>()?, &rel.schema))
            }
            RelKind::Sort {
                input,
                keys,
                offset,
                fetch,
            } => {
                let limit = fetch
                    .filter(|_| keys.is_empty())
                    .and_then(|fetch| offset.checked_add(fetch));
                let input = match Program::of(input).base.kind {
                    RelKind::Scan(_) => self.program(input, limit)?,
                    _ => self.lower(input)?,
                };
                sort::lower(self, input, keys, *offset, *fetch, rel)
            }
            RelKind::SetOperation { .. } => Err(SqlError::new(
                crate::SqlErrorKind::Bug,
                "a set operation was left by the rewrites",
                rel.position,
            )),
        }
    }

    /// `limit`: so many rows are enough.
    fn program(&self, rel: &Rel, limit: Option<u64>) -> Result<Draft, SqlError> {
        let program = Program::of(rel);
        if let RelKind::Scan(table) = &program.base.kind {
            return scan::lower(self, table, &program, limit, program.base.position);
        }
        let input = self.lower(program.base)?;
        Ok(calc(input, program.projection, program.filter, program.names))
    }

    /// Rows of constants; an expression that is none is computed by a Calc over one row.
    fn values(&self, rel: &Rel, rows: &[Vec<Expr>]) -> Result<Draft, SqlError> {
        let constants = |row: &Vec<Expr>| row.iter().map(constant).collect::<Option<Vec<Literal>>>();
        let literals: Option<Vec<Vec<Literal>>> = rows.iter().map(constants).collect();
        if let Some(literals) = literals {
            return Ok(values(literals, rel.schema.clone()));
        }
        let one_row = || {
            let zero = super::expr::bigint_literal(0);
            let schema = Schema {
                fields: vec![Field::new("ZERO", zero.data_type)],
            };
            values(vec![vec![Literal::Int(0)]], schema)
        };
        let names: Vec<String> = super::calc::names(&rel.schema);
        let branches: Vec<Draft> = rows
            .iter()
            .map(|row| calc(one_row(), row.clone(), None, names.clone()))
            .collect();
        Ok(union(branches, &rel.schema))
    }
}

fn constant(expr: &Expr) -> Option<Literal> {
    match &expr.kind {
        ExprKind::Literal(literal) => Some(literal.clone()),
        _ => None,
    }
}

/// Constant rows.
pub(crate) fn values(rows: Vec<Vec<Literal>>, schema: Schema) -> Draft {
    let fields = schema.fields.into_iter();
    let fields: Vec<Field> = fields
        .map(|field| Field::new(field.name, field.data_type.materialized()))
        .collect();
    Draft {
        monotonicity: Some(vec![Monotonicity::Constant; fields.len()]),
        ..Draft::new(
            NodeSpec::Values(rows),
            Vec::new(),
            Schema {
                fields: unique_names(fields),
            },
        )
    }
}

fn correlate(input: Draft, spec: CorrelateSpec, columns: &Schema) -> Draft {
    let fields = input.schema.fields.iter().chain(&columns.fields).cloned();
    let mut fields = unique_names(fields.collect());
    if spec.left_outer {
        let first = input.width();
        fields[first..]
            .iter_mut()
            .for_each(|field| field.data_type.nullable = true);
    }
    Draft {
        kinds: input.kinds,
        window: input.window.clone(),
        position: input.position,
        schema: Schema { fields },
        ..Draft::new(
            NodeSpec::Correlate(spec),
            vec![DraftInput::new(input, Distribution::Forward)],
            Schema::default(),
        )
    }
}

/// All inputs' rows. A column is a time attribute if it is one in all inputs.
pub(crate) fn union(mut inputs: Vec<Draft>, schema: &Schema) -> Draft {
    if inputs.len() == 1
        && let Some(only) = inputs.pop()
    {
        return only;
    }
    let mut fields = unique_names(schema.fields.clone());
    for (column, field) in fields.iter_mut().enumerate() {
        let types = || inputs.iter().filter_map(|input| input.schema.fields.get(column));
        field.data_type.nullable = types().any(|field| field.data_type.nullable);
        let all = |kind| types().all(|field| field.data_type.time_kind() == kind);
        if !all(TimeKind::Rowtime) && !all(TimeKind::Proctime) {
            field.data_type = field.data_type.clone().materialized();
        }
    }
    let schema = Schema { fields };
    let kinds = inputs.iter().map(|input| input.kinds).reduce(Kinds::or);
    let insert_only = inputs.iter().all(Draft::is_insert_only);
    let inputs = inputs
        .into_iter()
        .map(|input| DraftInput::new(conformed(input, &schema), Distribution::Forward))
        .collect();
    Draft {
        kinds: kinds.unwrap_or(Kinds::INSERT),
        monotonicity: insert_only.then(|| vec![Monotonicity::Constant; schema.fields.len()]),
        ..Draft::new(NodeSpec::Union, inputs, schema)
    }
}
