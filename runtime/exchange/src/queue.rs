//! The queue of one channel: what it holds is bounded by the channel's credit, not here.
//!
//! The reader takes runs: small batches that lie there already, with no control element between them, come out together
//! and are merged by who takes them.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::ready::lock;

/// Bytes that every element costs beside its content: no queue grows without limit on empty elements.
pub(crate) const ELEMENT_OVERHEAD: usize = 128;

/// What a queue must know of its elements.
pub(crate) trait Measured {
    /// Number of rows; `None` for a control element.
    fn batch_rows(&self) -> Option<usize>;
    /// Bytes of credit that it costs, [`ELEMENT_OVERHEAD`] included.
    fn cost(&self) -> usize;
}

/// Up to where batches are merged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MergeLimit {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl MergeLimit {
    /// Every element by itself.
    pub(crate) const NONE: Self = Self { rows: 0, bytes: 0 };

    /// Whether a batch is so small that copying it behind another pays.
    fn is_small(self, rows: usize, bytes: usize) -> bool {
        rows * 2 <= self.rows && bytes * 2 <= self.bytes
    }
}

/// A queue with one writer and one reader.
#[derive(Debug)]
pub(crate) struct ElementQueue<T> {
    elements: Mutex<VecDeque<T>>,
}

impl<T> Default for ElementQueue<T> {
    fn default() -> Self {
        Self {
            elements: Mutex::default(),
        }
    }
}

impl<T: Measured> ElementQueue<T> {
    pub(crate) fn push(&self, element: T) {
        lock(&self.elements).push_back(element);
    }

    /// Copies of the elements up to the first that `stop` names; `None` if there is none.
    pub(crate) fn peek_to(&self, stop: impl Fn(&T) -> bool) -> Option<Vec<T>>
    where
        T: Clone,
    {
        let elements = lock(&self.elements);
        let end = elements.iter().position(stop)?;
        Some(elements.range(..=end).cloned().collect())
    }

    /// Copies of the elements that `wanted` names.
    pub(crate) fn peek_all(&self, wanted: impl Fn(&T) -> bool) -> Vec<T>
    where
        T: Clone,
    {
        let elements = lock(&self.elements);
        elements
            .iter()
            .filter(|element| wanted(element))
            .cloned()
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.elements).is_empty()
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut *lock(&self.elements));
        drop(dropped); // behind the lock: freeing may take long
    }

    /// Appends the next element to `run`, and the batches behind it that fit with it into `limit`. Says whether
    /// something is left.
    pub(crate) fn pop_run(&self, limit: MergeLimit, run: &mut Vec<T>) -> bool {
        let mut elements = lock(&self.elements);
        let Some(first) = elements.pop_front() else {
            return false;
        };
        let mut rows = first.batch_rows().unwrap_or(usize::MAX);
        let mut bytes = first.cost();
        run.push(first);
        while rows < limit.rows && limit.is_small(rows, bytes) {
            let Some(next) = elements.front() else { break };
            let (Some(next_rows), next_bytes) = (next.batch_rows(), next.cost()) else {
                break;
            };
            let fits = rows + next_rows <= limit.rows && bytes + next_bytes <= limit.bytes;
            if !fits || !limit.is_small(next_rows, next_bytes) {
                break;
            }
            rows += next_rows;
            bytes += next_bytes;
            run.extend(elements.pop_front());
        }
        !elements.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Element(Option<usize>);

    impl Measured for Element {
        fn batch_rows(&self) -> Option<usize> {
            self.0
        }

        fn cost(&self) -> usize {
            self.0.unwrap_or(1)
        }
    }

    fn runs(elements: &[Option<usize>]) -> Vec<Vec<Option<usize>>> {
        let queue = ElementQueue::default();
        elements.iter().for_each(|rows| queue.push(Element(*rows)));
        let mut runs = Vec::new();
        loop {
            let mut run = Vec::new();
            let more = queue.pop_run(
                MergeLimit {
                    rows: 100,
                    bytes: 1000,
                },
                &mut run,
            );
            runs.push(run.into_iter().map(|element| element.0).collect());
            if !more {
                return runs;
            }
        }
    }

    #[test]
    fn small_batches_come_out_together_up_to_the_limit() {
        assert_eq!(
            runs(&[Some(30), Some(20), Some(60)]),
            [vec![Some(30), Some(20)], vec![Some(60)]]
        );
    }

    #[test]
    fn a_control_element_separates() {
        assert_eq!(
            runs(&[Some(1), None, Some(1)]),
            [vec![Some(1)], vec![None], vec![Some(1)]]
        );
    }

    #[test]
    fn a_large_batch_is_not_copied_to_get_a_few_rows_more() {
        assert_eq!(
            runs(&[Some(90), Some(5), Some(90)]),
            [vec![Some(90)], vec![Some(5)], vec![Some(90)]]
        );
    }
}
