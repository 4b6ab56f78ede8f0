//! OVER: aggregates of the rows before each row, in the order of a time attribute.

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{AggregateCall, Frame, OverAggregateSpec, SortKey};
use thalweg_plan::{Field, NodeSpec, Schema};

use super::aggregate::aggregate_call;
use super::calc::{selected, unique_names};
use super::changelog::unsupported_input;
use super::draft::{Draft, DraftInput, Monotonicity, keyed};
use super::lower::Planner;
use super::upsert_keys;
use crate::error::SqlError;
use crate::logical::{OverCall, OverFrame, Rel};

/// An OverAggregate; refused in Flink's words where rows can't be ordered by time.
pub(crate) fn lower(
    planner: &Planner<'_>,
    input: Draft,
    partition: &[usize],
    order: &[SortKey],
    calls: &[OverCall],
    rel: &Rel,
) -> Result<Draft, SqlError> {
    if !planner.settings.is_batch {
        check_order(&input, order, rel)?;
    }
    if !input.is_insert_only() {
        return Err(unsupported_input("OverAggregate", &input));
    }
    let groups = by_frame(&input, calls);
    let first = input.width();
    let mut places = vec![0; calls.len()];
    let mut fields = input.schema.fields.clone();
    for (number, (_, group)) in groups.iter().enumerate() {
        for (call, aggregate) in group {
            places[*call] = fields.len();
            let name = if number == 0 || aggregate.name.is_empty() {
                aggregate.name.clone()
            } else {
                format!("w{number}${}", aggregate.name)
            };
            fields.push(Field::new(name, aggregate.data_type.clone()));
        }
    }
    let spec = OverAggregateSpec {
        partition: partition.to_vec(),
        order: order.to_vec(),
        groups: groups
            .into_iter()
            .map(|(frame, calls)| (frame, calls.into_iter().map(|(_, call)| call).collect()))
            .collect(),
        state_ttl_ms: planner.settings.state_ttl_ms,
    };
    let width = fields.len();
    let over = Draft {
        upsert_keys: upsert_keys::partitioned(&input.upsert_keys, partition),
        window: input.window.clone(),
        monotonicity: Some(vec![Monotonicity::Constant; width]),
        position: rel.position,
        schema: Schema {
            fields: unique_names(fields),
        },
        ..Draft::new(
            NodeSpec::OverAggregate(spec),
            vec![DraftInput::new(input, keyed(partition))],
            Schema::default(),
        )
    };
    let columns: Vec<usize> = (0..first).chain(places).collect();
    Ok(selected(over, &columns))
}

fn check_order(input: &Draft, order: &[SortKey], rel: &Rel) -> Result<(), SqlError> {
    let refused = |message: &str| Err(SqlError::semantic(message, rel.position));
    let [first, rest @ ..] = order else {
        return refused("OVER windows must have an ORDER BY clause in stream mode.");
    };
    if first.descending {
        return refused("The window can only be ordered in ASCENDING mode.");
    }
    if !rest.is_empty() {
        return refused("The window can only be ordered by a single time column.");
    }
    match input.schema.fields[first.column].data_type.time_kind() {
        TimeKind::Rowtime | TimeKind::Proctime => Ok(()),
        TimeKind::Regular => refused("OVER ordered by a column that is no time attribute is not supported."),
    }
}

type FramedCalls = Vec<(Frame, Vec<(usize, AggregateCall)>)>;

/// Calls of one frame together, with their positions.
fn by_frame(input: &Draft, calls: &[OverCall]) -> FramedCalls {
    let mut groups: FramedCalls = Vec::new();
    for (position, call) in calls.iter().enumerate() {
        let frame = match call.frame {
            OverFrame::Rows(rows) => Frame::Rows(rows),
            OverFrame::Range(range) => Frame::Range(range),
        };
        let aggregate = aggregate_call(&call.call, input, |column| column);
        match groups.iter_mut().find(|(known, _)| *known == frame) {
            Some((_, group)) => group.push((position, aggregate)),
            None => groups.push((frame, vec![(position, aggregate)])),
        }
    }
    groups
}
