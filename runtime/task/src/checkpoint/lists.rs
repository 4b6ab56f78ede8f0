//! The states of connectors as lists of operator state, and back. The names are stored for ever.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use thalweg_connectors::{Committable, RestoredConnector, StateDistribution};
use thalweg_state::{ListDistribution, ListSnapshot, RestoredList, RestoredState};

/// A source's splits.
pub(crate) const SOURCE_READER_STATE: &str = "SourceReaderState";
/// A sink writer's state.
pub(crate) const WRITER_STATE: &str = "WriterState";
/// What was prepared and not known to be committed.
pub(crate) const COMMITTABLES: &str = "Committables";

/// States of a reader or writer.
pub(crate) fn states(
    name: &str,
    states: &[Vec<u8>],
    distribution: StateDistribution,
) -> Result<ListSnapshot, ArrowError> {
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(states));
    let schema = Schema::new(vec![Field::new("state", DataType::Binary, false)]);
    Ok(ListSnapshot {
        name: name.to_owned(),
        distribution: match distribution {
            StateDistribution::Union => ListDistribution::Union,
            StateDistribution::Split => ListDistribution::Split,
        },
        items: RecordBatch::try_new(Arc::new(schema), vec![column])?,
    })
}

/// Committables with the checkpoint that each was prepared for.
pub(crate) fn committables(ids: &[u64], committables: &[Committable]) -> Result<ListSnapshot, ArrowError> {
    let bytes = BinaryArray::from_iter_values(committables.iter().map(|committable| &committable.bytes));
    let ids = Int64Array::from_iter_values(ids.iter().map(|id| id.cast_signed()));
    let schema = Schema::new(vec![
        Field::new("committable", DataType::Binary, false),
        Field::new("checkpoint_id", DataType::Int64, false),
    ]);
    Ok(ListSnapshot {
        name: COMMITTABLES.to_owned(),
        distribution: ListDistribution::Split,
        items: RecordBatch::try_new(Arc::new(schema), vec![Arc::new(bytes), Arc::new(ids)])?,
    })
}

/// What a reader or writer is restored with.
pub(crate) fn restored_connector(state: &mut RestoredState) -> RestoredConnector {
    let bytes = |list: Option<RestoredList>| {
        let items = list.map(|list| list.items).unwrap_or_default();
        items.iter().flat_map(first_column).collect::<Vec<Vec<u8>>>()
    };
    let source = bytes(state.take_list(SOURCE_READER_STATE));
    let writer = bytes(state.take_list(WRITER_STATE));
    let committables = bytes(state.take_list(COMMITTABLES));
    RestoredConnector {
        checkpoint_id: state.checkpoint_id,
        states: source.into_iter().chain(writer).collect(),
        committables: committables
            .into_iter()
            .map(|bytes| Committable { bytes })
            .collect(),
    }
}

fn first_column(items: &RecordBatch) -> Vec<Vec<u8>> {
    let column = items
        .columns()
        .first()
        .and_then(|column| column.as_binary_opt::<i32>());
    let Some(column) = column else { return Vec::new() };
    (0..column.len()).map(|row| column.value(row).to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_committables_come_back_as_they_were_given() {
        let states = states(WRITER_STATE, &[vec![1, 2], vec![]], StateDistribution::Split).unwrap();
        let prepared = [Committable { bytes: vec![7] }, Committable { bytes: vec![8, 9] }];
        let committables = committables(&[3, 4], &prepared).unwrap();
        assert_eq!(
            committables.items.column(1).as_ref(),
            &Int64Array::from(vec![3, 4]) as &dyn Array
        );
        let restored = |list: ListSnapshot| RestoredList {
            name: list.name,
            distribution: list.distribution,
            items: vec![list.items.slice(0, 1), list.items.slice(1, 1)],
        };
        let mut state = RestoredState {
            checkpoint_id: 4,
            lists: vec![restored(states), restored(committables)],
            ..RestoredState::default()
        };
        let connector = restored_connector(&mut state);
        assert_eq!(connector.checkpoint_id, 4);
        assert_eq!(connector.states, [vec![1, 2], vec![]]);
        assert_eq!(connector.committables, prepared);
    }
}
