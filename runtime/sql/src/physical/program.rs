//! Projections and filters that stand one above the other, as one program over the relation below them.

use thalweg_plan::Expr;

use super::expr::{all_of, conjuncts, identity, inlined, is_deterministic};
use crate::logical::{Rel, RelKind};

/// What is computed of a relation's rows.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The columns, over those of `base`.
    pub(crate) projection: Vec<Expr>,
    /// Which rows stay.
    pub(crate) filter: Option<Expr>,
    /// Of the columns.
    pub(crate) names: Vec<String>,
    /// No projection or filter, unless one that must not be computed twice.
    pub(crate) base: &'a Rel,
}

impl<'a> Program<'a> {
    /// The program of a relation; of one that is no projection or filter: all its columns.
    pub(crate) fn of(rel: &'a Rel) -> Self {
        let fields = &rel.schema.fields;
        let mut program = Self {
            projection: identity(fields.iter().map(|field| &field.data_type)),
            filter: None,
            names: fields.iter().map(|field| field.name.clone()).collect(),
            base: rel,
        };
        let mut is_empty = true;
        loop {
            match &program.base.kind {
                RelKind::Project { input, exprs } => {
                    let once = exprs.iter().all(is_deterministic);
                    if !once && !is_empty {
                        return program;
                    }
                    program.projection = program
                        .projection
                        .iter()
                        .map(|expr| inlined(expr, exprs))
                        .collect();
                    program.filter = program.filter.map(|filter| inlined(&filter, exprs));
                    program.base = input;
                    if !once {
                        return program;
                    }
                }
                RelKind::Filter { input, condition } => {
                    let below = conjuncts(condition.clone()).into_iter();
                    let all = below.chain(program.filter.take().into_iter().flat_map(conjuncts));
                    program.filter = all_of(all);
                    program.base = input;
                }
                _ => return program,
            }
            is_empty = false;
        }
    }

    /// All expressions.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.projection.iter().chain(&self.filter)
    }
}
