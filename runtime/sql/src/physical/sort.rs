//! ORDER BY, OFFSET and LIMIT.

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{RankEnd, RankSpec, RankStrategy, SortKey};
use thalweg_plan::{Distribution, NodeSpec};

use super::changelog::unsupported_input;
use super::draft::{Draft, Kinds};
use super::lower::{Planner, values};
use super::top_n::strategies;
use super::upsert_keys;
use crate::error::SqlError;
use crate::logical::Rel;

/// A sort of all rows by time, or the first rows; other sorts of rows without end are refused.
pub(crate) fn lower(
    planner: &Planner<'_>,
    input: Draft,
    keys: &[SortKey],
    offset: u64,
    fetch: Option<u64>,
    rel: &Rel,
) -> Result<Draft, SqlError> {
    if fetch == Some(0) {
        return Ok(values(Vec::new(), input.schema));
    }
    let refused = |message: &str| Err(SqlError::unsupported(message, rel.position));
    match (keys, fetch) {
        ([], None) if offset == 0 => Ok(input),
        ([], fetch) if input.is_insert_only() => Ok(Draft::over(
            input,
            Distribution::Singleton,
            NodeSpec::Limit { offset, fetch },
        )),
        (_, Some(fetch)) => Ok(limited(planner, input, keys, offset, fetch)),
        ([], None) => refused("OFFSET without LIMIT of rows that are updated is not supported"),
        (keys, None) if planner.settings.is_batch => Ok(all_sorted(input, keys, offset)),
        ([first, ..], None) => {
            let time = input.schema.fields[first.column].data_type.time_kind();
            if time == TimeKind::Regular || first.descending || offset > 0 {
                return match offset {
                    0 => refused("Sort on a non-time-attribute field is not supported."),
                    _ => refused("FETCH is missed, which on streaming table is not supported currently."),
                };
            }
            if !input.is_insert_only() {
                return Err(unsupported_input("TemporalSort", &input));
            }
            let spec = NodeSpec::TemporalSort(keys.to_vec());
            Ok(Draft::over(input, Distribution::Singleton, spec))
        }
    }
}

/// Of rows that end.
fn all_sorted(input: Draft, keys: &[SortKey], offset: u64) -> Draft {
    let sorted = Draft::over(input, Distribution::Singleton, NodeSpec::Sort(keys.to_vec()));
    match offset {
        0 => sorted,
        offset => Draft::over(
            sorted,
            Distribution::Singleton,
            NodeSpec::Limit { offset, fetch: None },
        ),
    }
}

fn limited(planner: &Planner<'_>, input: Draft, keys: &[SortKey], offset: u64, fetch: u64) -> Draft {
    let strategies = strategies(&input, &[], keys);
    let rank = RankSpec {
        partition: Vec::new(),
        order: keys.to_vec(),
        start: offset.saturating_add(1),
        end: RankEnd::Constant(offset.saturating_add(fetch)),
        with_rank: false,
        strategy: strategies.into_iter().next().unwrap_or(RankStrategy::Retract),
        emit_update_before: true,
        state_ttl_ms: planner.settings.state_ttl_ms,
    };
    let mut keys = input.upsert_keys.clone();
    if fetch == 1 {
        keys.push(Vec::new());
    }
    Draft {
        kinds: Kinds::ALL,
        upsert_keys: upsert_keys::deduplicated(keys),
        monotonicity: None,
        ..Draft::over(input, Distribution::Singleton, NodeSpec::SortLimit(rank))
    }
}
