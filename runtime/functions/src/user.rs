//! Functions of users: columnar code that a package brings along, called under the name that CREATE FUNCTION gives its class.
//!
//! ```text
//!   CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar'
//!   count_char(extra, 'c') --UserFunctions::call--> plan::Expr "count_char@com.github..CountChar"   (planner)
//!   Expr --Evaluator::new--> the function by its class --evaluate(columns)--> column                (operators)
//!   table_call, aggregate_call: the same for the names in plans of LATERAL TABLE and GROUP BY; UserTableFunction, UserAggregate
//! ```
//!
//! A plan names the function and its class, so that a plan that comes to a process without that package is refused and not
//! answered by another function. A class that gives other values for the same row has `@?` in the plan in place of `@`.
//! Invariant: what a function gives is looked at (types, numbers of rows) before it is used.

mod aggregate;
mod called;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType as ArrowType;
use thalweg_plan::{DataType, Expr};

use crate::TableFunctionSignature;
use crate::evaluator::conform;
use crate::registry::{ResolveError, ResolveErrorKind};
use crate::resolve::cast_if_needed;

pub use aggregate::{AggregateFunction, AggregateFunctionTypes};
pub use called::{UserAggregate, UserTableFunction};
pub use table::{TableFunction, TableFunctionTypes, TableRows};

/// The types of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionTypes {
    /// What the arguments are cast to first, one for each.
    pub args: Vec<DataType>,
    /// Of the result.
    pub result: DataType,
}

/// A scalar function over columns, as Flink's `ScalarFunction` is one over values.
pub trait ScalarFunction: Send + Sync {
    /// Its types for arguments of these types.
    ///
    /// # Errors
    /// The arguments don't fit; the text says which would: "(STRING, STRING)".
    fn types(&self, args: &[DataType]) -> Result<FunctionTypes, String>;

    /// A value a row, of the type that [`types`](Self::types) gave. The columns have the arguments' types and `rows` values each.
    ///
    /// # Errors
    /// A value can't be computed: the job fails with this text.
    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef, String>;

    /// Whether the same row has the same value at all times. Flink's `isDeterministic`.
    fn is_deterministic(&self) -> bool {
        true
    }
}

/// A function of any kind.
#[derive(Clone)]
enum Function {
    Scalar(Arc<dyn ScalarFunction>),
    Table(Arc<dyn TableFunction>),
    Aggregate(Arc<dyn AggregateFunction>),
}

/// Kinds of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserFunctionKind {
    /// A value a row.
    Scalar,
    /// Rows for each row.
    Table,
    /// A value a group.
    Aggregate,
}

impl fmt::Display for UserFunctionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "a scalar function",
            Self::Table => "a table function",
            Self::Aggregate => "an aggregate function",
        })
    }
}

/// A call of a user's aggregate function.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Its name in plans.
    pub function: String,
    /// Cast to what it takes.
    pub args: Vec<Expr>,
    /// Of the result.
    pub result: DataType,
}

/// What a package registers, by the names of classes.
#[derive(Clone, Default)]
pub struct UserFunctions {
    functions: BTreeMap<String, Function>,
}

impl fmt::Debug for UserFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.functions.keys()).finish()
    }
}

impl UserFunctions {
    /// With a scalar function more, known by `class`: what CREATE FUNCTION names behind AS.
    #[must_use]
    pub fn scalar(self, class: impl Into<String>, function: impl ScalarFunction + 'static) -> Self {
        self.with(class, Function::Scalar(Arc::new(function)))
    }

    /// With a table function more.
    #[must_use]
    pub fn table(self, class: impl Into<String>, function: impl TableFunction + 'static) -> Self {
        self.with(class, Function::Table(Arc::new(function)))
    }

    /// With an aggregate function more.
    #[must_use]
    pub fn aggregate(self, class: impl Into<String>, function: impl AggregateFunction + 'static) -> Self {
        self.with(class, Function::Aggregate(Arc::new(function)))
    }

    fn with(mut self, class: impl Into<String>, function: Function) -> Self {
        self.functions.insert(class.into(), function);
        self
    }

    /// The classes that are there.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// What kind of function a class is.
    pub fn kind(&self, class: &str) -> Option<UserFunctionKind> {
        Some(match self.functions.get(class)? {
            Function::Scalar(_) => UserFunctionKind::Scalar,
            Function::Table(_) => UserFunctionKind::Table,
            Function::Aggregate(_) => UserFunctionKind::Aggregate,
        })
    }

    fn find(&self, name: &str, class: &str) -> Result<&Function, ResolveError> {
        self.functions.get(class).ok_or_else(|| {
            let known: Vec<&str> = self.classes().collect();
            let known = match known.is_empty() {
                true => "this program has none".to_owned(),
                false => format!("this program has {}", known.join(", ")),
            };
            let message =
                format!("Function '{name}' can't be called: no package has the class '{class}'; {known}");
            ResolveError::unsupported(message)
        })
    }

    /// Types a call of the function `name`, which is of `class`; casts of the arguments are written out.
    ///
    /// # Errors
    /// No package has the class, it is of another kind, or the arguments don't fit.
    pub fn call(
        &self,
        name: &str,
        class: &str,
        args: Vec<Expr>,
        position: Option<(u32, u32)>,
    ) -> Result<Expr, ResolveError> {
        let Function::Scalar(function) = self.find(name, class)? else {
            return Err(self.misplaced(name, class));
        };
        let types = function
            .types(&types_of(&args))
            .map_err(|fitting| unfitting(name, &args, &fitting))?;
        let args = cast_to(name, args, &types.args)?;
        let in_plan = in_plan(name, class, function.is_deterministic());
        Ok(Expr::call(&in_plan, args, types.result).at(position))
    }

    /// Types a call of the table function `name`, which is of `class`.
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    pub fn table_call(
        &self,
        name: &str,
        class: &str,
        args: Vec<Expr>,
    ) -> Result<TableFunctionSignature, ResolveError> {
        let Function::Table(function) = self.find(name, class)? else {
            return Err(self.misplaced(name, class));
        };
        let types = function
            .types(&types_of(&args))
            .map_err(|fitting| unfitting(name, &args, &fitting))?;
        Ok(TableFunctionSignature {
            function: in_plan(name, class, function.is_deterministic()),
            args: cast_to(name, args, &types.args)?,
            columns: types.columns,
        })
    }

    /// Types a call of the aggregate function `name`, which is of `class`.
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    pub fn aggregate_call(
        &self,
        name: &str,
        class: &str,
        args: Vec<Expr>,
    ) -> Result<AggregateCall, ResolveError> {
        let Function::Aggregate(function) = self.find(name, class)? else {
            return Err(self.misplaced(name, class));
        };
        let types = function
            .types(&types_of(&args))
            .map_err(|fitting| unfitting(name, &args, &fitting))?;
        Ok(AggregateCall {
            function: in_plan(name, class, true),
            args: cast_to(name, args, &types.args)?,
            result: types.result,
        })
    }

    /// A table function of a plan, for arguments of these types.
    ///
    /// # Errors
    /// This program has no such function: which.
    pub fn table_function(&self, function: &str, args: &[DataType]) -> Result<UserTableFunction, String> {
        match self.of_plan(function) {
            Some(Function::Table(found)) => UserTableFunction::new(function, found, args),
            _ => Err(absent(function)),
        }
    }

    /// An aggregate function of a plan, for arguments of these types.
    ///
    /// # Errors
    /// This program has no such function: which.
    pub fn aggregate_function(&self, function: &str, args: &[DataType]) -> Result<UserAggregate, String> {
        match self.of_plan(function) {
            Some(Function::Aggregate(found)) => UserAggregate::new(function, found, args),
            _ => Err(absent(function)),
        }
    }

    /// The scalar function that a plan's call is of.
    pub(crate) fn of_call(&self, function: &str) -> Option<Arc<dyn ScalarFunction>> {
        match self.of_plan(function)? {
            Function::Scalar(function) => Some(Arc::clone(function)),
            _ => None,
        }
    }

    fn of_plan(&self, function: &str) -> Option<&Function> {
        let (_, class) = function.split_once('@')?;
        self.functions.get(class.trim_start_matches('?'))
    }

    fn misplaced(&self, name: &str, class: &str) -> ResolveError {
        let message = match self.kind(class) {
            Some(kind @ UserFunctionKind::Table) => {
                format!("'{name}' is {kind}: it is called in FROM, as LATERAL TABLE({name}(..))")
            }
            Some(kind) => format!("'{name}' is {kind}, which can't stand here"),
            None => absent(name),
        };
        ResolveError {
            message,
            kind: ResolveErrorKind::Arguments,
        }
    }
}

fn in_plan(name: &str, class: &str, is_deterministic: bool) -> String {
    let mark = if is_deterministic { "" } else { "?" };
    format!("{name}@{mark}{class}")
}

fn absent(function: &str) -> String {
    format!("this program has no function {function}: the script was planned by another one")
}

fn types_of(args: &[Expr]) -> Vec<DataType> {
    args.iter().map(|arg| arg.data_type.clone()).collect()
}

fn unfitting(name: &str, args: &[Expr], fitting: &str) -> ResolveError {
    let given: Vec<String> = args.iter().map(|arg| format!("<{}>", arg.data_type)).collect();
    let given = given.join(", ");
    ResolveError::arguments(format!(
        "Cannot apply '{name}' to arguments of type '{name}({given})'. Supported form(s): '{name}{fitting}'"
    ))
}

fn cast_to(name: &str, args: Vec<Expr>, wanted: &[DataType]) -> Result<Vec<Expr>, ResolveError> {
    if wanted.len() != args.len() {
        return Err(unfitting(name, &args, &format!(" of {} arguments", wanted.len())));
    }
    let args = args.into_iter().zip(wanted);
    args.map(|(arg, wanted)| cast_if_needed(arg, wanted)).collect()
}

/// Columns that a function gave, which must have these types and so many rows each.
fn checked_columns(columns: &[ArrayRef], types: &[ArrowType], rows: usize) -> Result<Vec<ArrayRef>, String> {
    if columns.len() != types.len() {
        return Err(format!("it gave {} columns, not {}", columns.len(), types.len()));
    }
    let columns = columns.iter().zip(types);
    columns
        .map(|(column, wanted)| checked_column(column, wanted, rows))
        .collect()
}

/// A column that a function gave, which must have this type and so many rows.
fn checked_column(column: &ArrayRef, wanted: &ArrowType, rows: usize) -> Result<ArrayRef, String> {
    if column.len() != rows {
        return Err(format!("it gave {} values for {rows} rows", column.len()));
    }
    conform(Arc::clone(column), wanted).map_err(|message| format!("it {message}"))
}

/// The name of a plan's function as a user knows it.
pub fn displayed(function: &str) -> &str {
    function.split_once('@').map_or(function, |(name, _)| name)
}

/// Whether a plan's function is a user's.
pub fn is_user(function: &str) -> bool {
    function.contains('@')
}

/// Whether a plan's function is a user's that may give other values for the same row.
pub fn may_differ(function: &str) -> bool {
    function
        .split_once('@')
        .is_some_and(|(_, class)| class.starts_with('?'))
}
