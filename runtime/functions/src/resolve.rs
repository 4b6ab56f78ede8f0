//! Names and typed arguments to typed calls, with the casts that Flink makes written out.

use thalweg_plan::{DataType, Expr, ExprKind, Literal, TypeRoot};

use crate::casts;
use crate::registry::{ResolveError, ResolveErrorKind, ScalarFunction, Signature};
use crate::user::may_differ;
use crate::{aggregates, operators, scalar, table_functions};

/// What documentation and SHOW FUNCTIONS say of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Upper case.
    pub name: &'static str,
    /// "SUBSTRING(string, position [, length])".
    pub usage: &'static str,
    /// What it is called on.
    pub kind: FunctionKind,
}

/// Kinds of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// One value a row.
    Scalar,
    /// One value a group of rows.
    Aggregate,
    /// Rows for a row.
    Table,
}

/// Types a call: chooses the overload, writes implicit casts out, gives nullability.
///
/// # Errors
/// There is no such function, or the arguments don't fit it.
pub fn resolve_scalar(
    name: &str,
    args: Vec<Expr>,
    position: Option<(u32, u32)>,
) -> Result<Expr, ResolveError> {
    let name = canonical(name);
    if name == "NULLIF" {
        return null_if(args, position);
    }
    match name.as_str() {
        "UNARY +" => return sign(args),
        "TYPEOF" => return type_of(&args, position),
        _ => {}
    }
    let Some(function) = find(&name) else {
        let kind = if is_known(&name) {
            ResolveErrorKind::Arguments
        } else {
            ResolveErrorKind::Unknown
        };
        return Err(ResolveError {
            message: format!(
                "No match found for function signature {}",
                signature_of(&name, &args)
            ),
            kind,
        });
    };
    let args = scalar::prepare(function.name, args);
    let Signature { args: wanted, result } =
        (function.infer)(&args).map_err(|fitting| refused(function, &args, &fitting))?;
    let mut cast_args = Vec::with_capacity(args.len());
    for (arg, wanted) in args.into_iter().zip(&wanted) {
        cast_args.push(cast_if_needed(arg, wanted)?);
    }
    let call = Expr::call(function.name, cast_args, result);
    Ok(call.at(position))
}

/// Other names of operators and functions.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    match name.as_str() {
        "!=" => "<>".into(),
        "IS UNKNOWN" => "IS NULL".into(),
        "IS NOT UNKNOWN" => "IS NOT NULL".into(),
        "IFNULL" => "COALESCE".into(),
        _ => name,
    }
}

/// NULLIF(a, b) is CASE WHEN a = b THEN NULL ELSE a END.
fn null_if(args: Vec<Expr>, position: Option<(u32, u32)>) -> Result<Expr, ResolveError> {
    let [value, other] = <[Expr; 2]>::try_from(args).map_err(|args| {
        ResolveError::arguments(format!(
            "Invalid number of arguments to function 'NULLIF': {}",
            args.len()
        ))
    })?;
    let null = Expr::literal(Literal::Null, value.data_type.clone().with_nullable(true));
    let equal = resolve_scalar("=", vec![value.clone(), other], position)?;
    resolve_scalar("CASE", vec![equal, null, value], position)
}

/// +x is x, if it has a sign.
fn sign(args: Vec<Expr>) -> Result<Expr, ResolveError> {
    let value = args.first().cloned();
    resolve_scalar("UNARY -", args, None)?;
    value.ok_or_else(|| ResolveError::arguments("Invalid number of arguments to function '+'"))
}

/// The type's name, which is known without rows. A second argument asks for names that can be parsed again, which all are.
fn type_of(args: &[Expr], position: Option<(u32, u32)>) -> Result<Expr, ResolveError> {
    let (value, rest) = args
        .split_first()
        .filter(|(_, rest)| rest.len() <= 1)
        .ok_or_else(|| ResolveError::arguments("Invalid number of arguments to function 'TYPEOF'"))?;
    if rest.iter().any(|flag| flag.data_type.root != TypeRoot::Boolean) {
        return Err(ResolveError::arguments(
            "TYPEOF takes a value and a BOOLEAN literal",
        ));
    }
    let name = Literal::String(value.data_type.to_string().into());
    Ok(Expr::literal(name, DataType::string().with_nullable(false)).at(position))
}

fn refused(function: &ScalarFunction, args: &[Expr], fitting: &str) -> ResolveError {
    // What is no list of types is a message of its own.
    if !fitting.starts_with('(') {
        return ResolveError::arguments(fitting);
    }
    let is_word = function.usage.starts_with(function.name);
    let form = if is_word {
        format!("{}{fitting}", function.name)
    } else {
        function.usage.to_owned()
    };
    ResolveError::arguments(format!(
        "Cannot apply '{}' to arguments of type '{}'. Supported form(s): '{form}'",
        function.name.trim_start_matches("UNARY "),
        signature_of(function.name, args),
    ))
}

/// As Calcite writes it: "LOWER(<INTEGER>)", "<INTEGER> + <CHAR(1)>", "<INTEGER> IS TRUE", "-<DATE>".
fn signature_of(name: &str, args: &[Expr]) -> String {
    let types: Vec<String> = args
        .iter()
        .map(|arg| format!("<{}>", type_name(&arg.data_type.root)))
        .collect();
    let is_sign = !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    match types.as_slice() {
        [left, right] if is_sign || matches!(name, "AND" | "OR") || name.starts_with("IS ") => {
            format!("{left} {name} {right}")
        }
        [arg] if name.starts_with("IS ") => format!("{arg} {name}"),
        [arg] if name.starts_with("UNARY ") || name == "NOT" => {
            format!("{}{arg}", name.trim_start_matches("UNARY "))
        }
        types => format!("{name}({})", types.join(", ")),
    }
}

/// Calcite's name of a type.
pub(crate) fn type_name(root: &TypeRoot) -> String {
    match root {
        TypeRoot::Int => "INTEGER".into(),
        TypeRoot::VarChar(length) => format!("VARCHAR({length})"),
        TypeRoot::VarBinary(length) => format!("VARBINARY({length})"),
        TypeRoot::Array(element) => format!("{} ARRAY", type_name(&element.root)),
        TypeRoot::Multiset(element) => format!("{} MULTISET", type_name(&element.root)),
        TypeRoot::Map(key, value) => format!("({}, {}) MAP", type_name(&key.root), type_name(&value.root)),
        TypeRoot::TimestampLtz(precision, _) => format!("TIMESTAMP_WITH_LOCAL_TIME_ZONE({precision})"),
        TypeRoot::Row(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", type_name(&field.data_type.root), field.name))
                .collect();
            format!("RecordType:peek_no_expand({})", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// An operator or function by its canonical name.
pub(crate) fn find(name: &str) -> Option<&'static ScalarFunction> {
    operators::find(name).or_else(|| scalar::find(name))
}

/// CAST or TRY_CAST that was written.
///
/// # Errors
/// Flink refuses it.
pub fn cast(arg: Expr, to: DataType, try_cast: bool) -> Result<Expr, ResolveError> {
    if !casts::allows_explicit(&arg.data_type.root, &to.root) {
        return Err(casts::refusal(&arg.data_type.root, &to.root));
    }
    let fails_as_null = try_cast || may_overflow(&arg, &to.root);
    let nullable = arg.data_type.nullable || fails_as_null;
    let to = to.with_nullable(nullable);
    if arg.data_type.root == TypeRoot::Null {
        return Ok(Expr::literal(Literal::Null, to.with_nullable(true)).at(arg.position));
    }
    if same_values(&arg.data_type.root, &to.root) {
        return Ok(retyped(arg, to));
    }
    let position = arg.position;
    let function = if try_cast { "TRY_CAST" } else { "CAST" };
    Ok(Expr::call(function, vec![arg], to).at(position))
}

/// Whether a value may have too many digits for a DECIMAL; of a literal it is known.
fn may_overflow(arg: &Expr, to: &TypeRoot) -> bool {
    let (value, scale) = match (&arg.kind, &arg.data_type.root) {
        (ExprKind::Literal(Literal::Int(value)), _) => (i128::from(*value), 0),
        (ExprKind::Literal(Literal::Decimal(value)), TypeRoot::Decimal { scale, .. }) => (*value, *scale),
        (_, from) => return casts::gives_null(from, to),
    };
    match *to {
        TypeRoot::Decimal {
            precision,
            scale: wanted,
        } => casts::Rescale::new(scale, precision, wanted)
            .apply(value)
            .is_none(),
        _ => false,
    }
}

/// A cast that wasn't written: of a row's values to a sink's columns, of branches to their common type.
///
/// # Errors
/// Flink doesn't make it by itself.
pub fn implicit_cast(arg: Expr, to: &DataType) -> Result<Expr, ResolveError> {
    if !casts::allows_implicit(&arg.data_type.root, &to.root) {
        return Err(ResolveError::arguments(format!(
            "a value of type {} is not cast to {} by itself",
            arg.data_type, to
        )));
    }
    cast_if_needed(arg, to)
}

/// The argument as a value of a type, with its own nullability.
pub(crate) fn cast_if_needed(arg: Expr, wanted: &DataType) -> Result<Expr, ResolveError> {
    if same_values(&arg.data_type.root, &wanted.root) {
        return Ok(arg);
    }
    let nullable = arg.data_type.nullable || may_overflow(&arg, &wanted.root);
    let to = wanted.clone().with_nullable(nullable);
    match arg.data_type.root {
        TypeRoot::Null => Ok(Expr::literal(Literal::Null, to.with_nullable(true)).at(arg.position)),
        _ if casts::allows_explicit(&arg.data_type.root, &to.root) => Ok(arg.cast(to)),
        _ => Err(casts::refusal(&arg.data_type.root, &to.root)),
    }
}

/// Whether no value changes from one type to the other: a text that may be longer, a time attribute.
fn same_values(from: &TypeRoot, to: &TypeRoot) -> bool {
    match (from, to) {
        (TypeRoot::Timestamp(p, _), TypeRoot::Timestamp(q, _))
        | (TypeRoot::TimestampLtz(p, _), TypeRoot::TimestampLtz(q, _)) => p == q,
        (TypeRoot::Char(p) | TypeRoot::VarChar(p), TypeRoot::VarChar(q)) => p <= q,
        (TypeRoot::Binary(p) | TypeRoot::VarBinary(p), TypeRoot::VarBinary(q)) => p <= q,
        (from, to) => from == to,
    }
}

/// The same values under another type's name: a literal changes its type, all else keeps it but for what operators look at.
fn retyped(arg: Expr, to: DataType) -> Expr {
    match arg.kind {
        _ if arg.data_type == to => arg,
        ExprKind::Literal(_) => Expr { data_type: to, ..arg },
        _ => {
            let position = arg.position;
            Expr::call("CAST", vec![arg], to).at(position)
        }
    }
}

/// Whether there is a function of the name, scalar, aggregate or table.
pub fn is_known(name: &str) -> bool {
    let name = canonical(name);
    find(&name).is_some()
        || name == "NULLIF"
        || aggregates::is_known(&name)
        || table_functions::is_known(&name)
}

/// All functions, operators among them, for documentation, SHOW FUNCTIONS and nearest names.
pub fn all_functions() -> impl Iterator<Item = FunctionInfo> {
    let scalar = operators::all()
        .chain(scalar::all())
        .map(|function| FunctionInfo {
            name: function.name,
            usage: function.usage,
            kind: FunctionKind::Scalar,
        });
    let rewritten = ADDITIONAL.iter().map(|&(name, usage)| FunctionInfo {
        name,
        usage,
        kind: FunctionKind::Scalar,
    });
    scalar
        .chain(rewritten)
        .chain(aggregates::all())
        .chain(table_functions::all())
}

/// What [`resolve_scalar`] and [`cast`] make other calls of.
const ADDITIONAL: &[(&str, &str)] = &[
    ("CAST", "CAST(value AS type)"),
    ("TRY_CAST", "TRY_CAST(value AS type)"),
    ("NULLIF", "NULLIF(value, value)"),
    ("IFNULL", "IFNULL(value, value)"),
    ("TYPEOF", "TYPEOF(value [, force_serializable])"),
];

/// Whether it has the same value for the same row at all times.
pub fn is_deterministic(expr: &Expr) -> bool {
    let mut deterministic = true;
    expr.visit(&mut |part| {
        if let ExprKind::Call { function, .. } = &part.kind {
            deterministic &=
                find(function).map_or(!may_differ(function), |function| function.is_deterministic);
        }
    });
    deterministic
}
