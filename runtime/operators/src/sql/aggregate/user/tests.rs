//! A sum as a user's function, with and without retract and merge.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use thalweg_functions::user::{AggregateFunction, AggregateFunctionTypes, UserFunctions};
use thalweg_plan::{DataType, Field as SqlField, TypeRoot};

use super::*;

struct Total {
    whole: bool,
}

fn with(accumulators: &[ArrayRef], groups: &[u32], values: &ArrayRef, sign: i64) -> Vec<ArrayRef> {
    let before = accumulators[0].as_primitive::<Int64Type>().iter();
    let mut totals: Vec<i64> = before.map(Option::unwrap_or_default).collect();
    for (group, value) in groups.iter().zip(values.as_primitive::<Int64Type>()) {
        totals[*group as usize] += sign * value.unwrap_or_default();
    }
    vec![Arc::new(Int64Array::from(totals))]
}

impl AggregateFunction for Total {
    fn types(&self, _: &[DataType]) -> Result<AggregateFunctionTypes, String> {
        let number = DataType::nullable(TypeRoot::BigInt);
        Ok(AggregateFunctionTypes {
            args: vec![number.clone()],
            accumulator: vec![SqlField::new("total", number.clone())],
            result: number,
        })
    }

    fn accumulate(
        &self,
        before: &[ArrayRef],
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        Ok(with(before, groups, &args[0], 1))
    }

    fn evaluate(&self, accumulators: &[ArrayRef], _groups: usize) -> Result<ArrayRef, String> {
        Ok(Arc::clone(&accumulators[0]))
    }

    fn retract(
        &self,
        before: &[ArrayRef],
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        match self.whole {
            true => Ok(with(before, groups, &args[0], -1)),
            false => Err("it has no retract".to_owned()),
        }
    }

    fn merge(
        &self,
        before: &[ArrayRef],
        groups: &[u32],
        others: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        match self.whole {
            true => Ok(with(before, groups, &others[0], 1)),
            false => Err("it has no merge".to_owned()),
        }
    }
}

fn accumulator(whole: bool) -> UserAccumulator {
    let functions = UserFunctions::default().aggregate("a.Total", Total { whole });
    let function = functions.aggregate_function("total@a.Total", &[DataType::nullable(TypeRoot::BigInt)]);
    let mut accumulator = UserAccumulator::new(function.unwrap());
    accumulator.resize(4);
    accumulator
}

fn numbers(numbers: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(numbers.to_vec()))]
}

fn update(
    accumulator: &mut UserAccumulator,
    slots: &[Slot],
    signs: &[i8],
    values: &[i64],
) -> Result<(), ArrowError> {
    let signs = Some(signs);
    accumulator.update(Rows { slots, signs }, &numbers(values))
}

fn totals(accumulator: &UserAccumulator, slots: &[Slot]) -> Vec<Option<i64>> {
    let totals = accumulator.evaluate(slots).unwrap();
    totals.as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn rows_go_to_their_slots_by_their_signs() {
    let mut total = accumulator(true);
    let slots = [2, 0, 2, 2, 1];
    update(&mut total, &slots, &[1, 1, -1, 1, 0], &[10, 5, 3, 1, 99]).unwrap();
    assert_eq!(totals(&total, &[0, 1, 2]), [Some(5), None, Some(8)]);
    total.clear(&[2]);
    assert_eq!(totals(&total, &[2, 0]), [None, Some(5)]);
}

#[test]
fn without_signs_all_rows_are_added() {
    let mut total = accumulator(false);
    let (slots, signs) = ([1, 1, 3].as_slice(), None);
    total.update(Rows { slots, signs }, &numbers(&[1, 2, 4])).unwrap();
    assert_eq!(totals(&total, &[1, 3]), [Some(3), Some(4)]);
}

#[test]
fn accumulators_are_stored_and_restored_without_a_merge() {
    let mut total = accumulator(false);
    update(&mut total, &[0, 1], &[1, 1], &[7, 8]).unwrap();
    let stored = total.gather(&[1, 0]).unwrap();
    let mut restored = accumulator(false);
    restored.merge(&[3, 2], &stored).unwrap();
    assert_eq!(totals(&restored, &[2, 3]), [Some(7), Some(8)]);
    update(&mut restored, &[3], &[1], &[1]).unwrap();
    assert_eq!(totals(&restored, &[3]), [Some(9)]);
    let error = restored.merge(
        &[3],
        &stored[..1]
            .iter()
            .map(|column| column.slice(0, 1))
            .collect::<Vec<_>>(),
    );
    assert!(error.unwrap_err().to_string().contains("total: it has no merge"));
}

#[test]
fn accumulators_of_one_slot_are_merged() {
    let mut total = accumulator(true);
    total.merge(&[1, 0, 1, 1], &numbers(&[1, 5, 2, 4])).unwrap();
    assert_eq!(totals(&total, &[0, 1]), [Some(5), Some(7)]);
}

#[test]
fn what_can_not_be_taken_back_fails_by_name() {
    let mut total = accumulator(false);
    let error = update(&mut total, &[0], &[-1], &[7]).unwrap_err();
    assert!(error.to_string().contains("total: it has no retract"), "{error}");
}
