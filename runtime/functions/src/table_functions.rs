//! Types of table functions.

use thalweg_plan::{DataType, Expr, Field, TypeRoot};

use crate::registry::{ResolveError, ResolveErrorKind};
use crate::resolve::{FunctionInfo, FunctionKind};

/// A call of a table function.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFunctionSignature {
    /// Its name in plans.
    pub function: String,
    /// The arguments, cast to what it takes.
    pub args: Vec<Expr>,
    /// The columns of its rows.
    pub columns: Vec<Field>,
}

/// All table functions.
pub(crate) fn all() -> impl Iterator<Item = FunctionInfo> {
    std::iter::once(FunctionInfo {
        name: "UNNEST",
        usage: "UNNEST(array, map or multiset) [WITH ORDINALITY]",
        kind: FunctionKind::Table,
    })
}

pub(crate) fn is_known(name: &str) -> bool {
    all().any(|function| function.name == name)
}

/// Types a call. UNNEST of an ARRAY gives its elements, a ROW's fields as columns; of a MAP keys and values; of a MULTISET each element as often as
/// it is in it.
///
/// # Errors
/// There is no such function, or the arguments don't fit it.
pub fn resolve_table_function(name: &str, args: Vec<Expr>) -> Result<TableFunctionSignature, ResolveError> {
    if !name.eq_ignore_ascii_case("UNNEST") {
        return Err(ResolveError {
            message: format!("No match found for function signature {name}"),
            kind: ResolveErrorKind::Unknown,
        });
    }
    let columns = match args.as_slice() {
        [arg] => unnested(&arg.data_type.root),
        _ => None,
    };
    let columns = columns.ok_or_else(|| {
        let types: Vec<String> = args.iter().map(|arg| arg.data_type.to_string()).collect();
        ResolveError::arguments(format!(
            "UNNEST takes an ARRAY, MAP or MULTISET, not ({})",
            types.join(", ")
        ))
    })?;
    Ok(TableFunctionSignature {
        function: "UNNEST".to_owned(),
        args,
        columns,
    })
}

fn unnested(root: &TypeRoot) -> Option<Vec<Field>> {
    match root {
        TypeRoot::Array(element) | TypeRoot::Multiset(element) => Some(match &element.root {
            TypeRoot::Row(fields) => fields
                .iter()
                .map(|field| {
                    let nullable = field.data_type.nullable || element.nullable;
                    Field::new(
                        field.name.clone(),
                        field.data_type.clone().with_nullable(nullable),
                    )
                })
                .collect(),
            _ => vec![Field::new("EXPR$0", element.as_ref().clone())],
        }),
        TypeRoot::Map(key, value) => Some(vec![
            Field::new("KEY", DataType::clone(key)),
            Field::new("VALUE", DataType::clone(value)),
        ]),
        _ => None,
    }
}
