//! Facts about expressions, and small changes of them.

use std::collections::BTreeSet;

use thalweg_plan::data_type::MAX_LENGTH;
use thalweg_plan::{DataType, Expr, ExprKind, Literal, TypeRoot};

/// Functions whose value is another one each time.
const VOLATILE: &[&str] = &[
    "CURRENT_DATE",
    "CURRENT_ROW_TIMESTAMP",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_WATERMARK",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NOW",
    "PROCTIME",
    "RAND",
    "RAND_INTEGER",
    "UUID",
];

/// Whether it has the same value for the same row.
pub(crate) fn is_deterministic(expr: &Expr) -> bool {
    let mut deterministic = thalweg_functions::is_deterministic(expr);
    expr.visit(&mut |part| {
        if let ExprKind::Call { function, args } = &part.kind {
            let of_now = &**function == "UNIX_TIMESTAMP" && args.is_empty();
            deterministic &= !VOLATILE.contains(&&**function) && !of_now;
        }
    });
    deterministic
}

/// The columns that it reads.
pub(crate) fn columns(expr: &Expr) -> BTreeSet<usize> {
    let mut columns = BTreeSet::new();
    expr.visit(&mut |part| {
        if let ExprKind::Column(column) = part.kind {
            columns.insert(column);
        }
    });
    columns
}

/// The column, if it is one and nothing else.
pub(crate) fn as_column(expr: &Expr) -> Option<usize> {
    match expr.kind {
        ExprKind::Column(column) => Some(column),
        _ => None,
    }
}

/// The arguments, if it is a call of this function.
pub(crate) fn call_of<'a>(expr: &'a Expr, name: &str) -> Option<&'a [Expr]> {
    match &expr.kind {
        ExprKind::Call { function, args } if &**function == name => Some(args),
        _ => None,
    }
}

/// The column below casts that give other values for other values: see [`ordered_column`], and casts of anything that isn't built of other types to
/// STRING.
pub(crate) fn injective_column(expr: &Expr) -> Option<usize> {
    ordered_column(expr).or_else(|| {
        let [arg] = call_of(expr, "CAST")? else {
            return None;
        };
        let is_string = expr.data_type.root == TypeRoot::VarChar(MAX_LENGTH);
        let is_plain = !matches!(
            arg.data_type.root,
            TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_) | TypeRoot::Row(_)
        );
        (is_string && is_plain).then(|| injective_column(arg)).flatten()
    })
}

/// The column below casts that keep values and their order: whole numbers to wider ones, and those that change nullability or a time
/// attribute alone.
pub(crate) fn ordered_column(expr: &Expr) -> Option<usize> {
    if let Some(column) = as_column(expr) {
        return Some(column);
    }
    let [arg] = call_of(expr, "CAST")? else {
        return None;
    };
    let same = arg.data_type.clone().materialized().root == expr.data_type.clone().materialized().root;
    let width = |data_type: &DataType| match data_type.root {
        TypeRoot::TinyInt => Some(1),
        TypeRoot::SmallInt => Some(2),
        TypeRoot::Int => Some(4),
        TypeRoot::BigInt => Some(8),
        _ => None,
    };
    let wider =
        matches!((width(&arg.data_type), width(&expr.data_type)), (Some(from), Some(to)) if from <= to);
    (same || wider).then(|| ordered_column(arg)).flatten()
}

/// The parts that must all be true.
pub(crate) fn conjuncts(expr: Expr) -> Vec<Expr> {
    let mut parts = Vec::new();
    split(expr, "AND", &mut parts);
    parts
}

fn split(expr: Expr, operator: &str, parts: &mut Vec<Expr>) {
    match expr.kind {
        ExprKind::Call { function, args } if &*function == operator => {
            args.into_iter().for_each(|arg| split(arg, operator, parts));
        }
        kind => parts.push(Expr { kind, ..expr }),
    }
}

/// All parts at once; `None`: there are none.
pub(crate) fn all_of(parts: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    parts
        .into_iter()
        .filter(|part| !is_true(part))
        .reduce(|left, right| {
            let nullable = left.data_type.nullable || right.data_type.nullable;
            Expr::call("AND", vec![left, right], boolean(nullable))
        })
}

/// BOOLEAN.
pub(crate) fn boolean(nullable: bool) -> DataType {
    DataType {
        root: TypeRoot::Boolean,
        nullable,
    }
}

/// A constant of BOOLEAN.
pub(crate) fn boolean_literal(value: bool) -> Expr {
    Expr::literal(Literal::Boolean(value), boolean(false))
}

/// A constant of BIGINT.
pub(crate) fn bigint_literal(value: i64) -> Expr {
    Expr::literal(Literal::Int(value), DataType::not_null(TypeRoot::BigInt))
}

/// Whether it is the constant TRUE.
pub(crate) fn is_true(expr: &Expr) -> bool {
    expr.kind == ExprKind::Literal(Literal::Boolean(true))
}

/// The same over columns that are elsewhere.
pub(crate) fn renumbered(expr: &Expr, place: impl Fn(usize) -> usize) -> Expr {
    expr.clone()
        .map_columns(&mut |column, data_type| Expr::column(place(column), data_type))
}

/// The same with expressions in the place of columns.
pub(crate) fn inlined(expr: &Expr, exprs: &[Expr]) -> Expr {
    expr.clone()
        .map_columns(&mut |column, data_type| match exprs.get(column) {
            Some(expr) => expr.clone(),
            None => Expr::column(column, data_type),
        })
}

/// All columns of some types, as they are.
pub(crate) fn identity<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Vec<Expr> {
    let types = types.into_iter().enumerate();
    types
        .map(|(column, data_type)| Expr::column(column, data_type.clone()))
        .collect()
}

/// The whole number that a constant is.
pub(crate) fn as_int(expr: &Expr) -> Option<i64> {
    match expr.kind {
        ExprKind::Literal(Literal::Int(value)) => Some(value),
        _ => match call_of(expr, "CAST")? {
            [arg] if matches!(expr.data_type.root, TypeRoot::Int | TypeRoot::BigInt) => as_int(arg),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(index: usize, root: TypeRoot) -> Expr {
        Expr::column(index, DataType::nullable(root))
    }

    #[test]
    fn a_cast_that_loses_nothing_is_still_the_column() {
        let wider = column(2, TypeRoot::Int).cast(DataType::nullable(TypeRoot::BigInt));
        assert_eq!(injective_column(&wider), Some(2));
        let narrower = column(2, TypeRoot::BigInt).cast(DataType::nullable(TypeRoot::Int));
        assert_eq!(injective_column(&narrower), None);
        let text = column(2, TypeRoot::Double).cast(DataType::string());
        assert_eq!((injective_column(&text), ordered_column(&text)), (Some(2), None));
    }

    #[test]
    fn conditions_split_and_join() {
        let parts = [
            boolean_literal(false),
            column(0, TypeRoot::Boolean),
            column(1, TypeRoot::Boolean),
        ];
        let all = all_of(parts.clone()).unwrap();
        assert_eq!(conjuncts(all), parts);
        assert_eq!(all_of([boolean_literal(true)]), None);
    }

    #[test]
    fn a_function_of_the_clock_is_not_deterministic() {
        let now = Expr::call("NOW", vec![], DataType::not_null(TypeRoot::Date));
        let cast = now.cast(DataType::string());
        assert!(!is_deterministic(&cast));
        assert!(is_deterministic(&column(0, TypeRoot::Int)));
    }
}
