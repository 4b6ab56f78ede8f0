use super::super::testing::check;
use crate::testing::{null, text};
use thalweg_plan::{Expr, TypeRoot};

const DOCUMENT: &str = r#"{"a": 1, "b": {"c": "x"}, "d": [1, 2, {"e": true}], "n": null}"#;

fn value(path: &str, words: [&str; 4]) -> Vec<Expr> {
    let none = || null(TypeRoot::VarChar(9));
    let or_null = |word: &str| if word.is_empty() { none() } else { text(word) };
    let [on_empty, default, on_error, other] = words;
    vec![
        text(DOCUMENT),
        text(path),
        text(on_empty),
        or_null(default),
        text(on_error),
        or_null(other),
    ]
}

#[test]
fn values_are_scalars() {
    let plain = ["NULL", "", "NULL", ""];
    let default = ["DEFAULT", "none", "DEFAULT", "failed"];
    check(&[
        ("JSON_VALUE", &value("$.a", plain), "1"),
        ("JSON_VALUE", &value("lax $.b.c", plain), "x"),
        ("JSON_VALUE", &value("$.d[0]", plain), "1"),
        ("JSON_VALUE", &value("$.d", plain), "NULL"),
        ("JSON_VALUE", &value("$.n", plain), "NULL"),
        // A path without a mode is strict: what isn't there is an error.
        ("JSON_VALUE", &value("$.zz", default), "failed"),
        ("JSON_VALUE", &value("lax $.zz", default), "none"),
        ("JSON_VALUE", &value("lax $.b", default), "none"),
        (
            "JSON_VALUE",
            &value("strict $.zz", ["NULL", "", "ERROR", ""]),
            "error: No results for path",
        ),
    ]);
}

#[test]
fn queries_give_arrays_and_objects() {
    let query = |path: &str, wrapper: &str, on_empty: &str| -> Vec<Expr> {
        vec![
            text(DOCUMENT),
            text(path),
            text(wrapper),
            text(on_empty),
            text("NULL"),
        ]
    };
    check(&[
        ("JSON_QUERY", &query("$.b", "WITHOUT", "NULL"), r#"{"c":"x"}"#),
        (
            "JSON_QUERY",
            &query("$.d", "WITHOUT", "NULL"),
            r#"[1,2,{"e":true}]"#,
        ),
        ("JSON_QUERY", &query("$.a", "UNCONDITIONAL", "NULL"), "[1]"),
        (
            "JSON_QUERY",
            &query("$.d", "CONDITIONAL", "NULL"),
            r#"[1,2,{"e":true}]"#,
        ),
        ("JSON_QUERY", &query("$.zz", "WITHOUT", "EMPTY ARRAY"), "NULL"),
        ("JSON_QUERY", &query("lax $.zz", "WITHOUT", "EMPTY OBJECT"), "{}"),
        (
            "JSON_EXISTS",
            &[text(DOCUMENT), text("$.a"), text("FALSE")],
            "TRUE",
        ),
        (
            "JSON_EXISTS",
            &[text("not json"), text("$.a"), text("UNKNOWN")],
            "NULL",
        ),
        ("IS JSON OBJECT", &[text(DOCUMENT)], "TRUE"),
        ("IS JSON", &[text("not json")], "FALSE"),
        ("IS JSON SCALAR", &[text("1")], "TRUE"),
    ]);
}

#[test]
fn quotes_go_around_and_off() {
    check(&[
        ("JSON_QUOTE", &[text("a\"/é😀")], r#""a\"\/\u00e9\ud83d\ude00""#),
        ("JSON_UNQUOTE", &[text(r#""q\u0041""#)], "qA"),
        ("JSON_UNQUOTE", &[text("plain")], "plain"),
    ]);
}
