//! An aggregate function: a mean of numbers with weights.

use std::sync::Arc;

use thalweg_script::arrow::array::{ArrayRef, AsArray, Int64Array};
use thalweg_script::arrow::datatypes::Int64Type;
use thalweg_script::functions::{AggregateFunction, AggregateFunctionTypes};
use thalweg_script::types::{DataType, Field, TypeRoot};

/// The sum of value x weight over that of the weights, rounded towards zero; NULL where the weights are 0. Rows with a NULL don't count.
pub(crate) struct WeightedAverage;

/// The accumulators of all groups.
struct Sums {
    /// Of value x weight.
    products: Vec<i64>,
    weights: Vec<i64>,
}

impl Sums {
    /// A new group's are NULL.
    fn of(accumulators: &[ArrayRef]) -> Self {
        let numbers = |column: &ArrayRef| -> Vec<i64> {
            let numbers = column.as_primitive::<Int64Type>().iter();
            numbers.map(Option::unwrap_or_default).collect()
        };
        Self {
            products: numbers(&accumulators[0]),
            weights: numbers(&accumulators[1]),
        }
    }

    /// Adds rows of (value, weight), or with a sign of -1 takes them away.
    fn with_rows(mut self, groups: &[u32], args: &[ArrayRef], sign: i64) -> Result<Vec<ArrayRef>, String> {
        let rows = args[0]
            .as_primitive::<Int64Type>()
            .iter()
            .zip(args[1].as_primitive::<Int64Type>());
        for (group, (value, weight)) in groups.iter().zip(rows) {
            let (Some(value), Some(weight)) = (value, weight) else {
                continue;
            };
            let product = value.checked_mul(weight).ok_or("value x weight leaves BIGINT")?;
            self.add(*group as usize, sign * product, sign * weight)?;
        }
        Ok(self.columns())
    }

    fn add(&mut self, group: usize, product: i64, weight: i64) -> Result<(), String> {
        for (sum, more) in [
            (&mut self.products[group], product),
            (&mut self.weights[group], weight),
        ] {
            *sum = sum.checked_add(more).ok_or("a sum leaves BIGINT")?;
        }
        Ok(())
    }

    fn columns(self) -> Vec<ArrayRef> {
        let column = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
        vec![column(self.products), column(self.weights)]
    }
}

impl AggregateFunction for WeightedAverage {
    fn types(&self, args: &[DataType]) -> Result<AggregateFunctionTypes, String> {
        let whole = |arg: &DataType| {
            matches!(
                arg.root,
                TypeRoot::TinyInt | TypeRoot::SmallInt | TypeRoot::Int | TypeRoot::BigInt | TypeRoot::Null
            )
        };
        if args.len() != 2 || !args.iter().all(whole) {
            return Err("(BIGINT, BIGINT)".to_owned());
        }
        let number = DataType::nullable(TypeRoot::BigInt);
        let fields = ["products", "weights"];
        Ok(AggregateFunctionTypes {
            args: vec![number.clone(), number.clone()],
            accumulator: fields.map(|name| Field::new(name, number.clone())).to_vec(),
            result: number,
        })
    }

    fn accumulate(
        &self,
        accumulators: &[ArrayRef],
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        Sums::of(accumulators).with_rows(groups, args, 1)
    }

    fn evaluate(&self, accumulators: &[ArrayRef], _groups: usize) -> Result<ArrayRef, String> {
        let sums = Sums::of(accumulators);
        let sums = sums.products.iter().zip(&sums.weights);
        let averages = sums.map(|(product, weight)| product.checked_div(*weight));
        Ok(Arc::new(averages.collect::<Int64Array>()))
    }

    fn retracts(&self) -> bool {
        true
    }

    fn retract(
        &self,
        accumulators: &[ArrayRef],
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        Sums::of(accumulators).with_rows(groups, args, -1)
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(
        &self,
        accumulators: &[ArrayRef],
        groups: &[u32],
        others: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        let (mut sums, others) = (Sums::of(accumulators), Sums::of(others));
        for (row, group) in groups.iter().enumerate() {
            sums.add(*group as usize, others.products[row], others.weights[row])?;
        }
        Ok(sums.columns())
    }
}

#[cfg(test)]
mod tests {
    use thalweg_script::arrow::array::Array;

    use super::*;

    fn columns(first: Vec<Option<i64>>, second: Vec<Option<i64>>) -> Vec<ArrayRef> {
        vec![
            Arc::new(Int64Array::from(first)),
            Arc::new(Int64Array::from(second)),
        ]
    }

    fn averages(accumulators: &[ArrayRef]) -> Vec<Option<i64>> {
        let averages = WeightedAverage
            .evaluate(accumulators, accumulators[0].len())
            .unwrap();
        averages.as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn rows_count_by_their_weight_until_they_are_taken_back() {
        let none = columns(vec![None, None], vec![None, None]);
        assert_eq!(averages(&none), [None, None]);
        let rows = columns(vec![Some(10), Some(40), None], vec![Some(2), Some(1), Some(5)]);
        let added = WeightedAverage.accumulate(&none, &[0, 0, 1], &rows).unwrap();
        assert_eq!(averages(&added), [Some(20), None]);
        let gone = columns(vec![Some(40)], vec![Some(1)]);
        let left = WeightedAverage.retract(&added, &[0], &gone).unwrap();
        assert_eq!(averages(&left), [Some(10), None]);
    }

    #[test]
    fn accumulators_are_put_together() {
        let one = columns(vec![Some(20)], vec![Some(2)]);
        let others = columns(vec![Some(40), None], vec![Some(1), None]);
        let merged = WeightedAverage.merge(&one, &[0, 0], &others).unwrap();
        assert_eq!(averages(&merged), [Some(20)]);
    }

    #[test]
    fn what_leaves_bigint_is_an_error() {
        let rows = columns(vec![Some(i64::MAX)], vec![Some(2)]);
        let error = WeightedAverage.accumulate(&columns(vec![None], vec![None]), &[0], &rows);
        assert_eq!(error.unwrap_err(), "value x weight leaves BIGINT");
    }
}
