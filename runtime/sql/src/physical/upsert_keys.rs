//! Which columns identify a row of a changelog: Flink's upsert keys.
//!
//! A key holds where rows of one key come in their order. Behind a shuffle that is so for keys that hold the shuffle's columns alone: an update
//! that changes another column of the shuffle comes as a deletion in one subtask and an insertion in another.

use thalweg_plan::Expr;
use thalweg_plan::spec::JoinKind;

use super::expr::injective_column;

/// Sets of columns, each sorted.
pub(crate) type Keys = Vec<Vec<usize>>;

/// One key, sorted.
pub(crate) fn key(columns: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut key: Vec<usize> = columns.into_iter().collect();
    key.sort_unstable();
    key.dedup();
    key
}

/// Behind a projection: keys of which all columns are passed on.
pub(crate) fn projected(keys: &[Vec<usize>], projection: &[Expr]) -> Keys {
    let place = |column: usize| {
        projection
            .iter()
            .position(|expr| injective_column(expr) == Some(column))
    };
    let moved = keys.iter().filter_map(|columns| {
        let columns: Option<Vec<usize>> = columns.iter().map(|&column| place(column)).collect();
        columns.map(key)
    });
    deduplicated(moved)
}

/// Those that hold in subtasks to which rows go by these columns.
pub(crate) fn partitioned(keys: &[Vec<usize>], by: &[usize]) -> Keys {
    keys.iter().filter(|key| contains(key, by)).cloned().collect()
}

/// Whether `key` has all of `columns`.
pub(crate) fn contains(key: &[usize], columns: &[usize]) -> bool {
    columns.iter().all(|column| key.contains(column))
}

/// Whether these columns identify a row.
pub(crate) fn are_unique(keys: &[Vec<usize>], columns: &[usize]) -> bool {
    keys.iter().any(|key| contains(columns, key))
}

/// One side of a join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    /// Its keys.
    pub(crate) keys: &'a [Vec<usize>],
    /// The columns that must be equal to the other side's.
    pub(crate) join: &'a [usize],
    /// How many columns it has.
    pub(crate) width: usize,
}

/// Of a join's rows.
pub(crate) fn joined(kind: JoinKind, left: Side<'_>, right: Side<'_>) -> Keys {
    let left_keys = partitioned(left.keys, left.join);
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        return left_keys;
    }
    let shifted = |columns: &Vec<usize>| {
        columns
            .iter()
            .map(|column| left.width + column)
            .collect::<Vec<_>>()
    };
    let right_keys: Keys = partitioned(right.keys, right.join).iter().map(shifted).collect();
    let mut keys: Keys = Vec::new();
    let left_pads = matches!(kind, JoinKind::Right | JoinKind::Full);
    let right_pads = matches!(kind, JoinKind::Left | JoinKind::Full);
    if are_unique(right.keys, right.join) && !left_pads {
        keys.extend(left_keys.iter().cloned());
    }
    if are_unique(left.keys, left.join) && !right_pads {
        keys.extend(right_keys.iter().cloned());
    }
    for left in &left_keys {
        keys.extend(
            right_keys
                .iter()
                .map(|right| key(left.iter().chain(right).copied())),
        );
    }
    deduplicated(keys)
}

/// Without keys that hold another one; smaller ones first.
pub(crate) fn deduplicated(keys: impl IntoIterator<Item = Vec<usize>>) -> Keys {
    let mut all: Keys = keys.into_iter().collect();
    all.sort_by_key(Vec::len);
    let mut minimal: Keys = Vec::new();
    for key in all {
        if !minimal.iter().any(|smaller| contains(&key, smaller)) {
            minimal.push(key);
        }
    }
    minimal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_with_a_unique_side_keeps_the_other_sides_key() {
        let left = Side {
            keys: &[vec![0, 1]],
            join: &[1],
            width: 3,
        };
        let right = Side {
            keys: &[vec![0]],
            join: &[0],
            width: 2,
        };
        assert_eq!(joined(JoinKind::Inner, left, right), [vec![0, 1]]);
        assert_eq!(joined(JoinKind::Left, left, right), [vec![0, 1]]);
        assert_eq!(joined(JoinKind::Right, left, right), [vec![0, 1, 3]]);
    }

    #[test]
    fn a_key_without_the_join_columns_is_none_behind_the_join() {
        let left = Side {
            keys: &[vec![0]],
            join: &[1],
            width: 3,
        };
        let right = Side {
            keys: &[vec![0]],
            join: &[0],
            width: 2,
        };
        assert_eq!(joined(JoinKind::Inner, left, right), Keys::new());
    }

    #[test]
    fn a_projection_that_drops_a_column_drops_its_keys() {
        let column = |column| Expr::column(column, thalweg_plan::DataType::string());
        let keys = [vec![0], vec![1, 2]];
        assert_eq!(projected(&keys, &[column(2), column(1)]), [vec![0, 1]]);
    }
}
