//! Expressions to programs: shared subexpressions found, constants computed, branches put apart.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use thalweg_plan::{Expr, ExprKind};

use super::constant::literal_array;
use super::lazy::{Branch, Lazy};
use super::program::{CallStep, Code, Operation, Program, Step, conform};
use crate::casts::{self, Cast};
use crate::registry::{EvaluationEnv, EvaluationError};
use crate::resolve::{find, is_deterministic};
use crate::user::displayed;
use crate::{operators, registry::Value};

/// Compiles expressions over columns of a schema, or, without one, constants.
pub(super) fn compile(
    exprs: &[Expr],
    input: Option<&SchemaRef>,
    env: &EvaluationEnv,
) -> Result<Program, EvaluationError> {
    compile_with(exprs, input, env, &RefCell::default(), true)
}

fn compile_with(
    exprs: &[Expr],
    input: Option<&SchemaRef>,
    env: &EvaluationEnv,
    unfoldable: &RefCell<HashSet<String>>,
    folds: bool,
) -> Result<Program, EvaluationError> {
    let mut unconditional = HashSet::new();
    exprs
        .iter()
        .for_each(|expr| collect_unconditional(expr, &mut unconditional));
    let mut compiler = Compiler {
        input,
        env,
        unconditional,
        unfoldable,
        scopes: vec![Scope::default()],
    };
    for expr in exprs {
        let step = compiler.step(0, expr, folds)?;
        compiler.scopes[0].program.outputs.push(step);
    }
    Ok(std::mem::take(&mut compiler.scopes[0].program))
}

/// A program in the making.
#[derive(Default)]
struct Scope {
    program: Program,
    /// Steps by [`key`].
    known: HashMap<String, usize>,
    /// The steps of the outer scope that are this one's inputs.
    captures: Vec<usize>,
}

struct Compiler<'a> {
    input: Option<&'a SchemaRef>,
    env: &'a EvaluationEnv,
    /// [`key`]s of what is computed for all rows anyway.
    unconditional: HashSet<String>,
    /// [`key`]s of constants that can't be computed, so that none is tried again with each expression around it.
    unfoldable: &'a RefCell<HashSet<String>>,
    /// The outermost first.
    scopes: Vec<Scope>,
}

impl Compiler<'_> {
    /// The step of an expression in a scope.
    fn step(&mut self, depth: usize, expr: &Expr, folds: bool) -> Result<usize, EvaluationError> {
        let key = key(expr);
        if let Some(step) = self.known(depth, &key, &expr.data_type.to_arrow()) {
            return Ok(step);
        }
        let is_column = matches!(expr.kind, ExprKind::Column(_));
        if depth > 0 && (is_column || self.unconditional.contains(&key)) {
            let outer = self.step(depth - 1, expr, folds)?;
            return Ok(self.capture(depth, outer, key, expr.data_type.to_arrow()));
        }
        let operation = match folds.then(|| self.folded(expr, &key)).flatten() {
            Some(value) => Operation::Constant(value),
            None => self.operation(depth, expr)?,
        };
        let step = Step {
            operation,
            arrow_type: expr.data_type.to_arrow(),
            name: name(expr),
            position: expr.position,
        };
        let step = self.push(depth, step);
        if is_shareable(expr) {
            self.scopes[depth].known.insert(key, step);
        }
        Ok(step)
    }

    fn push(&mut self, depth: usize, step: Step) -> usize {
        let steps = &mut self.scopes[depth].program.steps;
        steps.push(step);
        steps.len() - 1
    }

    /// A step that is there in this scope or in one around it.
    fn known(&mut self, depth: usize, key: &str, arrow_type: &ArrowType) -> Option<usize> {
        if let Some(&step) = self.scopes[depth].known.get(key) {
            return Some(step);
        }
        let outer = self.known(depth.checked_sub(1)?, key, arrow_type)?;
        Some(self.capture(depth, outer, key.to_owned(), arrow_type.clone()))
    }

    fn capture(&mut self, depth: usize, outer: usize, key: String, arrow_type: ArrowType) -> usize {
        let input = self.scopes[depth].captures.len();
        self.scopes[depth].captures.push(outer);
        let step = Step {
            operation: Operation::Input(input),
            arrow_type,
            name: "input".into(),
            position: None,
        };
        let step = self.push(depth, step);
        self.scopes[depth].known.insert(key, step);
        step
    }

    /// The value of what depends on nothing; `None` if it does, or can't be computed: that is an error only when a row needs it.
    fn folded(&self, expr: &Expr, key: &str) -> Option<ArrayRef> {
        let is_call = matches!(expr.kind, ExprKind::Call { .. });
        if !is_call || !is_constant(expr) || self.unfoldable.borrow().contains(key) {
            return None;
        }
        let value = self.computed(expr);
        if value.is_none() {
            self.unfoldable.borrow_mut().insert(key.to_owned());
        }
        value
    }

    fn computed(&self, expr: &Expr) -> Option<ArrayRef> {
        let exprs = std::slice::from_ref(expr);
        let program = compile_with(exprs, None, self.env, self.unfoldable, false).ok()?;
        let no_input = |_| Value::Scalar(new_null_array(&ArrowType::Null, 1));
        let values = program.run(&no_input, 1, self.env).ok()?;
        Some(Arc::clone(values.first()?.array()))
    }

    fn operation(&mut self, depth: usize, expr: &Expr) -> Result<Operation, EvaluationError> {
        let refused = |message: String| EvaluationError {
            function: name(expr).to_string(),
            message,
            position: expr.position,
        };
        match &expr.kind {
            ExprKind::Column(index) => {
                let field = self.input.and_then(|input| input.fields().get(*index));
                let field =
                    field.ok_or_else(|| refused(format!("there is no column {index} in the input")))?;
                let wanted = expr.data_type.to_arrow();
                let same = *field.data_type() == wanted
                    || conform(arrow::array::new_empty_array(field.data_type()), &wanted).is_ok();
                match same {
                    true => Ok(Operation::Input(*index)),
                    false => Err(refused(format!(
                        "column {index} is {} in the input and {wanted} in the expression",
                        field.data_type()
                    ))),
                }
            }
            ExprKind::Literal(literal) => literal_array(literal, &expr.data_type)
                .map(Operation::Constant)
                .map_err(refused),
            ExprKind::Call { function, args } => match (&**function, args.as_slice()) {
                ("CAST" | "TRY_CAST", [arg]) => {
                    let cast = Cast::compile(
                        &arg.data_type,
                        &expr.data_type,
                        &**function == "TRY_CAST",
                        self.env,
                    )
                    .map_err(refused)?;
                    let arg = self.step(depth, arg, true)?;
                    Ok(Operation::Cast { cast, arg })
                }
                ("CASE" | "IF" | "AND" | "OR" | "COALESCE", args) if !args.is_empty() => {
                    self.lazy(depth, function, args, expr).map(Operation::Lazy)
                }
                _ => self.call(depth, function, args, expr),
            },
        }
    }

    fn call(
        &mut self,
        depth: usize,
        function: &str,
        args: &[Expr],
        expr: &Expr,
    ) -> Result<Operation, EvaluationError> {
        let code = match find(function) {
            Some(found) => Some((Code::BuiltIn(found.kernel), found.is_deterministic)),
            None => self.env.functions.of_call(function).map(|user| {
                let is_deterministic = user.is_deterministic();
                (Code::User(user), is_deterministic)
            }),
        };
        let (code, is_deterministic) = code.ok_or_else(|| EvaluationError {
            function: displayed(function).to_owned(),
            message: "there is no such function".into(),
            position: expr.position,
        })?;
        let steps = args
            .iter()
            .map(|arg| self.step(depth, arg, true))
            .collect::<Result<_, _>>()?;
        Ok(Operation::Call(CallStep {
            code,
            args: steps,
            arg_types: args.iter().map(|arg| arg.data_type.clone()).collect(),
            data_type: expr.data_type.clone(),
            is_deterministic,
        }))
    }

    fn lazy(
        &mut self,
        depth: usize,
        function: &str,
        args: &[Expr],
        expr: &Expr,
    ) -> Result<Lazy, EvaluationError> {
        let arrow_type = expr.data_type.to_arrow();
        match function {
            "AND" | "OR" => Ok(Lazy::Logic {
                decides: function == "OR",
                args: self.branches(depth, args)?,
            }),
            "COALESCE" => Ok(Lazy::Coalesce {
                args: self.branches(depth, args)?,
                arrow_type,
            }),
            _ => {
                let mut branches = self.branches(depth, args)?;
                let last = branches.pop().filter(|_| branches.len() % 2 == 0);
                let otherwise = last.ok_or_else(|| EvaluationError {
                    function: function.to_owned(),
                    message: "a CASE without its last value".into(),
                    position: expr.position,
                })?;
                let mut whens = Vec::with_capacity(branches.len() / 2);
                let mut branches = branches.into_iter();
                while let (Some(condition), Some(value)) = (branches.next(), branches.next()) {
                    whens.push((condition, value));
                }
                Ok(Lazy::Case {
                    whens,
                    otherwise,
                    arrow_type,
                })
            }
        }
    }

    /// The first is needed for all rows, the others not if they can fail or cost.
    fn branches(&mut self, depth: usize, args: &[Expr]) -> Result<Vec<Branch>, EvaluationError> {
        let mut branches = Vec::with_capacity(args.len());
        for (position, arg) in args.iter().enumerate() {
            branches.push(match position == 0 || self.is_cheap(depth, arg) {
                true => Branch::Step(self.step(depth, arg, true)?),
                false => self.branch(depth, arg)?,
            });
        }
        Ok(branches)
    }

    fn branch(&mut self, depth: usize, arg: &Expr) -> Result<Branch, EvaluationError> {
        let inner = depth + 1;
        self.scopes.truncate(inner);
        self.scopes.push(Scope::default());
        let output = self.step(inner, arg, true)?;
        let Scope {
            mut program,
            captures,
            ..
        } = std::mem::take(&mut self.scopes[inner]);
        self.scopes.truncate(inner);
        program.outputs.push(output);
        Ok(Branch::Program { captures, program })
    }

    /// Whether it has a value for every row, quickly.
    fn is_cheap(&self, depth: usize, expr: &Expr) -> bool {
        let ExprKind::Call { function, args } = &expr.kind else {
            return true;
        };
        let key = key(expr);
        let is_there = self.scopes[..=depth]
            .iter()
            .any(|scope| scope.known.contains_key(&key));
        if is_there || self.unconditional.contains(&key) {
            return true;
        }
        let is_total = match (&**function, args.as_slice()) {
            ("CAST" | "TRY_CAST", [arg]) => casts::is_total(&arg.data_type.root, &expr.data_type.root),
            ("IF" | "CASE" | "COALESCE", _) => true,
            (function, args) => operators::is_total(function, args),
        };
        is_total && args.iter().all(|arg| self.is_cheap(depth, arg))
    }
}

/// Whether it depends on no column, time or chance.
fn is_constant(expr: &Expr) -> bool {
    let mut is_constant = is_deterministic(expr);
    expr.visit(&mut |part| is_constant &= !matches!(part.kind, ExprKind::Column(_)));
    is_constant
}

/// Whether two of it have the same value in a row: not so what draws a number.
fn is_shareable(expr: &Expr) -> bool {
    let mut draws = false;
    expr.visit(&mut |part| {
        if let ExprKind::Call { function, .. } = &part.kind {
            draws |= matches!(&**function, "RAND" | "RAND_INTEGER" | "UUID");
        }
    });
    !draws
}

fn name(expr: &Expr) -> Arc<str> {
    match &expr.kind {
        ExprKind::Call { function, .. } => displayed(function).into(),
        ExprKind::Column(_) => "column".into(),
        ExprKind::Literal(_) => "literal".into(),
    }
}

/// Equal for expressions that have equal values wherever they stand.
fn key(expr: &Expr) -> String {
    let mut key = String::new();
    write_key(expr, &mut key);
    key
}

fn write_key(expr: &Expr, out: &mut String) {
    // Writing to a String can't fail.
    let _ = match &expr.kind {
        ExprKind::Column(index) => write!(out, "${index}"),
        ExprKind::Literal(literal) => write!(out, "{literal:?}:{}", expr.data_type.root),
        ExprKind::Call { function, args } => {
            let _ = write!(out, "{function}(");
            args.iter().for_each(|arg| {
                write_key(arg, out);
                out.push(',');
            });
            write!(out, "):{}", expr.data_type.root)
        }
    };
}

/// Collects the [`key`]s of all that is computed for every row.
fn collect_unconditional(expr: &Expr, keys: &mut HashSet<String>) {
    let ExprKind::Call { function, args } = &expr.kind else {
        return;
    };
    if is_shareable(expr) {
        keys.insert(key(expr));
    }
    let needed = match &**function {
        "CASE" | "IF" | "AND" | "OR" | "COALESCE" => args.len().min(1),
        _ => args.len(),
    };
    args[..needed]
        .iter()
        .for_each(|arg| collect_unconditional(arg, keys));
}
