//! Scalar functions of users: columnar code that a package brings along, called under the name that CREATE FUNCTION gives its class.
//!
//! ```text
//!   CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar'
//!   count_char(extra, 'c') --UserFunctions::call--> plan::Expr "count_char@com.github..CountChar"   (planner)
//!   Expr --Evaluator::new--> the function by its class --evaluate(columns)--> column                (operators)
//! ```
//!
//! A plan names the function and its class, so that a plan that comes to a process without that package is refused and not
//! answered by another function. A class that gives other values for the same row has `@?` in the plan in place of `@`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use thalweg_plan::{DataType, Expr};

use crate::registry::{ResolveError, ResolveErrorKind};
use crate::resolve::cast_if_needed;

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

/// What a package registers, by the names of classes.
#[derive(Clone, Default)]
pub struct UserFunctions {
    scalar: BTreeMap<String, Arc<dyn ScalarFunction>>,
}

impl fmt::Debug for UserFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.scalar.keys()).finish()
    }
}

impl UserFunctions {
    /// With a scalar function more, known by `class`: what CREATE FUNCTION names behind AS.
    #[must_use]
    pub fn scalar(mut self, class: impl Into<String>, function: impl ScalarFunction + 'static) -> Self {
        self.scalar.insert(class.into(), Arc::new(function));
        self
    }

    /// The classes that are there.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.scalar.keys().map(String::as_str)
    }

    /// Types a call of the function `name`, which is of `class`; casts of the arguments are written out.
    ///
    /// # Errors
    /// No package has the class, or the arguments don't fit.
    pub fn call(
        &self,
        name: &str,
        class: &str,
        args: Vec<Expr>,
        position: Option<(u32, u32)>,
    ) -> Result<Expr, ResolveError> {
        let function = self.scalar.get(class).ok_or_else(|| ResolveError {
            message: format!("Function '{name}' can't be called: no package has the class '{class}'"),
            kind: ResolveErrorKind::Unsupported,
        })?;
        let given: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
        let unfitting = |fitting: String| {
            let given = given.iter().map(|given| format!("<{given}>"));
            let given = given.collect::<Vec<_>>().join(", ");
            ResolveError::arguments(format!(
                "Cannot apply '{name}' to arguments of type '{name}({given})'. Supported form(s): '{name}{fitting}'"
            ))
        };
        let types = function.types(&given).map_err(unfitting)?;
        if types.args.len() != args.len() {
            return Err(unfitting(format!(" of {} arguments", types.args.len())));
        }
        let args = args.into_iter().zip(&types.args);
        let args = args
            .map(|(arg, wanted)| cast_if_needed(arg, wanted))
            .collect::<Result<_, _>>()?;
        let mark = if function.is_deterministic() { "" } else { "?" };
        Ok(Expr::call(&format!("{name}@{mark}{class}"), args, types.result).at(position))
    }

    /// The function that a plan's call is of.
    pub(crate) fn of_call(&self, function: &str) -> Option<Arc<dyn ScalarFunction>> {
        let (_, class) = function.split_once('@')?;
        self.scalar.get(class.trim_start_matches('?')).cloned()
    }
}

/// The name of a plan's function as a user knows it.
pub fn displayed(function: &str) -> &str {
    function.split_once('@').map_or(function, |(name, _)| name)
}

/// Whether a plan's function is a user's that may give other values for the same row.
pub(crate) fn may_differ(function: &str) -> bool {
    function
        .split_once('@')
        .is_some_and(|(_, class)| class.starts_with('?'))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::Int64Type;
    use thalweg_plan::{Literal, Schema, TypeRoot};

    use super::*;
    use crate::testing::env;
    use crate::{EvaluationEnv, Evaluator, is_deterministic};

    struct CountChar;

    impl ScalarFunction for CountChar {
        fn types(&self, args: &[DataType]) -> Result<FunctionTypes, String> {
            let text = |arg: &DataType| matches!(arg.root, TypeRoot::Char(_) | TypeRoot::VarChar(_));
            if args.len() != 2 || !args.iter().all(text) {
                return Err("(STRING, STRING)".into());
            }
            Ok(FunctionTypes {
                args: vec![DataType::string(), DataType::string()],
                result: DataType::not_null(TypeRoot::BigInt),
            })
        }

        fn evaluate(&self, args: &[ArrayRef], _rows: usize) -> Result<ArrayRef, String> {
            let (texts, letters) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
            let counts = texts.iter().zip(letters).map(|(text, letter)| {
                text.zip(letter)
                    .map(|(text, letter)| text.matches(letter).count() as i64)
            });
            Ok(Arc::new(counts.collect::<Int64Array>()))
        }
    }

    struct Ticks(AtomicI64);

    impl ScalarFunction for Ticks {
        fn types(&self, _: &[DataType]) -> Result<FunctionTypes, String> {
            Ok(FunctionTypes {
                args: Vec::new(),
                result: DataType::not_null(TypeRoot::BigInt),
            })
        }

        fn evaluate(&self, _: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
            let ticks = (0..rows).map(|_| self.0.fetch_add(1, Ordering::Relaxed));
            Ok(Arc::new(ticks.collect::<Int64Array>()))
        }

        fn is_deterministic(&self) -> bool {
            false
        }
    }

    fn functions() -> UserFunctions {
        UserFunctions::default()
            .scalar("a.CountChar", CountChar)
            .scalar("a.Ticks", Ticks(AtomicI64::new(0)))
    }

    fn evaluated(expr: &Expr, texts: &[Option<&str>]) -> Vec<Option<i64>> {
        let schema = Schema {
            fields: vec![thalweg_plan::Field::new("text", DataType::string())],
        }
        .to_arrow();
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![Arc::new(StringArray::from_iter(texts.iter().copied()))],
        )
        .unwrap();
        let env = Arc::new(EvaluationEnv {
            functions: Arc::new(functions()),
            ..(*env()).clone()
        });
        let evaluator = Evaluator::new(std::slice::from_ref(expr), &schema, env).unwrap();
        let values = evaluator.evaluate(&batch).unwrap();
        values[0].as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn a_call_is_typed_and_computes_a_column() {
        let args = vec![
            Expr::column(0, DataType::string()),
            Expr::literal(Literal::String("c".into()), DataType::not_null(TypeRoot::Char(1))),
        ];
        let call = functions().call("count_char", "a.CountChar", args, None).unwrap();
        assert_eq!(call.data_type, DataType::not_null(TypeRoot::BigInt));
        assert!(is_deterministic(&call));
        assert_eq!(
            evaluated(&call, &[Some("accacc"), None, Some("")]),
            [Some(4), None, Some(0)]
        );
    }

    #[test]
    fn what_is_not_the_same_twice_is_computed_for_each_row() {
        let call = functions().call("ticks", "a.Ticks", Vec::new(), None).unwrap();
        assert!(!is_deterministic(&call));
        assert_eq!(evaluated(&call, &[None, None, None]), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_class_that_no_package_has_and_arguments_that_do_not_fit_are_refused() {
        let missing = functions().call("f", "a.Missing", Vec::new(), None).unwrap_err();
        assert_eq!(
            missing.message,
            "Function 'f' can't be called: no package has the class 'a.Missing'"
        );
        let unfitting = functions()
            .call("f", "a.CountChar", Vec::new(), None)
            .unwrap_err();
        assert!(
            unfitting
                .message
                .ends_with("Supported form(s): 'f(STRING, STRING)'"),
            "{unfitting}"
        );
    }
}
