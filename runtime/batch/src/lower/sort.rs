//! ORDER BY, LIMIT, Top-N, first rows.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::sorts::sort::SortExec;
use thalweg_plan::spec::{DeduplicateSpec, RankEnd, RankSpec, RankStrategy, SortKey, WindowColumns};

use super::partitions::{gathered, shared_out};
use super::{Lowered, Lowering, number};
use crate::budget::Appetite;
use crate::columns::column;
use crate::mapped::{numbered, picked, ranked};

/// Sorted by these keys; the first `fetch` rows. Rows that are equal by them keep their order.
pub(super) fn sorted(
    lowering: &Lowering<'_>,
    input: Arc<dyn ExecutionPlan>,
    keys: &[SortKey],
    fetch: Option<usize>,
) -> Lowered {
    let width = input.schema().fields().len();
    Ok(match keys.is_empty() {
        true => input,
        false => picked(
            sorted_by_number(lowering, numbered(input), keys, fetch),
            (0..width).collect(),
        ),
    })
}

/// Partitions of rows that are numbered in their last column, each sorted by these keys and then by the number.
pub(super) fn sorted_by_number(
    lowering: &Lowering<'_>,
    input: Arc<dyn ExecutionPlan>,
    keys: &[SortKey],
    fetch: Option<usize>,
) -> Arc<dyn ExecutionPlan> {
    let number = SortKey {
        column: input.schema().fields().len() - 1,
        descending: false,
        nulls_first: true,
    };
    let key = |key: &SortKey| PhysicalSortExpr {
        expr: column(key.column),
        options: SortOptions {
            descending: key.descending,
            nulls_first: key.nulls_first,
        },
    };
    match LexOrdering::new(keys.iter().chain([&number]).map(key)) {
        Some(ordering) => {
            let sort = SortExec::new(ordering, input).with_preserve_partitioning(true);
            lowering
                .budget
                .of(Appetite::Spills, Arc::new(sort.with_fetch(fetch)))
        }
        None => input,
    }
}

/// ORDER BY with LIMIT.
pub(super) fn first_rows(lowering: &Lowering<'_>, input: Arc<dyn ExecutionPlan>, spec: &RankSpec) -> Lowered {
    let RankEnd::Constant(end) = spec.end else {
        return top_n(lowering, input, spec);
    };
    let (skip, end) = (number(spec.start.saturating_sub(1)), number(end));
    let sorted = sorted(lowering, input, &spec.order, Some(end))?;
    let fetch = end.saturating_sub(skip);
    Ok(Arc::new(GlobalLimitExec::new(sorted, skip, Some(fetch))))
}

/// Of each partition, the rows of these ranks.
pub(super) fn top_n(lowering: &Lowering<'_>, input: Arc<dyn ExecutionPlan>, spec: &RankSpec) -> Lowered {
    let width = input.schema().fields().len();
    let keys: Vec<SortKey> = by(&spec.partition).chain(spec.order.iter().copied()).collect();
    let fetch = match spec.end {
        RankEnd::Constant(end) if spec.partition.is_empty() => Some(number(end)),
        _ => None,
    };
    let input = shared_out(numbered(input), &spec.partition, lowering.partitions)?;
    let sorted = picked(
        sorted_by_number(lowering, input, &keys, fetch),
        (0..width).collect(),
    );
    Ok(gathered(ranked(sorted, spec)))
}

/// An order that brings equal rows together.
pub(super) fn by(columns: &[usize]) -> impl Iterator<Item = SortKey> + '_ {
    columns.iter().map(|column| SortKey {
        column: *column,
        descending: false,
        nulls_first: true,
    })
}

/// Deduplication as a Top-1: of rows at the same time the first that came, or the last.
pub(super) fn deduplicated(
    lowering: &Lowering<'_>,
    input: Arc<dyn ExecutionPlan>,
    spec: &DeduplicateSpec,
    window: Option<WindowColumns>,
) -> Lowered {
    let width = input.schema().fields().len();
    let key = |column: usize| SortKey {
        column,
        descending: spec.keep_last,
        nulls_first: !spec.keep_last,
    };
    let rank = RankSpec {
        partition: spec.keys.clone(),
        order: spec.rowtime.into_iter().chain([width]).map(key).collect(),
        start: 1,
        end: RankEnd::Constant(1),
        with_rank: false,
        strategy: RankStrategy::AppendFast,
        emit_update_before: false,
        state_ttl_ms: 0,
    };
    let rank = match window {
        Some(window) => in_windows(rank, window),
        None => rank,
    };
    let first = top_n(lowering, numbered(input), &rank)?;
    Ok(picked(first, (0..width).collect()))
}

/// A Top-N of each window.
pub(super) fn in_windows(mut spec: RankSpec, window: WindowColumns) -> RankSpec {
    let bounds = [window.start, window.end].into_iter();
    let missing = bounds.filter(|column| !spec.partition.contains(column));
    let missing: Vec<usize> = missing.collect();
    spec.partition.extend(missing);
    spec
}
