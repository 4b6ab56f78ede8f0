//! What joins of encoded rows have in common: pairs of rows as columns, and the condition on them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema as Columns, SchemaRef};
use arrow::error::ArrowError;
use thalweg_functions::Evaluator;
use thalweg_plan::Expr;
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::encoded::RowCodec;
use super::output::{arrow_error, evaluation_error, kinds_of, record_batch};
use crate::{OperatorContext, OperatorError};

/// A left row, a right row, or one of them.
pub(crate) type Pair = (Option<Arc<[u8]>>, Option<Arc<[u8]>>);

/// Makes batches of pairs.
pub(crate) struct Pairs {
    schemas: [SchemaRef; 2],
    /// Left, then right columns, all nullable.
    pair_schema: SchemaRef,
    schema: SchemaRef,
    condition: Option<Evaluator>,
    /// Whether the output has the left columns only.
    left_only: bool,
}

impl Pairs {
    /// Of an operator with two inputs.
    pub(crate) fn new(
        condition: Option<&Expr>,
        left_only: bool,
        operator: &SqlOperator<'_>,
        context: &OperatorContext,
    ) -> Result<Self, OperatorError> {
        let schemas = [0, 1].map(|side| operator.inputs[side].to_arrow());
        let fields = schemas.iter().flat_map(|schema| schema.fields().iter());
        let fields: Vec<Field> = fields
            .map(|field| Field::clone(field).with_nullable(true))
            .collect();
        let pair_schema = Arc::new(Columns::new(fields));
        let evaluator = |condition: &Expr| {
            Evaluator::new(
                std::slice::from_ref(condition),
                &pair_schema,
                Arc::clone(&operator.env),
            )
        };
        let condition = condition.map(evaluator).transpose();
        Ok(Self {
            condition: condition.map_err(|error| evaluation_error(context, &error))?,
            schemas,
            pair_schema,
            schema: operator.output.to_arrow(),
            left_only,
        })
    }

    /// For which of these pairs the condition is true; `None`: for all.
    pub(crate) fn matching(
        &self,
        pairs: &[Pair],
        codecs: [&RowCodec; 2],
        context: &OperatorContext,
    ) -> Result<Option<BooleanArray>, OperatorError> {
        let Some(condition) = self.condition.as_ref().filter(|_| !pairs.is_empty()) else {
            return Ok(None);
        };
        let columns = self.columns(pairs, codecs, false);
        let rows = columns.and_then(|columns| record_batch(&self.pair_schema, columns, pairs.len()));
        let rows = rows.map_err(|source| arrow_error(context, source))?;
        let mask = condition.evaluate_filter(&rows);
        mask.map(Some).map_err(|error| evaluation_error(context, &error))
    }

    /// Pairs as rows of the output.
    pub(crate) fn batch(
        &self,
        pairs: &[Pair],
        kinds: Option<&[i8]>,
        codecs: [&RowCodec; 2],
    ) -> Result<StreamBatch, ArrowError> {
        let columns = self.columns(pairs, codecs, self.left_only)?;
        Ok(StreamBatch {
            kinds: kinds.and_then(|kinds| kinds_of(kinds.iter().copied())),
            ..StreamBatch::new(record_batch(&self.schema, columns, pairs.len())?)
        })
    }

    fn columns(
        &self,
        pairs: &[Pair],
        codecs: [&RowCodec; 2],
        left_only: bool,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns = side(
            pairs.iter().map(|pair| pair.0.as_ref()),
            codecs[0],
            &self.schemas[0],
        )?;
        if !left_only {
            columns.extend(side(
                pairs.iter().map(|pair| pair.1.as_ref()),
                codecs[1],
                &self.schemas[1],
            )?);
        }
        Ok(columns)
    }
}

/// One side's columns, nulls where there is no row.
fn side<'a>(
    rows: impl Iterator<Item = Option<&'a Arc<[u8]>>> + Clone,
    codec: &RowCodec,
    schema: &SchemaRef,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let count = rows.clone().count();
    let there = rows.clone().flatten().count();
    if there == count {
        return codec.decode(rows.flatten());
    }
    if there == 0 {
        let fields = schema.fields().iter();
        return Ok(fields
            .map(|field| new_null_array(field.data_type(), count))
            .collect());
    }
    let columns = codec.decode(rows.clone().flatten())?;
    let mut next = 0_u32..;
    let places: UInt32Array = rows.map(|row| row.and_then(|_| next.next())).collect();
    columns.iter().map(|column| take(column, &places, None)).collect()
}

/// Rows whose key has a null that finds no partner.
pub(crate) fn unmatched(keys: &[ArrayRef], null_safe: &[bool], rows: usize) -> Option<Vec<bool>> {
    let nulls = keys.iter().zip(null_safe).filter(|(_, safe)| !**safe);
    let nulls = nulls.filter_map(|(column, _)| column.logical_nulls());
    nulls.fold(None, |found: Option<Vec<bool>>, nulls| {
        let mut found = found.unwrap_or_else(|| vec![false; rows]);
        found
            .iter_mut()
            .zip(nulls.iter())
            .for_each(|(found, valid)| *found |= !valid);
        Some(found)
    })
}
