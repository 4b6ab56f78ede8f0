//! VAR_POP, VAR_SAMP, STDDEV_POP, STDDEV_SAMP by Welford's algorithm, step by step as Flink's WelfordM2AggFunction: results agree in the
//! last digit, also where rows were taken back and rounding is left.
//!
//! Invariant: `mean` and `m2` are 0 while `n` is not above 0. More rows may be taken back than were there; they count.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use arrow::error::ArrowError;
use thalweg_state::Slot;

use super::accumulator::{Accumulator, Rows, argument, for_each_value, primitive};

/// Which of the variances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
}

/// The number of values, their mean, and the sum of the squares of their distances to it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    n: i64,
    mean: f64,
    m2: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.n += 1;
        if self.n <= 0 {
            return;
        }
        let before = value - self.mean;
        self.mean += before / self.n as f64;
        self.m2 += before * (value - self.mean);
    }

    fn take_back(&mut self, value: f64) {
        self.n -= 1;
        if self.n <= 0 {
            (self.mean, self.m2) = (0.0, 0.0);
            return;
        }
        let after = value - self.mean;
        self.mean -= after / self.n as f64;
        self.m2 -= (value - self.mean) * after;
    }

    fn merge(&mut self, other: Self) {
        if other.n <= 0 {
            self.n += other.n;
        } else if self.n == 0 {
            *self = other;
        } else {
            let n = self.n + other.n;
            let distance = other.mean - self.mean;
            self.mean += other.n as f64 / n as f64 * distance;
            self.m2 = self.m2 + other.m2 + self.n as f64 * other.n as f64 / n as f64 * distance * distance;
            self.n = n;
        }
        if self.n <= 0 {
            (self.mean, self.m2) = (0.0, 0.0);
        }
    }

    /// Null without values, and where rounding has left less than nothing.
    fn result(&self, spread: Spread) -> Option<f64> {
        let divisor = match spread {
            Spread::VarPop | Spread::StddevPop => self.n,
            Spread::VarSamp | Spread::StddevSamp => self.n - 1,
        };
        if divisor <= 0 || self.m2 < 0.0 {
            return None;
        }
        let variance = self.m2 / divisor as f64;
        Some(match spread {
            Spread::VarPop | Spread::VarSamp => variance,
            Spread::StddevPop | Spread::StddevSamp => variance.sqrt(),
        })
    }
}

/// One of the four.
pub(crate) struct Variance {
    spread: Spread,
    data_type: DataType,
    slots: Vec<Moments>,
}

impl Variance {
    pub(crate) fn new(spread: Spread, data_type: DataType) -> Self {
        Self {
            spread,
            data_type,
            slots: Vec::new(),
        }
    }
}

impl Accumulator for Variance {
    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("n", DataType::Int64, false),
            Field::new("mean", DataType::Float64, false),
            Field::new("m2", DataType::Float64, false),
        ]
    }

    fn resize(&mut self, count: usize) {
        self.slots.resize(count.max(self.slots.len()), Moments::default());
    }

    fn update(&mut self, rows: Rows<'_>, args: &[ArrayRef]) -> Result<(), ArrowError> {
        let values = cast(argument(args, 0)?, &DataType::Float64)?;
        let values = primitive::<Float64Type>(&values)?;
        for_each_value(rows, values, |slot, value, sign| match sign {
            1.. => self.slots[slot].add(value),
            _ => self.slots[slot].take_back(value),
        });
        Ok(())
    }

    fn merge(&mut self, slots: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        let counts = primitive::<Int64Type>(argument(parts, 0)?)?;
        let means = primitive::<Float64Type>(argument(parts, 1)?)?;
        let distances = primitive::<Float64Type>(argument(parts, 2)?)?;
        for (row, slot) in slots.iter().enumerate() {
            self.slots[*slot as usize].merge(Moments {
                n: counts.value(row),
                mean: means.value(row),
                m2: distances.value(row),
            });
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[Slot]) -> Result<ArrayRef, ArrowError> {
        let results = slots
            .iter()
            .map(|slot| self.slots[*slot as usize].result(self.spread));
        cast(&results.collect::<Float64Array>(), &self.data_type)
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        let moments = || slots.iter().map(|slot| &self.slots[*slot as usize]);
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(moments().map(|moments| moments.n))),
            Arc::new(Float64Array::from_iter_values(
                moments().map(|moments| moments.mean),
            )),
            Arc::new(Float64Array::from_iter_values(
                moments().map(|moments| moments.m2),
            )),
        ])
    }

    fn clear(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.slots[*slot as usize] = Moments::default();
        }
    }

    fn memory_size(&self) -> usize {
        self.slots.capacity() * size_of::<Moments>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    fn results(spread: Spread, values: &[f64], signs: &[i8]) -> Option<f64> {
        let mut variance = Variance::new(spread, DataType::Float64);
        variance.resize(1);
        let slots = vec![0; values.len()];
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let rows = Rows {
            slots: &slots,
            signs: Some(signs),
        };
        variance.update(rows, &[values]).unwrap();
        let result = variance.evaluate(&[0]).unwrap();
        result.as_primitive::<Float64Type>().iter().next().unwrap()
    }

    #[test]
    fn of_one_value_it_is_zero_and_null_as_a_samples() {
        assert_eq!(results(Spread::VarPop, &[7.0], &[1]), Some(0.0));
        assert_eq!(results(Spread::StddevSamp, &[7.0], &[1]), None);
    }

    #[test]
    fn rounding_that_is_left_of_values_taken_back_is_flinks() {
        let values = [5.0, 8.0, 6.0, 6.0];
        assert_eq!(results(Spread::StddevPop, &values, &[1, 1, 1, -1]), Some(1.5));
        assert_eq!(
            results(Spread::StddevPop, &values[..3], &[1; 3]),
            Some(1.247_219_128_924_647)
        );
    }

    #[test]
    fn less_than_nothing_is_null() {
        let negative = Moments {
            n: 2,
            mean: 1.0,
            m2: -1e-20,
        };
        assert_eq!(negative.result(Spread::StddevPop), None);
        assert_eq!(results(Spread::VarPop, &[1.0, 1.0], &[1, -1]), None);
    }

    #[test]
    fn parts_that_are_merged_are_as_the_whole() {
        let (mut whole, mut left, mut right) = (Moments::default(), Moments::default(), Moments::default());
        for value in 0..10 {
            whole.add(f64::from(value));
            if value < 4 { &mut left } else { &mut right }.add(f64::from(value));
        }
        left.merge(right);
        assert_eq!((left.n, left.mean), (whole.n, whole.mean));
        assert!((left.m2 - whole.m2).abs() < 1e-9);
    }

    #[test]
    fn rows_taken_back_before_they_come_count() {
        let mut moments = Moments::default();
        moments.take_back(3.0);
        moments.add(3.0);
        assert_eq!(moments, Moments::default());
        let mut merged = Moments::default();
        merged.merge(Moments {
            n: -1,
            mean: 0.0,
            m2: 0.0,
        });
        merged.add(3.0);
        assert_eq!(merged.n, 0);
    }
}
