//! Top-N: by key, by window, and where only one row by time is wanted, deduplication.

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{DeduplicateSpec, RankEnd, RankSpec, RankStrategy, SortKey, WindowColumns};
use thalweg_plan::{Field, NodeSpec, Schema};

use super::calc::unique_names;
use super::changelog::unsupported_input;
use super::draft::{Draft, Kinds, Monotonicity, keyed};
use super::lower::Planner;
use super::upsert_keys;
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// A Top-N.
pub(crate) fn lower(planner: &Planner<'_>, rel: &Rel) -> Result<Draft, SqlError> {
    let RelKind::Rank {
        input,
        partition,
        order,
        start,
        end,
        with_rank,
    } = &rel.kind
    else {
        return Err(SqlError::new(crate::SqlErrorKind::Bug, "no Top-N", rel.position));
    };
    let input = planner.lower(input)?;
    let state_ttl_ms = planner.settings.state_ttl_ms;
    let window = window_columns(&input, partition);
    let keys: Vec<usize> = match window {
        Some(window) => without(partition, &[window.start, window.end]),
        None => partition.clone(),
    };
    let only_first = (*start, *end) == (1, RankEnd::Constant(1)) && !with_rank;
    let by_time = match order.as_slice() {
        [key] => match input.schema.fields[key.column].data_type.time_kind() {
            TimeKind::Rowtime => Some((Some(key.column), key.descending)),
            TimeKind::Proctime => Some((None, key.descending)),
            TimeKind::Regular => None,
        },
        _ => None,
    };
    if window.is_some() && !input.is_insert_only() {
        return Err(unsupported_input("WindowRank", &input));
    }
    if let (true, Some((rowtime, keep_last))) = (only_first && input.is_insert_only(), by_time) {
        let deduplicate = DeduplicateSpec {
            keys,
            rowtime,
            keep_last,
            emit_update_before: true,
            emit_insert: true,
            state_ttl_ms: if window.is_some() { 0 } else { state_ttl_ms },
        };
        return Ok(deduplicated(input, deduplicate, window, partition));
    }
    let rank = RankSpec {
        partition: keys,
        order: order.clone(),
        start: *start,
        end: *end,
        with_rank: *with_rank,
        strategy: RankStrategy::Retract,
        emit_update_before: true,
        state_ttl_ms: if window.is_some() { 0 } else { state_ttl_ms },
    };
    let name = rel.schema.fields.last().map(|field| field.name.clone());
    Ok(match window {
        Some(window) => windowed(input, rank, window, partition, name),
        None => ranked(input, rank, name),
    })
}

/// The windows, if both bounds are among the columns.
fn window_columns(input: &Draft, partition: &[usize]) -> Option<WindowColumns> {
    let window = input.window.as_ref()?;
    let (start, end) = (window.start?, window.end?);
    (partition.contains(&start) && partition.contains(&end)).then_some(WindowColumns {
        start,
        end,
        event_time: window.event_time,
        local_time: window.local_time,
    })
}

fn without(columns: &[usize], others: &[usize]) -> Vec<usize> {
    columns
        .iter()
        .copied()
        .filter(|column| !others.contains(column))
        .collect()
}

fn deduplicated(
    input: Draft,
    spec: DeduplicateSpec,
    window: Option<WindowColumns>,
    partition: &[usize],
) -> Draft {
    let keys = spec.keys.clone();
    let changes = spec.keep_last && window.is_none();
    let kinds = if changes { Kinds::ALL } else { Kinds::INSERT };
    let monotonicity = (0..input.width()).map(|column| match changes {
        false => Monotonicity::Constant,
        true if keys.contains(&column) => Monotonicity::Constant,
        true if spec.rowtime == Some(column) => Monotonicity::Increasing,
        true => Monotonicity::None,
    });
    let monotonicity = Some(monotonicity.collect());
    let spec = match window {
        Some(window) => NodeSpec::WindowDeduplicate {
            deduplicate: spec,
            window,
        },
        None => NodeSpec::Deduplicate(spec),
    };
    Draft {
        kinds,
        monotonicity,
        upsert_keys: vec![upsert_keys::key(partition.iter().copied())],
        ..Draft::over(input, keyed(&keys), spec)
    }
}

fn with_rank_column(schema: &Schema, rank: &RankSpec, name: Option<String>) -> Schema {
    let mut fields = schema.fields.clone();
    for &column in &rank.partition {
        fields[column].data_type = fields[column].data_type.clone().materialized();
    }
    if rank.with_rank {
        let data_type = super::expr::bigint_literal(0).data_type;
        fields.push(Field::new(name.unwrap_or_default(), data_type));
    }
    Schema {
        fields: unique_names(fields),
    }
}

fn windowed(
    input: Draft,
    rank: RankSpec,
    window: WindowColumns,
    partition: &[usize],
    name: Option<String>,
) -> Draft {
    let schema = with_rank_column(&input.schema, &rank, name);
    let mut keys = input.upsert_keys.clone();
    if rank.with_rank {
        keys.push(upsert_keys::key(partition.iter().copied().chain([input.width()])));
    }
    let distribution = keyed(&rank.partition);
    let rank = RankSpec {
        strategy: RankStrategy::AppendFast,
        ..rank
    };
    Draft {
        monotonicity: Some(vec![Monotonicity::Constant; schema.fields.len()]),
        schema,
        upsert_keys: keys,
        ..Draft::over(input, distribution, NodeSpec::WindowRank { rank, window })
    }
}

/// A Top-N without windows. Its strategy is set when it is known which changes its input gives.
pub(crate) fn ranked(input: Draft, rank: RankSpec, name: Option<String>) -> Draft {
    let schema = with_rank_column(&input.schema, &rank, name);
    let one_row = (rank.start, rank.end) == (1, RankEnd::Constant(1));
    let mut keys = upsert_keys::partitioned(&input.upsert_keys, &rank.partition);
    if one_row {
        keys.push(upsert_keys::key(rank.partition.iter().copied()));
    } else if rank.with_rank {
        let number = input.width();
        keys.push(upsert_keys::key(rank.partition.iter().copied().chain([number])));
    }
    let distribution = keyed(&rank.partition);
    let kinds = match one_row && counts_as_first_row(&input, &rank.order) {
        true => Kinds::INSERT,
        false => Kinds::ALL,
    };
    let strategies = strategies(&input, &rank.partition, &rank.order);
    let rank = RankSpec {
        strategy: strategies.into_iter().next().unwrap_or(RankStrategy::Retract),
        ..rank
    };
    let monotonicity = match kinds {
        Kinds::INSERT => Some(vec![Monotonicity::Constant; schema.fields.len()]),
        _ => monotonicity_of(&input, &rank),
    };
    Draft {
        kinds,
        schema,
        upsert_keys: upsert_keys::deduplicated(keys),
        monotonicity,
        window: None,
        ..Draft::over(input, distribution, NodeSpec::Rank(rank))
    }
}

/// Whether Flink 2.3 takes a Top-1 for the first row of its key, which nothing replaces: if rows are only added, and unless it is ordered by one
/// column, descending. Where a row is replaced after all it comes as +U alone, and whoever reads the changelog takes it for one that is added.
fn counts_as_first_row(input: &Draft, order: &[SortKey]) -> bool {
    let keeps_last = matches!(order, [key] if key.descending);
    input.is_insert_only() && !keeps_last
}

/// How a Top-N's updates change its columns: its keys and the rank not at all, the first column of ORDER BY towards the top.
fn monotonicity_of(input: &Draft, rank: &RankSpec) -> Option<Vec<Monotonicity>> {
    let known = input.monotonicity.as_ref()?;
    let constant = |&column: &usize| known[column] == Monotonicity::Constant;
    if !rank.partition.iter().all(constant) {
        return None;
    }
    let mut columns = vec![Monotonicity::None; input.width()];
    for &column in &rank.partition {
        columns[column] = Monotonicity::Constant;
    }
    if let Some(first) = rank.order.first() {
        columns[first.column] = match (known[first.column], first.descending) {
            (Monotonicity::Increasing | Monotonicity::Constant, true) => Monotonicity::Increasing,
            (Monotonicity::Decreasing | Monotonicity::Constant, false) => Monotonicity::Decreasing,
            _ => Monotonicity::None,
        };
    }
    columns.extend(rank.with_rank.then_some(Monotonicity::Constant));
    Some(columns)
}

/// How a Top-N can keep its rows, the best way first.
pub(crate) fn strategies(input: &Draft, partition: &[usize], order: &[SortKey]) -> Vec<RankStrategy> {
    if input.is_insert_only() {
        return vec![RankStrategy::AppendFast];
    }
    let key = input
        .upsert_keys
        .iter()
        .find(|key| upsert_keys::contains(key, partition));
    let towards_the_top = |key: &SortKey| {
        let known = input
            .monotonicity
            .as_ref()
            .and_then(|known| known.get(key.column));
        match known {
            Some(Monotonicity::Constant) => true,
            Some(Monotonicity::Increasing) => key.descending,
            Some(Monotonicity::Decreasing) => !key.descending,
            Some(Monotonicity::None) | None => false,
        }
    };
    match key {
        Some(key) if !order.is_empty() && order.iter().all(towards_the_top) => {
            vec![RankStrategy::UpdateFast(key.clone()), RankStrategy::Retract]
        }
        _ => vec![RankStrategy::Retract],
    }
}

#[cfg(test)]
mod tests {
    use thalweg_plan::{DataType, TypeRoot};

    use super::*;

    fn counts() -> Draft {
        let bigint = DataType::not_null(TypeRoot::BigInt);
        let fields = ["channel", "auction", "n"].map(|name| Field::new(name, bigint.clone()));
        let schema = Schema {
            fields: fields.to_vec(),
        };
        Draft {
            kinds: Kinds::ALL,
            upsert_keys: vec![vec![0, 1]],
            monotonicity: Some(vec![
                Monotonicity::Constant,
                Monotonicity::Constant,
                Monotonicity::Increasing,
            ]),
            ..Draft::new(NodeSpec::Values(Vec::new()), Vec::new(), schema)
        }
    }

    fn by(column: usize, descending: bool) -> SortKey {
        SortKey {
            column,
            descending,
            nulls_first: true,
        }
    }

    #[test]
    fn the_greatest_counts_are_updated_towards_the_top() {
        let order = [by(2, true), by(1, false)];
        let found = strategies(&counts(), &[0], &order);
        assert_eq!(found[0], RankStrategy::UpdateFast(vec![0, 1]));
    }

    #[test]
    fn the_smallest_counts_are_not() {
        assert_eq!(
            strategies(&counts(), &[0], &[by(2, false)]),
            [RankStrategy::Retract]
        );
    }

    #[test]
    fn rows_that_are_only_added_need_no_retraction() {
        let input = Draft {
            kinds: Kinds::INSERT,
            ..counts()
        };
        assert_eq!(
            strategies(&input, &[], &[by(2, false)]),
            [RankStrategy::AppendFast]
        );
    }
}
