//! Casts as tables of values, types and results, as Flink gives them.

use thalweg_plan::data_type::{MAX_LENGTH, TimeKind};
use thalweg_plan::{DataType, Expr, Field, Literal, TypeRoot};

use crate::testing::{
    assert_shown, bigint, boolean, call, date, decimal, double, int, null, text, timestamp,
};
use crate::{ResolveErrorKind, cast, implicit_cast};

const STRING: TypeRoot = TypeRoot::VarChar(MAX_LENGTH);

fn to(root: TypeRoot, arg: Expr) -> Expr {
    cast(arg, DataType::nullable(root), false).unwrap()
}

fn tried(root: TypeRoot, value: &str) -> Expr {
    cast(text(value), DataType::nullable(root), true).unwrap()
}

fn dec(precision: u8, scale: u8) -> TypeRoot {
    TypeRoot::Decimal { precision, scale }
}

fn ts(precision: u8) -> TypeRoot {
    TypeRoot::Timestamp(precision, TimeKind::Regular)
}

fn ltz(precision: u8) -> TypeRoot {
    TypeRoot::TimestampLtz(precision, TimeKind::Regular)
}

#[test]
fn numbers_become_narrower_as_in_java_and_decimals_null() {
    assert_shown([
        (to(TypeRoot::SmallInt, bigint(i64::MAX)), Ok("-1")),
        (to(TypeRoot::TinyInt, int(i32::MIN)), Ok("0")),
        (to(TypeRoot::Int, double(1e10)), Ok("2147483647")),
        (to(TypeRoot::Int, double(-2.5)), Ok("-2")),
        (to(TypeRoot::TinyInt, double(300.0)), Ok("44")),
        (to(TypeRoot::BigInt, double(f64::NAN)), Ok("0")),
        (to(TypeRoot::Int, decimal("999.99", 5, 2)), Ok("999")),
        (to(TypeRoot::Int, decimal("-10.25", 5, 2)), Ok("-10")),
        (to(dec(3, 1), decimal("999.99", 5, 2)), Ok("NULL")),
        (to(dec(3, 1), decimal("-10.25", 5, 2)), Ok("-10.3")),
        (to(dec(20, 1), double(1e10)), Ok("10000000000.0")),
        (to(dec(3, 0), int(1000)), Ok("NULL")),
        (to(TypeRoot::Double, decimal("2.50", 5, 2)), Ok("2.5")),
        (to(TypeRoot::Boolean, int(-3)), Ok("TRUE")),
        (to(TypeRoot::Boolean, double(0.0)), Ok("FALSE")),
        (to(dec(10, 2), double(f64::NAN)), Err("Character N is neither")),
        (to(TypeRoot::Int, boolean(true)), Ok("1")),
        (to(dec(2, 1), boolean(true)), Ok("1.0")),
        (to(TypeRoot::Float, double(0.1)), Ok("0.1")),
    ]);
}

#[test]
fn numbers_are_written_as_java_writes_them() {
    assert_shown([
        (to(STRING, double(7.0)), Ok("7.0")),
        (to(STRING, double(1e10)), Ok("1.0E10")),
        (to(STRING, double(-2_147_483_648.0)), Ok("-2.147483648E9")),
        (to(STRING, decimal("0.0000001", 10, 7)), Ok("0.0000001")),
        (to(STRING, boolean(false)), Ok("FALSE")),
        (to(TypeRoot::Char(4), int(12)), Ok("12  ")),
        (to(TypeRoot::VarChar(2), int(123)), Ok("12")),
    ]);
}

#[test]
fn texts_are_read_as_numbers() {
    assert_shown([
        (to(TypeRoot::Int, text(" 12 ")), Ok("12")),
        (to(TypeRoot::Int, text("1.5")), Ok("1")),
        (
            to(TypeRoot::Int, text("x")),
            Err("For input string: 'x'. Invalid character found."),
        ),
        (to(TypeRoot::Int, text("2147483648")), Err("Overflow.")),
        (to(TypeRoot::Int, text("")), Err("Input is empty.")),
        (to(TypeRoot::BigInt, text("2147483648")), Ok("2147483648")),
        (
            to(TypeRoot::BigInt, text("-9223372036854775808")),
            Ok("-9223372036854775808"),
        ),
        (
            to(TypeRoot::BigInt, text("9223372036854775808")),
            Err("Overflow."),
        ),
        (to(TypeRoot::TinyInt, text("128")), Err("Overflow.")),
        (to(TypeRoot::Double, text(" 1.5 ")), Ok("1.5")),
        (to(TypeRoot::Double, text("x")), Err("For input string: \"x\"")),
        (to(TypeRoot::Boolean, text("Yes")), Ok("TRUE")),
        (tried(TypeRoot::Boolean, " T "), Ok("NULL")),
        (
            to(TypeRoot::Boolean, text("x")),
            Err("Cannot parse 'x' as BOOLEAN."),
        ),
        (tried(TypeRoot::Boolean, "1.5"), Ok("NULL")),
        (tried(TypeRoot::Double, ""), Ok("NULL")),
        (tried(TypeRoot::SmallInt, "2147483648"), Ok("NULL")),
    ]);
}

#[test]
fn short_texts_are_read_as_decimals_with_flinks_oddities() {
    assert_shown([
        (tried(dec(6, 2), " 12 "), Ok("12.00")),
        (tried(dec(6, 2), "x"), Ok("0.00")),
        (tried(dec(6, 2), ""), Ok("NULL")),
        (tried(dec(6, 2), "true"), Ok("NULL")),
        (tried(dec(6, 2), "2147483648"), Ok("NULL")),
        (tried(dec(6, 2), "1.005"), Ok("1.01")),
        (tried(dec(6, 2), "-1.005"), Ok("-1.01")),
        (tried(dec(6, 2), "15e-1"), Ok("1.50")),
        (tried(dec(6, 2), "1.2.3"), Ok("NULL")),
        (tried(dec(20, 2), "x"), Ok("NULL")),
        (tried(dec(20, 2), "1e3"), Ok("1000.00")),
        (tried(dec(5, 2), "12x"), Ok("12.00")),
        (tried(dec(5, 2), "1e2"), Ok("100.00")),
        (
            to(dec(20, 2), text("x")),
            Err("Character x is neither a decimal digit number"),
        ),
        (to(dec(6, 2), text("123456")), Err("Overflow.")),
    ]);
}

#[test]
fn texts_are_cut_and_padded() {
    assert_shown([
        (to(TypeRoot::Char(3), text("x")), Ok("x  ")),
        (to(TypeRoot::Char(3), text("true")), Ok("tru")),
        (to(TypeRoot::VarChar(2), text("äöü")), Ok("äö")),
        (to(STRING, to(TypeRoot::Binary(3), text("ab"))), Ok("ab\0")),
        (to(STRING, to(TypeRoot::VarBinary(1), text("ab"))), Ok("a")),
    ]);
}

#[test]
fn texts_are_read_as_dates_and_times() {
    let time = TypeRoot::Time(0);
    assert_shown([
        (to(TypeRoot::Date, text("2024-2-9")), Ok("2024-02-09")),
        (to(TypeRoot::Date, text("2024-02-29 12:00:00")), Ok("2024-02-29")),
        (to(TypeRoot::Date, text("2024")), Ok("2024-01-01")),
        (tried(TypeRoot::Date, "2023-02-29"), Ok("NULL")),
        (to(TypeRoot::Date, text("nope")), Err("For input string: 'nope'.")),
        (to(time.clone(), text("12")), Ok("12:00:00")),
        (to(time.clone(), text("1:2:3.9")), Ok("01:02:03")),
        (to(TypeRoot::Time(3), text("12:30:15.5")), Ok("12:30:15.5")),
        (
            to(time.clone(), text("25:00:00")),
            Err("Invalid time format: '25:00:00'."),
        ),
        (to(time.clone(), text("12:00:00+02:00")), Ok("14:00:00")),
        (tried(time, "x"), Ok("NULL")),
        (
            to(ts(3), text("2024-1-2 3:4:5.6789")),
            Ok("2024-01-02 03:04:05.678"),
        ),
        (
            to(ts(9), text("2024-01-02 03:04:05.123456789")),
            Ok("2024-01-02 03:04:05.123456789"),
        ),
        (to(ts(0), text("2024-01-02")), Ok("2024-01-02 00:00:00")),
        (
            to(ts(3), text("2024-01-02 24:00:00")),
            Ok("2024-01-03 00:00:00.000"),
        ),
        (tried(ts(3), "2024-01-02 12:00"), Ok("NULL")),
        (
            to(ts(3), text("2024-01-02T12:00:00")),
            Err("unparsed text found at index 10"),
        ),
        (to(ts(3), text("2024-13-02")), Err("could not be parsed")),
    ]);
}

#[test]
fn points_of_time_become_each_other() {
    let t = |value: &str| timestamp(value, 3);
    assert_shown([
        (to(TypeRoot::Date, t("2024-02-29 23:59:59.123")), Ok("2024-02-29")),
        (to(TypeRoot::Date, t("1969-12-31 00:00:00.001")), Ok("1970-01-01")),
        (to(TypeRoot::Date, t("1969-12-30 20:13:20")), Ok("1969-12-31")),
        (to(TypeRoot::Date, t("1969-12-30 00:00:00")), Ok("1969-12-30")),
        (to(ts(3), date("1969-12-31")), Ok("1969-12-31 00:00:00.000")),
        (to(ts(0), t("2024-02-29 23:59:59.123")), Ok("2024-02-29 23:59:59")),
        (to(ts(0), t("1969-12-31 00:00:00.001")), Ok("1969-12-31 00:00:00")),
        (
            to(ts(6), t("2024-02-29 23:59:59.123")),
            Ok("2024-02-29 23:59:59.123000"),
        ),
        (
            to(TypeRoot::Time(0), t("2024-02-29 23:59:59.123")),
            Ok("23:59:59"),
        ),
    ]);
}

#[test]
fn instants_are_local_times_of_the_sessions_zone() {
    let instant = to(ltz(3), timestamp("2024-07-01 12:00:00", 3));
    let utc = Expr::literal(Literal::Timestamp(0, 0), DataType::not_null(ltz(3)));
    assert_shown([
        (to(STRING, instant.clone()), Ok("2024-07-01 12:00:00.000")),
        (to(STRING, utc.clone()), Ok("1970-01-01 01:00:00.000")),
        (to(ts(3), utc), Ok("1970-01-01 01:00:00.000")),
        (to(TypeRoot::Date, instant), Ok("2024-07-01")),
        (
            to(ltz(3), text("2024-03-31 02:30:00")),
            Ok("2024-03-31 03:30:00.000"),
        ),
        (to(ltz(0), date("2024-01-01")), Ok("2024-01-01 00:00:00")),
    ]);
}

#[test]
fn nested_values_are_cast_part_by_part_and_written() {
    let array = call("ARRAY", [text("1"), text("22")]);
    let wrong = || call("ARRAY", [text("1"), text("x")]);
    let ints = TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Int)));
    let row = call("ROW", [int(1), text("2")]);
    let wider = TypeRoot::Row(vec![
        Field::new("a", DataType::nullable(TypeRoot::BigInt)),
        Field::new("b", DataType::nullable(TypeRoot::Double)),
    ]);
    let map = call("MAP", [text("a"), int(1)]);
    let texts = TypeRoot::Map(Box::new(DataType::string()), Box::new(DataType::string()));
    assert_shown([
        (to(ints.clone(), array), Ok("[1, 22]")),
        (to(ints.clone(), wrong()), Err("For input string: 'x'.")),
        (cast(wrong(), DataType::nullable(ints), true).unwrap(), Ok("NULL")),
        (to(wider, row), Ok("(1, 2.0)")),
        (to(texts, map), Ok("{a=1}")),
        (
            to(TypeRoot::VarChar(4), call("ARRAY", [int(1), null(TypeRoot::Int)])),
            Ok("[1, "),
        ),
    ]);
}

#[test]
fn casts_that_flink_does_not_have_are_refused() {
    let refused = |arg: Expr, root: TypeRoot| cast(arg, DataType::nullable(root), false).unwrap_err();
    let advice = refused(int(1), ts(3));
    assert!(advice.message.contains("TO_TIMESTAMP(FROM_UNIXTIME"), "{advice}");
    assert_eq!(
        refused(date("2024-01-01"), TypeRoot::Int).kind,
        ResolveErrorKind::Arguments
    );
    refused(
        int(1),
        TypeRoot::Array(Box::new(DataType::nullable(TypeRoot::Int))),
    );
}

#[test]
fn sinks_take_wider_values_only() {
    let implicit = |arg: Expr, root: TypeRoot| implicit_cast(arg, &DataType::nullable(root));
    assert!(implicit(int(1), TypeRoot::BigInt).is_ok());
    assert!(implicit(double(1.0), dec(10, 2)).is_ok());
    assert!(implicit(bigint(1), TypeRoot::Int).is_err());
    assert!(implicit(int(1), STRING).is_err());
    assert!(implicit(text("1"), TypeRoot::Int).is_err());
}
