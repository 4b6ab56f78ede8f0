use std::collections::BTreeMap;

use super::super::testing::random::{Played, Side, Step, keyed_row, play, steps};
use super::super::testing::{Harness, Input, Row, TestClock, Value, bigint, materialize, row, table, text};
use super::*;
use proptest::prelude::*;
use thalweg_plan::spec::JoinKeys;
use thalweg_plan::{DataType as SqlType, NodeSpec, Schema, TypeRoot};

const KINDS: [JoinKind; 6] = [
    JoinKind::Inner,
    JoinKind::Left,
    JoinKind::Right,
    JoinKind::Full,
    JoinKind::Semi,
    JoinKind::Anti,
];

fn input() -> Schema {
    table(&[("k", text()), ("v", bigint()), ("id", bigint())])
}

fn output(kind: JoinKind) -> Schema {
    let mut output = input();
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        output.fields.extend(input().fields);
    }
    output
}

/// `l.v < r.v`
fn condition() -> Expr {
    let columns = vec![Expr::column(1, bigint()), Expr::column(4, bigint())];
    Expr::call("<", columns, SqlType::nullable(TypeRoot::Boolean))
}

fn spec(kind: JoinKind) -> JoinSpec {
    JoinSpec {
        kind,
        keys: JoinKeys {
            left: vec![0],
            right: vec![0],
            null_safe: vec![false],
        },
        condition: None,
        left_key: JoinSideKey::None,
        right_key: JoinSideKey::None,
        left_ttl_ms: 0,
        right_ttl_ms: 0,
    }
}

fn harness(spec: JoinSpec) -> Harness {
    let clock = TestClock::new(1_000);
    let (env, inputs, output) = (clock.env(), [input(), input()], output(spec.kind));
    let route = |keys: &[usize]| match keys.is_empty() {
        true => Input::singleton(&input()),
        false => Input::hash(&input(), keys),
    };
    let routes = vec![route(&spec.keys.left), route(&spec.keys.right)];
    Harness::with_clock(routes, clock, move |context| {
        let operator = SqlOperator {
            spec: &NodeSpec::DropUpdateBefore,
            inputs: &inputs,
            output: &output,
            env: Arc::clone(&env),
        };
        Box::new(Join::new(&spec, &operator, context).unwrap())
    })
}

fn matches(spec: &JoinSpec, left: &Row, right: &Row) -> bool {
    let keys = spec
        .keys
        .left
        .iter()
        .zip(&spec.keys.right)
        .zip(&spec.keys.null_safe);
    let mut equal = keys.map(|((l, r), safe)| left[*l] == right[*r] && (*safe || left[*l] != Value::Null));
    let fulfils = match (&spec.condition, left[1].int(), right[1].int()) {
        (None, ..) => true,
        (Some(_), Some(left), Some(right)) => left < right,
        _ => false,
    };
    equal.all(|equal| equal) && fulfils
}

/// The join of all rows.
fn joined(spec: &JoinSpec, lefts: &[Row], rights: &[Row]) -> BTreeMap<Row, i64> {
    let nulls = || vec![Value::Null; 3];
    let pair = |left: Row, right: Row| [left, right].concat();
    let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
    for left in lefts {
        let partners: Vec<&Row> = rights.iter().filter(|right| matches(spec, left, right)).collect();
        let found = match spec.kind {
            JoinKind::Semi if !partners.is_empty() => vec![left.clone()],
            JoinKind::Anti if partners.is_empty() => vec![left.clone()],
            JoinKind::Semi | JoinKind::Anti => Vec::new(),
            JoinKind::Left | JoinKind::Full if partners.is_empty() => vec![pair(left.clone(), nulls())],
            _ => partners
                .into_iter()
                .map(|right| pair(left.clone(), right.clone()))
                .collect(),
        };
        found
            .into_iter()
            .for_each(|row| *rows.entry(row).or_default() += 1);
    }
    if matches!(spec.kind, JoinKind::Right | JoinKind::Full) {
        for right in rights {
            if !lefts.iter().any(|left| matches(spec, left, right)) {
                *rows.entry(pair(nulls(), right.clone())).or_default() += 1;
            }
        }
    }
    rows
}

fn side_key(unique: usize) -> (JoinSideKey, Side) {
    let side = |key: Option<Vec<usize>>| Side {
        key,
        retracts: true,
        ..Side::default()
    };
    match unique {
        0 => (JoinSideKey::None, side(None)),
        1 => (JoinSideKey::JoinKey, side(Some(vec![0]))),
        2 => (JoinSideKey::Columns(vec![2]), side(Some(vec![2]))),
        _ => (JoinSideKey::Columns(vec![0, 1, 2]), side(Some(vec![0, 1, 2]))),
    }
}

fn played(spec: &JoinSpec, sides: &[Side], steps: &[Step], sizes: (usize, usize)) -> Played {
    let mut harness = harness(spec.clone());
    (harness.batch_rows, harness.limit_rows) = sizes;
    play(&mut harness, sides, steps, !spec.keys.left.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_left_is_the_join_of_the_rows_that_are_left(
        kind in prop::sample::select(&KINDS[..]),
        unique in (0..4_usize, 0..4_usize),
        has_key in prop::bool::weighted(0.8),
        null_safe: bool,
        has_condition: bool,
        steps in steps(2, keyed_row(), 60),
        sizes in (1..9_usize, 1..6_usize),
    ) {
        let ((left_key, left), (right_key, right)) = (side_key(unique.0), side_key(unique.1));
        let has_key = has_key || unique.0 == 1 || unique.1 == 1;
        let mut spec = JoinSpec { left_key, right_key, ..spec(kind) };
        spec.keys.null_safe = vec![null_safe];
        if !has_key {
            spec.keys = JoinKeys::default();
        }
        spec.condition = has_condition.then(condition);
        let played = played(&spec, &[left, right], &steps, sizes);
        prop_assert_eq!(materialize(&played.log), joined(&spec, &played.left[0], &played.left[1]));
    }
}

fn kinds_and_rows(harness: &mut Harness) -> Vec<(RowKind, Row)> {
    harness.changelog()
}

const N: Option<i64> = None;
const T: Option<&str> = None;

#[test]
fn a_retraction_keeps_its_kind_where_its_own_side_is_not_outer() {
    let mut harness = harness(spec(JoinKind::Left));
    harness.insert(0, row!["a", 1, 1]);
    harness.insert(1, row!["a", 5, 2]);
    harness.row(1, RowKind::UpdateBefore, row!["a", 5, 2]);
    harness.row(1, RowKind::UpdateAfter, row!["a", 6, 2]);
    harness.row(0, RowKind::UpdateBefore, row!["a", 1, 1]);
    let expected = [
        (RowKind::Insert, row!["a", 1, 1, T, N, N]),
        (RowKind::Delete, row!["a", 1, 1, T, N, N]),
        (RowKind::Insert, row!["a", 1, 1, "a", 5, 2]),
        (RowKind::UpdateBefore, row!["a", 1, 1, "a", 5, 2]),
        (RowKind::Insert, row!["a", 1, 1, T, N, N]),
        (RowKind::Delete, row!["a", 1, 1, T, N, N]),
        (RowKind::Insert, row!["a", 1, 1, "a", 6, 2]),
        (RowKind::Delete, row!["a", 1, 1, "a", 6, 2]),
    ];
    assert_eq!(kinds_and_rows(&mut harness), expected);
}

#[test]
fn rows_with_nulls_go_before_all_pairs_and_come_back_behind_them() {
    let mut harness = harness(spec(JoinKind::Left));
    for id in [1, 1, 2] {
        harness.insert(0, row!["a", 0, id]);
    }
    harness.changelog();
    harness.insert(1, row!["a", 5, 9]);
    harness.row(1, RowKind::Delete, row!["a", 5, 9]);
    let null = |kind, id: i64| (kind, row!["a", 0, id, T, N, N]);
    let pair = |kind, id: i64| (kind, row!["a", 0, id, "a", 5, 9]);
    let expected = [
        [1, 1, 2].map(|id| null(RowKind::Delete, id)),
        [1, 1, 2].map(|id| pair(RowKind::Insert, id)),
        [1, 1, 2].map(|id| pair(RowKind::Delete, id)),
        [1, 1, 2].map(|id| null(RowKind::Insert, id)),
    ];
    assert_eq!(kinds_and_rows(&mut harness), expected.concat());
}

#[test]
fn semi_sends_the_right_rows_kind_and_anti_inserts_and_deletes() {
    let changes = |kind| {
        let mut harness = harness(spec(kind));
        harness.insert(0, row!["a", 1, 1]);
        harness.row(1, RowKind::UpdateAfter, row!["a", 5, 2]);
        harness.row(1, RowKind::UpdateBefore, row!["a", 5, 2]);
        let changes = harness.changelog();
        changes.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(
        changes(JoinKind::Semi),
        [RowKind::UpdateAfter, RowKind::UpdateBefore]
    );
    assert_eq!(
        changes(JoinKind::Anti),
        [RowKind::Insert, RowKind::Delete, RowKind::Insert]
    );
}

#[test]
fn an_update_without_its_row_before_takes_its_place_though_all_columns_are_the_key() {
    let key = || JoinSideKey::Columns(vec![0, 1, 2]);
    let mut harness = harness(JoinSpec {
        left_key: key(),
        right_key: key(),
        ..spec(JoinKind::Inner)
    });
    harness.insert(0, row!["a", 1, 1]);
    harness.row(0, RowKind::UpdateAfter, row!["a", 1, 1]);
    harness.row(0, RowKind::Delete, row!["a", 1, 1]);
    harness.insert(1, row!["a", 5, 2]);
    assert_eq!(harness.changelog(), []);
}
