use super::super::testing::check;
use crate::testing::{boolean, call, int, null, text};
use thalweg_plan::{Expr, TypeRoot};

fn array(elements: &[Expr]) -> Expr {
    crate::resolve_scalar("ARRAY", elements.to_vec(), None).unwrap()
}

#[test]
fn elements_are_found_and_picked_as_in_flink() {
    let a = array(&[int(3), int(1), int(2), int(1)]);
    let b = array(&[null(TypeRoot::Int), int(5)]);
    let one = || array(&[int(1)]);
    check(&[
        ("ARRAY_CONTAINS", &[a.clone(), int(1)], "TRUE"),
        ("ARRAY_CONTAINS", &[b.clone(), int(1)], "FALSE"),
        ("ARRAY_CONTAINS", &[b.clone(), null(TypeRoot::Int)], "TRUE"),
        ("ARRAY_POSITION", &[a.clone(), int(1)], "2"),
        ("ARRAY_POSITION", &[b.clone(), int(1)], "0"),
        ("ARRAY_POSITION", &[b.clone(), null(TypeRoot::Int)], "NULL"),
        ("ARRAY_DISTINCT", std::slice::from_ref(&a), "[3, 1, 2]"),
        ("ARRAY_REVERSE", std::slice::from_ref(&b), "[5, NULL]"),
        ("ARRAY_REMOVE", &[a.clone(), int(1)], "[3, 2]"),
        ("ARRAY_APPEND", &[b.clone(), int(7)], "[NULL, 5, 7]"),
        ("ARRAY_PREPEND", &[a.clone(), int(7)], "[7, 3, 1, 2, 1]"),
        ("ARRAY_UNION", &[a.clone(), array(&[int(9)])], "[3, 1, 2, 9]"),
        ("ARRAY_CONCAT", &[a.clone(), array(&[int(9)])], "[3, 1, 2, 1, 9]"),
        ("ARRAY_EXCEPT", &[a.clone(), one()], "[3, 2]"),
        ("ARRAY_EXCEPT", &[b.clone(), one()], "[NULL, 5]"),
        ("ARRAY_INTERSECT", &[a.clone(), array(&[int(1), int(5)])], "[1]"),
        ("ARRAY_SLICE", &[a.clone(), int(2), int(3)], "[1, 2]"),
        ("ARRAY_SLICE", &[a.clone(), int(-2)], "[2, 1]"),
        ("ARRAY_SLICE", &[b.clone(), int(2), int(3)], "[5]"),
        ("ARRAY_SORT", std::slice::from_ref(&a), "[1, 1, 2, 3]"),
        ("ARRAY_SORT", &[b.clone(), boolean(false)], "[5, NULL]"),
        (
            "ARRAY_SORT",
            &[b.clone(), boolean(false), boolean(true)],
            "[NULL, 5]",
        ),
        ("ARRAY_MAX", std::slice::from_ref(&a), "3"),
        ("ARRAY_MIN", std::slice::from_ref(&b), "5"),
        ("ARRAY_JOIN", &[array(&[text("a"), text("b")]), text("-")], "a-b"),
        ("ARRAY_SLICE", &[], "error: ARRAY_SLICE"),
    ]);
    let nested = array(&[call("ARRAY", [int(1)]), call("ARRAY", [int(1)])]);
    check(&[("ARRAY_DISTINCT", &[nested], "[[1]]")]);
}
