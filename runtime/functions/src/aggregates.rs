//! Types of aggregate and window functions; their accumulators are the operators'.

use thalweg_plan::{DataType, TypeRoot};

use crate::common_type::{MAX_PRECISION, is_character, is_datetime, is_integer, is_numeric};
use crate::registry::{ResolveError, ResolveErrorKind};
use crate::resolve::{FunctionInfo, FunctionKind, type_name};

/// Calcite's length of JSON texts.
const JSON_LENGTH: u32 = 2000;

/// A call of an aggregate function.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateSignature {
    /// What the arguments are cast to.
    pub arg_types: Vec<DataType>,
    /// Of the result. Null for no rows unless it is said not to be.
    pub result: DataType,
}

/// Names and usages.
const FUNCTIONS: &[(&str, &str)] = &[
    ("COUNT", "COUNT(*), COUNT([DISTINCT] value, ..)"),
    ("SUM", "SUM([DISTINCT] number)"),
    ("$SUM0", "SUM of no rows is 0"),
    ("SUM0", "SUM0(number): of no rows it is 0"),
    ("AVG", "AVG([DISTINCT] number)"),
    ("MIN", "MIN(value)"),
    ("MAX", "MAX(value)"),
    ("SINGLE_VALUE", "the value of a subquery of at most one row"),
    ("FIRST_VALUE", "FIRST_VALUE(value)"),
    ("LAST_VALUE", "LAST_VALUE(value)"),
    ("LISTAGG", "LISTAGG([DISTINCT] string [, separator])"),
    ("COLLECT", "COLLECT([DISTINCT] value)"),
    ("ARRAY_AGG", "ARRAY_AGG([DISTINCT] value)"),
    ("STDDEV", "STDDEV(number)"),
    ("STDDEV_POP", "STDDEV_POP(number)"),
    ("STDDEV_SAMP", "STDDEV_SAMP(number)"),
    ("VARIANCE", "VARIANCE(number)"),
    ("VAR_POP", "VAR_POP(number)"),
    ("VAR_SAMP", "VAR_SAMP(number)"),
    (
        "JSON_OBJECTAGG",
        "JSON_OBJECTAGG(key VALUE value [NULL | ABSENT ON NULL])",
    ),
    ("JSON_ARRAYAGG", "JSON_ARRAYAGG(value [NULL | ABSENT ON NULL])"),
    (
        "PERCENTILE",
        "PERCENTILE(number, percentage or array of them [, frequency])",
    ),
    ("ROW_NUMBER", "ROW_NUMBER() OVER (..)"),
    ("RANK", "RANK() OVER (..)"),
    ("DENSE_RANK", "DENSE_RANK() OVER (..)"),
    ("PERCENT_RANK", "PERCENT_RANK() OVER (..)"),
    ("CUME_DIST", "CUME_DIST() OVER (..)"),
    ("NTILE", "NTILE(buckets) OVER (..)"),
    ("LAG", "LAG(value [, offset [, default]]) OVER (..)"),
    ("LEAD", "LEAD(value [, offset [, default]]) OVER (..)"),
    (
        "APPROX_COUNT_DISTINCT",
        "APPROX_COUNT_DISTINCT(value): batch mode only",
    ),
];

/// All aggregate functions.
pub(crate) fn all() -> impl Iterator<Item = FunctionInfo> {
    FUNCTIONS.iter().map(|&(name, usage)| FunctionInfo {
        name,
        usage,
        kind: FunctionKind::Aggregate,
    })
}

pub(crate) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// Types a call of an aggregate or window function. COUNT(*) has no arguments.
///
/// In a stream the planner refuses PERCENT_RANK, CUME_DIST, NTILE and LEAD, as Flink; over a window whose frame is never empty it may say that the
/// result isn't null where the argument isn't.
///
/// # Errors
/// There is no such function, or the arguments don't fit it.
pub fn resolve_aggregate(
    name: &str,
    args: &[DataType],
    distinct: bool,
) -> Result<AggregateSignature, ResolveError> {
    let name = name.to_ascii_uppercase();
    if !is_known(&name) {
        return Err(ResolveError {
            message: format!(
                "No match found for function signature {}",
                signature_of(&name, args)
            ),
            kind: ResolveErrorKind::Unknown,
        });
    }
    let args: Vec<DataType> = args.iter().map(|arg| arg.clone().materialized()).collect();
    if let Some(message) = unsupported(&name, &args) {
        return Err(ResolveError::unsupported(message));
    }
    let signature = match args.as_slice() {
        [] => without_arguments(&name, distinct),
        [arg] => of_one(&name, arg),
        args => of_several(&name, args),
    };
    signature.ok_or_else(|| {
        let usage = FUNCTIONS
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, usage)| usage);
        ResolveError::arguments(format!(
            "Cannot apply '{name}' to arguments of type '{}'. Supported form(s): '{usage}'",
            signature_of(&name, &args)
        ))
    })
}

fn signature_of(name: &str, args: &[DataType]) -> String {
    let types: Vec<String> = args
        .iter()
        .map(|arg| format!("<{}>", type_name(&arg.root)))
        .collect();
    format!("{name}({})", types.join(", "))
}

/// What Flink's validator takes and its planner doesn't.
fn unsupported(name: &str, args: &[DataType]) -> Option<String> {
    match (name, args) {
        ("APPROX_COUNT_DISTINCT", _) => {
            Some("APPROX_COUNT_DISTINCT aggregate function does not support yet for streaming.".into())
        }
        ("COUNT", [_, _, ..]) => Some("We now only support the count of one field.".into()),
        ("MIN" | "MAX", [arg]) if !is_ordered(&arg.root) => {
            let function = if name == "MIN" { "Min" } else { "Max" };
            let root = root_name(&arg.root);
            Some(format!(
                "{function} aggregate function does not support type: ''{root}''. Please re-check the data type."
            ))
        }
        ("LAG" | "LEAD", [value, _, default]) if default.root != value.root => Some(format!(
            "Please explicitly cast default value {default} to {}.",
            value.clone().with_nullable(default.nullable)
        )),
        _ => None,
    }
}

fn bigint() -> DataType {
    DataType::not_null(TypeRoot::BigInt)
}

fn signature(arg_types: Vec<DataType>, result: DataType) -> Option<AggregateSignature> {
    Some(AggregateSignature { arg_types, result })
}

fn without_arguments(name: &str, distinct: bool) -> Option<AggregateSignature> {
    match name {
        "COUNT" if !distinct => signature(Vec::new(), bigint()),
        "ROW_NUMBER" | "RANK" | "DENSE_RANK" => signature(Vec::new(), bigint()),
        "PERCENT_RANK" | "CUME_DIST" => signature(Vec::new(), DataType::not_null(TypeRoot::Double)),
        _ => None,
    }
}

fn of_one(name: &str, arg: &DataType) -> Option<AggregateSignature> {
    let nullable = |root: TypeRoot| DataType::nullable(root);
    let same = || signature(vec![arg.clone()], arg.clone().with_nullable(true));
    match name {
        "COUNT" => signature(vec![arg.clone()], bigint()),
        "SUM" | "SUM0" | "$SUM0" if is_numeric(&arg.root) => {
            let root = summed(&arg.root);
            signature(
                vec![arg.clone()],
                DataType {
                    root,
                    nullable: name == "SUM",
                },
            )
        }
        "AVG" if is_numeric(&arg.root) => signature(vec![arg.clone()], nullable(averaged(&arg.root))),
        "MIN" | "MAX" => same(),
        "SINGLE_VALUE" | "FIRST_VALUE" | "LAST_VALUE" | "LAG" | "LEAD" => same(),
        "LISTAGG" => listagg(std::slice::from_ref(arg)),
        "COLLECT" => signature(
            vec![arg.clone()],
            DataType::not_null(TypeRoot::Multiset(Box::new(arg.clone()))),
        ),
        "ARRAY_AGG" => signature(
            vec![arg.clone()],
            DataType {
                root: TypeRoot::Array(Box::new(arg.clone())),
                nullable: arg.nullable,
            },
        ),
        "STDDEV" | "STDDEV_POP" | "STDDEV_SAMP" | "VARIANCE" | "VAR_POP" | "VAR_SAMP"
            if is_numeric(&arg.root) =>
        {
            signature(vec![arg.clone()], nullable(averaged(&arg.root)))
        }
        "JSON_ARRAYAGG" => signature(
            vec![arg.clone()],
            DataType::not_null(TypeRoot::VarChar(JSON_LENGTH)),
        ),
        "NTILE" if is_integer(&arg.root) => signature(vec![arg.clone()], bigint()),
        _ => None,
    }
}

fn of_several(name: &str, args: &[DataType]) -> Option<AggregateSignature> {
    match (name, args) {
        ("LISTAGG", [_, _]) => listagg(args),
        ("FIRST_VALUE" | "LAST_VALUE", [value, order]) if order.root == TypeRoot::BigInt => {
            signature(args.to_vec(), value.clone().with_nullable(true))
        }
        ("JSON_OBJECTAGG", [key, _]) if is_character(&key.root) => {
            signature(args.to_vec(), DataType::not_null(TypeRoot::VarChar(JSON_LENGTH)))
        }
        ("LAG" | "LEAD", [value, offset]) if is_integer(&offset.root) => {
            signature(args.to_vec(), value.clone().with_nullable(true))
        }
        ("LAG" | "LEAD", [value, offset, default]) if is_integer(&offset.root) => {
            signature(args.to_vec(), value.clone().with_nullable(default.nullable))
        }
        ("PERCENTILE", [value, percentage, rest @ ..]) if is_numeric(&value.root) && rest.len() <= 1 => {
            if !rest.iter().all(|frequency| is_integer(&frequency.root)) {
                return None;
            }
            let double = |of: &DataType| DataType {
                root: TypeRoot::Double,
                nullable: of.nullable,
            };
            let (percentage, result) = match &percentage.root {
                root if is_numeric(root) => (double(percentage), TypeRoot::Double),
                TypeRoot::Array(element) if is_numeric(&element.root) => {
                    let doubles = TypeRoot::Array(Box::new(double(element)));
                    let list = DataType {
                        root: doubles,
                        nullable: percentage.nullable,
                    };
                    (
                        list,
                        TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Double))),
                    )
                }
                _ => return None,
            };
            let mut arg_types = vec![double(value), percentage];
            arg_types.extend(rest.iter().map(|frequency| DataType {
                root: TypeRoot::BigInt,
                ..frequency.clone()
            }));
            signature(arg_types, DataType::nullable(result))
        }
        _ => None,
    }
}

/// Of the type of its argument, though its values are longer.
fn listagg(args: &[DataType]) -> Option<AggregateSignature> {
    let fits = args.iter().all(|arg| is_character(&arg.root));
    let result = args.first()?.clone().with_nullable(true);
    fits.then(|| AggregateSignature {
        arg_types: args.to_vec(),
        result,
    })
}

/// SUM of a DECIMAL has all 38 digits; whole numbers keep their type and wrap.
fn summed(root: &TypeRoot) -> TypeRoot {
    match root {
        TypeRoot::Decimal { scale, .. } => TypeRoot::Decimal {
            precision: MAX_PRECISION,
            scale: *scale,
        },
        other => other.clone(),
    }
}

/// AVG of a DECIMAL has at least 6 digits behind the point; whole numbers keep their type.
fn averaged(root: &TypeRoot) -> TypeRoot {
    match root {
        TypeRoot::Decimal { scale, .. } => TypeRoot::Decimal {
            precision: MAX_PRECISION,
            scale: (*scale).max(6),
        },
        other => other.clone(),
    }
}

/// Whether Flink finds the least and greatest of such values.
fn is_ordered(root: &TypeRoot) -> bool {
    is_numeric(root) || is_character(root) || is_datetime(root) || *root == TypeRoot::Boolean
}

/// Of a type that has no order.
fn root_name(root: &TypeRoot) -> String {
    match root {
        TypeRoot::Array(_) => "ARRAY".into(),
        TypeRoot::Map(..) => "MAP".into(),
        TypeRoot::Multiset(_) => "MULTISET".into(),
        TypeRoot::Row(_) => "ROW".into(),
        TypeRoot::Binary(_) => "BINARY".into(),
        TypeRoot::VarBinary(_) => "VARBINARY".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, root: TypeRoot) -> Option<DataType> {
        resolve_aggregate(name, &[DataType::not_null(root)], false)
            .ok()
            .map(|signature| signature.result)
    }

    #[test]
    fn sums_and_averages_of_whole_numbers_keep_their_type() {
        for root in [
            TypeRoot::TinyInt,
            TypeRoot::Int,
            TypeRoot::BigInt,
            TypeRoot::Float,
        ] {
            assert_eq!(
                result("SUM", root.clone()),
                Some(DataType::nullable(root.clone()))
            );
            assert_eq!(result("AVG", root.clone()), Some(DataType::nullable(root)));
        }
    }

    #[test]
    fn sums_and_averages_of_decimals_have_38_digits() {
        let decimal = |precision, scale| TypeRoot::Decimal { precision, scale };
        assert_eq!(
            result("SUM", decimal(10, 2)),
            Some(DataType::nullable(decimal(38, 2)))
        );
        assert_eq!(
            result("AVG", decimal(10, 2)),
            Some(DataType::nullable(decimal(38, 6)))
        );
        assert_eq!(
            result("AVG", decimal(10, 8)),
            Some(DataType::nullable(decimal(38, 8)))
        );
    }

    #[test]
    fn counts_are_never_null() {
        assert_eq!(result("COUNT", TypeRoot::Date), Some(bigint()));
        assert_eq!(
            resolve_aggregate("COUNT", &[], false).map(|signature| signature.result),
            Ok(bigint())
        );
    }

    #[test]
    fn what_has_no_order_has_no_least_value() {
        let message = |name: &str, root: TypeRoot| {
            let refused = resolve_aggregate(name, &[DataType::nullable(root)], false);
            refused
                .map(|signature| signature.result)
                .map_err(|error| error.message)
        };
        assert_eq!(
            message("MAX", TypeRoot::VarBinary(10)),
            Err(
                "Max aggregate function does not support type: ''VARBINARY''. Please re-check the data type."
                    .into()
            )
        );
        assert!(message("SUM", TypeRoot::Date).is_err_and(|message| message.contains("'SUM(<DATE>)'")));
    }

    #[test]
    fn results_of_lists_follow_their_arguments() {
        let int = DataType::not_null(TypeRoot::Int);
        let array = DataType::not_null(TypeRoot::Array(Box::new(int.clone())));
        assert_eq!(result("ARRAY_AGG", TypeRoot::Int), Some(array));
        assert_eq!(
            result("COLLECT", TypeRoot::Int),
            Some(DataType::not_null(TypeRoot::Multiset(Box::new(int))))
        );
        assert_eq!(
            result("LISTAGG", TypeRoot::Char(3)),
            Some(DataType::nullable(TypeRoot::Char(3)))
        );
        assert_eq!(result("LISTAGG", TypeRoot::Int), None);
    }

    #[test]
    fn a_row_before_has_a_default_of_its_own_type() {
        let int = |nullable| DataType {
            root: TypeRoot::Int,
            nullable,
        };
        let lag = |default: DataType| resolve_aggregate("LAG", &[int(true), int(false), default], false);
        assert_eq!(lag(int(false)).map(|signature| signature.result), Ok(int(false)));
        assert_eq!(
            lag(DataType::not_null(TypeRoot::Char(1))).map_err(|error| error.message),
            Err("Please explicitly cast default value CHAR(1) NOT NULL to INT NOT NULL.".into())
        );
    }

    #[test]
    fn counts_of_several_columns_and_approximate_ones_are_refused_as_in_flinks_streams() {
        let string = DataType::string();
        for (name, args) in [
            ("APPROX_COUNT_DISTINCT", vec![string.clone()]),
            ("COUNT", vec![string.clone(), string]),
        ] {
            let refused = resolve_aggregate(name, &args, false);
            assert_eq!(
                refused.map_err(|error| error.kind),
                Err(ResolveErrorKind::Unsupported)
            );
        }
    }
}
