//! Operators as tables of expressions and values, as Flink gives them.

use thalweg_plan::{DataType, Expr, TypeRoot};

use crate::testing::{
    assert_shown, bigint, boolean, call, date, decimal, double, int, null, text, timestamp,
};
use crate::{cast, resolve_scalar};

fn root(expr: &Expr) -> TypeRoot {
    expr.data_type.root.clone()
}

fn days(days: i64) -> Expr {
    Expr::literal(
        thalweg_plan::Literal::Int(days * 86_400_000),
        DataType::not_null(TypeRoot::IntervalDaySecond),
    )
}

fn months(months: i64) -> Expr {
    Expr::literal(
        thalweg_plan::Literal::Int(months),
        DataType::not_null(TypeRoot::IntervalYearMonth),
    )
}

#[test]
fn whole_numbers_wrap_and_are_cut_as_javas() {
    assert_shown([
        (call("+", [int(i32::MAX), int(1)]), Ok("-2147483648")),
        (call("+", [bigint(i64::MAX), int(1)]), Ok("-9223372036854775808")),
        (call("*", [int(i32::MIN), int(2)]), Ok("0")),
        (call("/", [int(-7), int(2)]), Ok("-3")),
        (call("/", [int(i32::MIN), int(-1)]), Ok("-2147483648")),
        (call("%", [int(-7), int(2)]), Ok("-1")),
        (call("/", [int(1), int(0)]), Err("/ by zero")),
        (call("%", [int(1), int(0)]), Err("/ by zero")),
        (call("/", [null(TypeRoot::Int), int(0)]), Ok("NULL")),
        (call("UNARY -", [int(i32::MIN)]), Ok("-2147483648")),
    ]);
    assert_eq!(root(&call("%", [bigint(7), int(2)])), TypeRoot::Int);
    assert_eq!(root(&call("%", [int(7), bigint(2)])), TypeRoot::BigInt);
}

#[test]
fn decimals_have_flinks_precision_and_scale() {
    let m = |value: &str| decimal(value, 5, 2);
    assert_shown([
        (call("/", [m("2.50"), int(3)]), Ok("0.8333333333333")),
        (call("/", [m("-10.25"), int(3)]), Ok("-3.4166666666667")),
        (call("/", [m("999.99"), decimal("2.5", 2, 1)]), Ok("399.996000")),
        (call("+", [m("2.50"), int(1)]), Ok("3.50")),
        (call("*", [m("-10.25"), m("-10.25")]), Ok("105.0625")),
        (call("-", [m("2.50"), decimal("0.5", 2, 1)]), Ok("2.00")),
        (call("%", [m("-10.25"), int(3)]), Ok("-1.25")),
        (call("UNARY -", [m("2.50")]), Ok("-2.50")),
        (call("/", [m("1.00"), m("0.00")]), Err("Division by zero")),
        (call("+", [m("2.50"), double(0.25)]), Ok("2.75")),
    ]);
    let price = call("*", [decimal("0.908", 3, 3), bigint(1)]);
    assert_eq!(
        root(&price),
        TypeRoot::Decimal {
            precision: 23,
            scale: 3
        }
    );
}

#[test]
fn doubles_divide_by_zero() {
    assert_shown([
        (call("/", [double(1.0), int(0)]), Ok("Infinity")),
        (call("/", [double(0.0), double(0.0)]), Ok("NaN")),
        (call("*", [double(1.5), int(2)]), Ok("3.0")),
    ]);
}

#[test]
fn points_of_time_move_by_intervals() {
    let t = || timestamp("2024-01-31 10:00:00.5", 3);
    assert_shown([
        (call("+", [t(), months(1)]), Ok("2024-02-29 10:00:00.500")),
        (call("-", [t(), days(31)]), Ok("2023-12-31 10:00:00.500")),
        (call("+", [days(1), t()]), Ok("2024-02-01 10:00:00.500")),
        (call("+", [date("2024-02-28"), days(1)]), Ok("2024-02-29")),
        (call("-", [date("2024-03-31"), months(13)]), Ok("2023-02-28")),
        (call("+", [days(1), days(2)]), Ok("+3 00:00:00.000")),
        (call("*", [months(7), int(2)]), Ok("+1-02")),
        (call("UNARY -", [days(1)]), Ok("-1 00:00:00.000")),
        (call("UNARY +", [months(1)]), Ok("+0-01")),
        (call("<", [days(1), days(2)]), Ok("TRUE")),
        (call("=", [months(1), months(2)]), Ok("FALSE")),
    ]);
}

#[test]
fn numbers_compare_in_their_common_type_and_nan_with_nothing() {
    assert_shown([
        (call("=", [int(1), double(1.0)]), Ok("TRUE")),
        (call("<", [decimal("2.50", 5, 2), int(3)]), Ok("TRUE")),
        (
            call("=", [decimal("2.50", 5, 2), decimal("2.5", 2, 1)]),
            Ok("TRUE"),
        ),
        (call("=", [double(f64::NAN), double(f64::NAN)]), Ok("FALSE")),
        (call(">", [double(f64::NAN), double(1.0)]), Ok("FALSE")),
        (call("=", [double(0.0), double(-0.0)]), Ok("TRUE")),
        (call("<>", [null(TypeRoot::Int), int(1)]), Ok("NULL")),
        (
            call("IS DISTINCT FROM", [null(TypeRoot::Int), int(1)]),
            Ok("TRUE"),
        ),
        (
            call(
                "IS NOT DISTINCT FROM",
                [null(TypeRoot::Double), null(TypeRoot::Double)],
            ),
            Ok("TRUE"),
        ),
    ]);
}

#[test]
fn texts_compare_by_bytes_and_are_read_as_times() {
    assert_shown([
        (call("<", [text("Z"), text("a")]), Ok("TRUE")),
        (call("=", [text("a"), text("a ")]), Ok("FALSE")),
        (call("=", [date("2024-01-02"), text("2024-01-02")]), Ok("TRUE")),
        (
            call(">", [timestamp("2024-01-02 00:00:01", 3), text("2024-01-02")]),
            Ok("TRUE"),
        ),
    ]);
    assert_shown([
        (call("<", [int(1), text("2")]), Ok("TRUE")),
        (
            call("<", [text("abc"), int(1)]),
            Err("For input string: 'abc'. Invalid character found."),
        ),
        (call("IN", [int(1), text("0"), text("1")]), Ok("TRUE")),
        (call("=", [boolean(true), text("true")]), Ok("FALSE")),
        (call("=", [boolean(true), text("TRUE")]), Ok("TRUE")),
    ]);
    let refused = resolve_scalar("=", vec![int(1), text("1")], None).unwrap_err();
    assert_eq!(
        refused.message,
        "implicit type conversion between INTEGER and CHAR is not supported now"
    );
}

#[test]
fn truths_are_three_valued() {
    let unknown = || null(TypeRoot::Boolean);
    assert_shown([
        (call("AND", [boolean(false), unknown()]), Ok("FALSE")),
        (call("AND", [unknown(), boolean(true)]), Ok("NULL")),
        (call("OR", [unknown(), boolean(true)]), Ok("TRUE")),
        (call("OR", [unknown(), boolean(false)]), Ok("NULL")),
        (call("NOT", [unknown()]), Ok("NULL")),
        (call("IS TRUE", [unknown()]), Ok("FALSE")),
        (call("IS NOT TRUE", [unknown()]), Ok("TRUE")),
        (call("IS FALSE", [boolean(false)]), Ok("TRUE")),
        (call("IS NOT FALSE", [unknown()]), Ok("TRUE")),
        (call("IS NULL", [unknown()]), Ok("TRUE")),
        (call("IS UNKNOWN", [boolean(true)]), Ok("FALSE")),
    ]);
}

/// `first IN (1, .., 12, NULL)`.
fn long_list(first: Expr, item: impl Fn(i32) -> Expr) -> Expr {
    let null = null(first.data_type.root.clone());
    let args = std::iter::once(first).chain((1..=12).map(item)).chain([null]);
    resolve_scalar("IN", args.collect(), None).unwrap()
}

#[test]
fn in_is_unknown_only_if_nothing_else_is_true() {
    assert_shown([
        (call("IN", [int(1), int(2), bigint(1)]), Ok("TRUE")),
        (call("IN", [int(1), null(TypeRoot::Int), int(1)]), Ok("TRUE")),
        (call("IN", [int(1), null(TypeRoot::Int), int(2)]), Ok("NULL")),
        (call("IN", [text("a"), text("bb"), text("a")]), Ok("TRUE")),
        (long_list(int(9), int), Ok("TRUE")),
        (long_list(int(99), int), Ok("NULL")),
        (long_list(text("7"), |item| text(&item.to_string())), Ok("TRUE")),
        (
            long_list(null(TypeRoot::BigInt), |item| bigint(item.into())),
            Ok("NULL"),
        ),
    ]);
}

#[test]
fn a_branch_that_would_fail_is_not_taken() {
    let fails = || call("/", [int(1), int(0)]);
    assert_shown([
        (call("CASE", [boolean(false), fails(), int(2)]), Ok("2")),
        (call("IF", [boolean(true), int(1), fails()]), Ok("1")),
        (call("IF", [boolean(true), fails(), int(1)]), Err("/ by zero")),
        (call("COALESCE", [int(1), fails()]), Ok("1")),
        (
            call("AND", [boolean(false), call("=", [fails(), int(1)])]),
            Ok("FALSE"),
        ),
        (
            call("OR", [boolean(true), call("=", [fails(), int(1)])]),
            Ok("TRUE"),
        ),
        (
            call("AND", [boolean(true), call("=", [fails(), int(1)])]),
            Err("/ by zero"),
        ),
    ]);
}

#[test]
fn branches_have_their_common_type() {
    let mixed = call("CASE", [boolean(true), int(1), decimal("2.5", 2, 1)]);
    assert_eq!(
        root(&mixed),
        TypeRoot::Decimal {
            precision: 11,
            scale: 1
        }
    );
    assert_shown([
        (mixed, Ok("1.0")),
        (
            call("CASE", [null(TypeRoot::Boolean), text("a"), null(TypeRoot::Null)]),
            Ok("NULL"),
        ),
        (
            call("CASE", [boolean(false), text("a"), text("long")]),
            Ok("long"),
        ),
        (call("COALESCE", [null(TypeRoot::Int), bigint(3)]), Ok("3")),
        (call("NULLIF", [int(1), int(1)]), Ok("NULL")),
        (call("NULLIF", [int(1), bigint(2)]), Ok("1")),
        (call("GREATEST", [int(1), bigint(3), int(2)]), Ok("3")),
        (call("LEAST", [int(1), null(TypeRoot::Int)]), Ok("NULL")),
        (call("LEAST", [text("b"), text("ab")]), Ok("ab")),
    ]);
    assert!(resolve_scalar("CASE", vec![boolean(true), int(1), text("a")], None).is_err());
}

#[test]
fn collections_are_built_and_read() {
    let array = || call("ARRAY", [int(1), null(TypeRoot::Int), int(3)]);
    let map = || call("MAP", [text("a"), int(1), text("bb"), int(2), text("a"), int(3)]);
    assert_shown([
        (array(), Ok("[1, NULL, 3]")),
        (call("ITEM", [array(), int(3)]), Ok("3")),
        (call("ITEM", [array(), int(4)]), Ok("NULL")),
        (call("CARDINALITY", [array()]), Ok("3")),
        (map(), Ok("{a=3, bb=2}")),
        (call("ITEM", [map(), text("bb")]), Ok("2")),
        (call("ITEM", [map(), text("x")]), Ok("NULL")),
        (call("CARDINALITY", [map()]), Ok("2")),
        (
            call("ROW", [int(1), text("x"), null(TypeRoot::Date)]),
            Ok("(1, x, NULL)"),
        ),
        (call("FIELD", [call("ROW", [int(1), text("x")]), int(1)]), Ok("x")),
        (call("ELEMENT", [call("ARRAY", [int(7)])]), Ok("7")),
        (call("ELEMENT", [array()]), Err("more than one element")),
        (call("=", [array(), array()]), Ok("TRUE")),
        (
            call("=", [map(), call("MAP", [text("bb"), int(2), text("a"), int(3)])]),
            Ok("TRUE"),
        ),
        (
            call(
                "<>",
                [call("ROW", [int(1), int(2)]), call("ROW", [int(1), int(3)])],
            ),
            Ok("TRUE"),
        ),
    ]);
    let refused = |function: &str, args: Vec<Expr>| resolve_scalar(function, args, None).unwrap_err().message;
    assert_eq!(
        refused("ITEM", vec![array(), int(0)]),
        "Array element access needs an index starting at 1 but was 0."
    );
    refused("ITEM", vec![array(), bigint(1)]);
    refused("ARRAY", Vec::new());
    refused("MAP", Vec::new());
}

#[test]
fn patterns_match_texts() {
    let not_null = cast(text("a%c"), DataType::string(), false).unwrap();
    assert_shown([
        (call("LIKE", [text("abc"), not_null]), Ok("TRUE")),
        (call("LIKE", [text("a%c"), text("a!%c"), text("!")]), Ok("TRUE")),
        (call("LIKE", [text("abc"), text("a!%c"), text("!")]), Ok("FALSE")),
        (
            call("LIKE", [text("abc"), text("a!bc"), text("!")]),
            Err("Invalid escape sequence"),
        ),
        (call("LIKE", [null(TypeRoot::Char(1)), text("a")]), Ok("NULL")),
        (call("SIMILAR TO", [text("abc"), text("(a|b)%")]), Ok("TRUE")),
    ]);
}

#[test]
fn types_have_flinks_names() {
    assert_shown([
        (call("TYPEOF", [int(1)]), Ok("INT NOT NULL")),
        (
            call(
                "TYPEOF",
                [cast(int(1), decimal("0", 5, 2).data_type, false).unwrap()],
            ),
            Ok("DECIMAL(5, 2) NOT NULL"),
        ),
        (
            call(
                "TYPEOF",
                [cast(int(1000), decimal("0", 5, 2).data_type, false).unwrap()],
            ),
            Ok("DECIMAL(5, 2)"),
        ),
        (call("TYPEOF", [days(1)]), Ok("INTERVAL SECOND(3) NOT NULL")),
        (
            call("TYPEOF", [call("ARRAY", [int(1)])]),
            Ok("ARRAY<INT NOT NULL> NOT NULL"),
        ),
        (
            call("TYPEOF", [call("/", [decimal("1", 5, 2), decimal("1", 7, 3)])]),
            Ok("DECIMAL(16, 10) NOT NULL"),
        ),
        (
            call("TYPEOF", [call("+", [decimal("1", 38, 10), decimal("1", 20, 5)])]),
            Ok("DECIMAL(38, 9) NOT NULL"),
        ),
        (
            call(
                "TYPEOF",
                [call("*", [decimal("1", 30, 10), decimal("1", 30, 10)])],
            ),
            Ok("DECIMAL(38, 6) NOT NULL"),
        ),
        (
            call("TYPEOF", [call("MOD", [decimal("1", 10, 2), int(3)])]),
            Ok("DECIMAL(10, 2) NOT NULL"),
        ),
    ]);
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let refused = resolve_scalar("+", vec![int(1), boolean(true)], None).unwrap_err();
    assert!(refused.message.contains("<INTEGER> + <BOOLEAN>"), "{refused}");
    let unknown = resolve_scalar("FROBNICATE", vec![int(1)], None).unwrap_err();
    assert_eq!(
        (unknown.message.as_str(), unknown.kind),
        (
            "No match found for function signature FROBNICATE(<INTEGER>)",
            crate::ResolveErrorKind::Unknown
        )
    );
}
