//! Constant folding: what has the same value for every row is computed once, when the statement is planned.
//!
//! A constant that can't be computed (an overflow, a wrong cast) stays: Flink, too, fails when rows come and not before.

use thalweg_functions::EvaluationEnv;
use thalweg_plan::{Expr, ExprKind, Literal};

use super::super::expr::{boolean_literal, is_deterministic, is_true};
use super::map_inputs;
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// Folds all expressions of a relation and those below it.
pub(crate) fn fold(rel: Rel, env: &EvaluationEnv) -> Result<Rel, SqlError> {
    let mut rel = map_inputs(rel, &mut |input| fold(input, env))?;
    match &mut rel.kind {
        RelKind::Project { exprs, .. } | RelKind::Correlate { args: exprs, .. } => fold_all(exprs, env),
        RelKind::Values(rows) => rows.iter_mut().for_each(|row| fold_all(row, env)),
        RelKind::Filter { condition, .. } => *condition = folded(condition.clone(), env),
        RelKind::Join { condition, .. } | RelKind::TemporalJoin { condition, .. } => {
            *condition = condition.take().map(|condition| folded(condition, env));
        }
        _ => {}
    }
    Ok(rel)
}

fn fold_all(exprs: &mut [Expr], env: &EvaluationEnv) {
    for expr in exprs {
        *expr = folded(expr.clone(), env);
    }
}

/// The same with its constant parts computed, and AND and OR without constants.
pub(crate) fn folded(expr: Expr, env: &EvaluationEnv) -> Expr {
    let ExprKind::Call { function, args } = expr.kind else {
        return expr;
    };
    let args: Vec<Expr> = args.into_iter().map(|arg| folded(arg, env)).collect();
    let constant = args.iter().all(|arg| matches!(arg.kind, ExprKind::Literal(_)));
    let call = Expr {
        kind: ExprKind::Call { function, args },
        ..expr
    };
    if let Some(simpler) = without_constants(&call) {
        return simpler;
    }
    if !constant || !is_deterministic(&call) {
        return call;
    }
    match super::super::constant(&call, env) {
        Some(literal) => Expr {
            kind: ExprKind::Literal(literal),
            ..call
        },
        None => call,
    }
}

fn without_constants(call: &Expr) -> Option<Expr> {
    let ExprKind::Call { function, args } = &call.kind else {
        return None;
    };
    let absorbing = match &**function {
        "AND" => false,
        "OR" => true,
        _ => return None,
    };
    let is = |arg: &Expr, value: bool| arg.kind == ExprKind::Literal(Literal::Boolean(value));
    if args.iter().any(|arg| is(arg, absorbing)) {
        return Some(boolean_literal(absorbing));
    }
    let rest: Vec<&Expr> = args.iter().filter(|arg| !is(arg, !absorbing)).collect();
    match rest.as_slice() {
        [] => Some(boolean_literal(!absorbing)),
        [one] => Some((*one).clone()),
        some if some.len() < args.len() => {
            let args = some.iter().map(|&arg| arg.clone()).collect();
            Some(Expr {
                kind: ExprKind::Call {
                    function: function.clone(),
                    args,
                },
                ..call.clone()
            })
        }
        _ => None,
    }
}

/// Conditions without those that are always true.
pub(crate) fn kept(conditions: Vec<Expr>) -> Vec<Expr> {
    conditions
        .into_iter()
        .filter(|condition| !is_true(condition))
        .collect()
}
