//! Expectations are real Flink's: `runtime/sql/tests/cases/expr/string_*.out`.

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use std::sync::Arc;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::super::testing::check;
use crate::testing::{env, int, null, text};
use crate::{Evaluator, resolve_scalar};

const MIXED: &str = "äöü€😀x";

#[test]
fn characters_are_code_points_where_flink_has_its_own_strings() {
    check(&[
        ("CHAR_LENGTH", &[text(MIXED)], "6"),
        ("REVERSE", &[text(MIXED)], "x😀€üöä"),
        ("SUBSTRING", &[text(MIXED), int(2), int(3)], "öü€"),
        ("SUBSTRING", &[text(MIXED), int(-3)], "€😀x"),
        ("SUBSTRING", &[text("Hello World"), int(0), int(2)], "He"),
        ("SUBSTRING", &[text("ab"), int(-3)], ""),
        ("SUBSTRING", &[text("ab"), int(1), int(-1)], "NULL"),
        ("LEFT", &[text(MIXED), int(3)], "äöü"),
        ("RIGHT", &[text(MIXED), int(3)], "€😀x"),
        ("LEFT", &[text("ab"), int(-1)], ""),
        ("POSITION", &[text("x"), text(MIXED)], "6"),
        ("LOCATE", &[text("o"), text("Hello World"), int(6)], "8"),
        ("INSTR", &[text("Hello World"), text("o")], "5"),
        (
            "INSTR",
            &[text("CORPORATE FLOOR"), text("OR"), int(-3), int(2)],
            "2",
        ),
        ("ASCII", &[text(MIXED)], "-61"),
    ]);
}

#[test]
fn characters_are_units_of_utf_16_where_flink_calls_java() {
    check(&[
        ("LPAD", &[text(MIXED), int(8), text("*")], "*äöü€😀x"),
        ("RPAD", &[text("  pad "), int(8), text("*-")], "  pad *-"),
        ("LPAD", &[text("Hello World"), int(2), text("x")], "He"),
        ("LPAD", &[text("a"), int(-1), text("x")], "NULL"),
        ("LPAD", &[text("a"), int(3), text("")], "NULL"),
        ("RPAD", &[text("😀"), int(1), text("x")], "?"),
        ("OVERLAY", &[text(MIXED), text("XX"), int(2), int(3)], "äXX😀x"),
        (
            "OVERLAY",
            &[text("Hello World"), text("XX"), int(2), int(3)],
            "HXXo World",
        ),
        ("OVERLAY", &[text("ab"), text("XX"), int(5)], "ab"),
    ]);
}

#[test]
fn texts_are_changed_as_in_flink() {
    let none = || null(TypeRoot::VarChar(9));
    check(&[
        ("UPPER", &[text(MIXED)], "ÄÖÜ€😀X"),
        ("INITCAP", &[text(MIXED)], "äöü€😀X"),
        ("INITCAP", &[text("hello wORLD 1a")], "Hello World 1a"),
        (
            "TRANSLATE",
            &[text("Hello World"), text("lo"), text("01")],
            "He001 W1r0d",
        ),
        ("TRANSLATE", &[text("abc"), text("ab"), text("x")], "xc"),
        (
            "REPLACE",
            &[text("Hello World"), text("o"), text("0")],
            "Hell0 W0rld",
        ),
        ("REPLACE", &[text("ab"), text(""), text("-")], "-a-b-"),
        ("REPEAT", &[text("ab"), int(2)], "abab"),
        ("REPEAT", &[text("ab"), int(-2)], ""),
        ("TRIM", &[text("BOTH"), text("x"), text(MIXED)], "äöü€😀"),
        ("TRIM", &[text("LEADING"), text("H"), text("Hello")], "ello"),
        ("LTRIM", &[text("  pad ")], "pad "),
        ("BTRIM", &[text("xxaxx"), text("x")], "a"),
        ("CONCAT", &[text("a"), none()], "NULL"),
        (
            "CONCAT_WS",
            &[text("-"), none(), text("x"), none(), text("y")],
            "x-y",
        ),
        ("CHR", &[int(97)], "a"),
        ("STARTSWITH", &[text("abc"), text("ab")], "TRUE"),
        (
            "UPPER",
            &[int(1)],
            "error: Cannot apply 'UPPER' to arguments of type 'UPPER(<INTEGER>)'",
        ),
    ]);
}

#[test]
fn columns_are_cased_at_once_or_text_by_text() {
    for (texts, expected) in [
        ([Some("Ab"), None, Some("")], [Some("ab"), None, Some("")]),
        ([Some("ÄB"), None, Some("C")], [Some("äb"), None, Some("c")]),
    ] {
        let column: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let batch = RecordBatch::try_from_iter_with_nullable([("s", column, true)]).unwrap();
        let lower = resolve_scalar("LOWER", vec![Expr::column(0, DataType::string())], None).unwrap();
        let evaluator = Evaluator::new(&[lower], &batch.schema(), env()).unwrap();
        let values = evaluator.evaluate(&batch).unwrap();
        assert_eq!(values[0].as_string::<i32>().iter().collect::<Vec<_>>(), expected);
    }
}
