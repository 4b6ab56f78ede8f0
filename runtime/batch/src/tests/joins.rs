use thalweg_plan::spec::{
    IntervalJoinSpec, JoinKeys, JoinKind, JoinSideKey, JoinSpec, WindowColumns, WindowJoinSpec,
};

use super::*;

fn keys(left: &[usize], right: &[usize], null_safe: bool) -> JoinKeys {
    JoinKeys {
        left: left.to_vec(),
        right: right.to_vec(),
        null_safe: vec![null_safe; left.len()],
    }
}

fn join(kind: JoinKind, keys: JoinKeys, condition: Option<Expr>) -> NodeSpec {
    NodeSpec::Join(JoinSpec {
        kind,
        keys,
        condition,
        left_key: JoinSideKey::None,
        right_key: JoinSideKey::None,
        left_ttl_ms: 0,
        right_ttl_ms: 0,
    })
}

fn joined(spec: impl Fn(JoinKind) -> NodeSpec, kind: JoinKind) -> Vec<String> {
    let mut made = Made::default();
    let left = made.source(&[bigint(), bigint()], &["1 10", "2 20", "- 30", "2 21"]);
    let right = made.source(&[bigint(), bigint()], &["2 15", "3 35", "- 45", "2 25"]);
    let width = if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        2
    } else {
        4
    };
    made.node(spec(kind), &[left, right], &vec![bigint(); width]);
    made.rows()
}

#[test]
fn rows_meet_where_their_keys_are_equal_and_nulls_never() {
    let spec = |kind| join(kind, keys(&[0], &[0], false), None);
    let inner = ["2 20 2 15", "2 20 2 25", "2 21 2 15", "2 21 2 25"];
    assert_eq!(joined(spec, JoinKind::Inner), inner);
    assert_eq!(joined(spec, JoinKind::Left).len(), 6);
    assert!(joined(spec, JoinKind::Left).contains(&"- 30 - -".to_owned()));
    assert!(joined(spec, JoinKind::Right).contains(&"- - 3 35".to_owned()));
    assert_eq!(joined(spec, JoinKind::Full).len(), 8);
    assert_eq!(joined(spec, JoinKind::Semi), ["2 20", "2 21"]);
    assert_eq!(joined(spec, JoinKind::Anti), ["- 30", "1 10"]);
}

#[test]
fn null_safe_keys_of_nulls_are_equal() {
    let spec = |kind| join(kind, keys(&[0], &[0], true), None);
    assert_eq!(joined(spec, JoinKind::Semi), ["- 30", "2 20", "2 21"]);
}

#[test]
fn of_keys_that_are_partly_null_safe_only_those_may_be_null() {
    let mut made = Made::default();
    let left = made.source(&[bigint(), bigint()], &["1 -", "- 1"]);
    let right = made.source(&[bigint(), bigint()], &["1 -", "- 1"]);
    let mut keys = keys(&[0, 1], &[0, 1], true);
    keys.null_safe[0] = false;
    made.node(
        join(JoinKind::Inner, keys, None),
        &[left, right],
        &vec![bigint(); 4],
    );
    assert_eq!(made.rows(), ["1 - 1 -"]);
}

#[test]
fn a_condition_decides_who_is_a_partner() {
    let spec = |kind| join(kind, keys(&[0], &[0], false), Some(is_greater(1, 3)));
    assert_eq!(joined(spec, JoinKind::Inner), ["2 20 2 15", "2 21 2 15"]);
    assert_eq!(joined(spec, JoinKind::Anti), ["- 30", "1 10"]);
    assert!(joined(spec, JoinKind::Right).contains(&"- - 2 25".to_owned()));
}

#[test]
fn without_keys_all_rows_meet() {
    assert_eq!(
        joined(|kind| join(kind, keys(&[], &[], false), None), JoinKind::Inner).len(),
        16
    );
    let spec = |kind| join(kind, keys(&[], &[], false), Some(is_greater(1, 3)));
    assert_eq!(joined(spec, JoinKind::Semi), ["- 30", "2 20", "2 21"]);
    assert_eq!(joined(spec, JoinKind::Left).len(), 5);
}

#[test]
fn times_meet_that_are_near_each_other() {
    let mut made = Made::default();
    let left = made.source(&[bigint(), rowtime()], &["1 1000", "1 5000", "2 5000", "1 -"]);
    let right = made.source(&[bigint(), rowtime()], &["1 2000", "1 6001", "2 4000"]);
    let spec = IntervalJoinSpec {
        kind: JoinKind::Inner,
        keys: keys(&[0], &[0], false),
        condition: None,
        left_time: 1,
        right_time: 1,
        lower_ms: -1000,
        upper_ms: 1000,
    };
    let types = [bigint(), rowtime(), bigint(), rowtime()];
    made.node(NodeSpec::IntervalJoin(spec), &[left, right], &types);
    assert_eq!(made.rows(), ["1 1000 1 2000", "2 5000 2 4000"]);
}

#[test]
fn rows_of_one_window_meet() {
    let window = WindowColumns {
        start: 1,
        end: 2,
        event_time: true,
        local_time: false,
    };
    let mut made = Made::default();
    let types = [bigint(), rowtime(), rowtime()];
    let left = made.source(&types, &["1 0 10", "1 10 20"]);
    let right = made.source(&types, &["1 0 10", "1 20 30"]);
    let spec = WindowJoinSpec {
        kind: JoinKind::Semi,
        keys: keys(&[0], &[0], false),
        condition: None,
        left_window: window,
        right_window: window,
    };
    made.node(NodeSpec::WindowJoin(spec), &[left, right], &types);
    assert_eq!(made.rows(), ["1 0 10"]);
}
