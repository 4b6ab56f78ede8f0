//! The first of two phases of GROUP BY: rows of a batch are folded by key before they are sent. Flink's LocalGroupAggregate.
//!
//! ```text
//!   batch --keys--> slots --rows--> accumulators --gather--> keys | partial results of each call (| $rows)
//! ```
//!
//! Nothing is kept from one batch to the next, so that there is no state and nothing waits for a barrier or a watermark.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use thalweg_plan::spec::GroupAggregateSpec;
use thalweg_state::{KeyIndex, KeyIndexError, Slot, SlotColumn};
use thalweg_types::key_hash::hash_rows;
use thalweg_types::{StreamBatch, WatermarkCut};

use super::super::SqlOperator;
use super::super::aggregate::{Aggregates, GroupedError, Rows};
use super::super::output::{Output, last_watermark, record_batch, signs, unsupported};
use super::Uniques;
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// [`thalweg_plan::NodeSpec::LocalGroupAggregate`].
pub struct LocalGroupAggregate {
    context: OperatorContext,
    keys: Vec<usize>,
    /// None: there is no key.
    index: Option<KeyIndex>,
    aggregates: Aggregates,
    schema: SchemaRef,
    slots: Vec<Slot>,
    new_rows: Vec<u32>,
    hashes: Vec<u64>,
    uniques: Uniques,
    pending: Option<StreamBatch>,
    output: Output,
}

impl LocalGroupAggregate {
    /// Refuses calls that have no partial results ([`thalweg_plan::aggregate::partial_fields`]).
    pub fn new(
        spec: &GroupAggregateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let single = |call: &&thalweg_plan::spec::AggregateCall| {
            thalweg_plan::aggregate::partial_fields(call).is_none()
        };
        if let Some(call) = spec.aggregates.iter().find(single) {
            let message = format!(
                "{} has no partial results: it can't be computed in two phases",
                call.function
            );
            return Err(unsupported(&context, message));
        }
        let input = &operator.inputs[0];
        let aggregates = Aggregates::new(&spec.aggregates, input, spec.retracts);
        let types: Vec<DataType> = spec
            .keys
            .iter()
            .map(|key| input.fields[*key].data_type.to_arrow())
            .collect();
        let index = (!types.is_empty()).then(|| KeyIndex::new(&types)).transpose();
        Ok(Self {
            index: index.map_err(|error| unsupported(&context, error.to_string()))?,
            aggregates: aggregates.map_err(|error| unsupported(&context, error.to_string()))?,
            keys: spec.keys.clone(),
            schema: operator.output.to_arrow(),
            slots: Vec::new(),
            new_rows: Vec::new(),
            hashes: Vec::new(),
            uniques: Uniques::default(),
            pending: None,
            output: Output::default(),
            context,
        })
    }

    fn aggregate(&mut self, batch: &StreamBatch) -> Result<StreamBatch, ArrowError> {
        let keys: Vec<ArrayRef> = self
            .keys
            .iter()
            .map(|key| Arc::clone(batch.rows.column(*key)))
            .collect();
        self.find_slots(&keys, batch.num_rows())?;
        self.uniques.find(&self.slots);
        let slots = self.uniques.slots();
        let signs = signs(batch.kinds.as_ref());
        let rows = Rows {
            slots: &self.slots,
            signs: signs.as_deref(),
        };
        self.aggregates.update(rows, batch.rows.columns())?;
        let first_rows = UInt32Array::from(self.uniques.first_rows().to_vec());
        let mut columns: Vec<ArrayRef> = keys
            .iter()
            .map(|key| take(key, &first_rows, None))
            .collect::<Result<_, _>>()?;
        columns.extend(self.aggregates.partials(slots)?);
        self.aggregates.clear(slots);
        if let Some(index) = &mut self.index {
            slots.iter().for_each(|slot| index.remove(*slot));
        }
        let row = slots.len() as u32;
        let cut = |timestamp_ms| WatermarkCut { row, timestamp_ms };
        Ok(StreamBatch {
            watermarks: last_watermark(batch).map(cut).into_iter().collect(),
            ..StreamBatch::new(record_batch(&self.schema, columns, slots.len())?)
        })
    }

    fn find_slots(&mut self, keys: &[ArrayRef], rows: usize) -> Result<(), ArrowError> {
        let Some(index) = &mut self.index else {
            self.slots = vec![0; rows];
            self.aggregates.resize(1);
            return Ok(());
        };
        let failed = |error: String| ArrowError::InvalidArgumentError(error);
        hash_rows(keys, &mut self.hashes).map_err(|error| failed(error.to_string()))?;
        let hashes = UInt64Array::from(std::mem::take(&mut self.hashes));
        let found = index.slots(keys, &hashes, &mut self.slots, &mut self.new_rows);
        found.map_err(|error| match error {
            KeyIndexError::Encode(error) => error,
            KeyIndexError::Full => failed(error.to_string()),
        })?;
        self.aggregates.resize(index.slot_count());
        Ok(())
    }
}

impl Operator for LocalGroupAggregate {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if let Some(batch) = self.pending.take() {
            let output = self.aggregate(&batch);
            let output = output.map_err(|error| GroupedError::Arrow(error).of(&self.context))?;
            self.output.push(output);
        }
        Ok(self.output.pop(limit))
    }
}
