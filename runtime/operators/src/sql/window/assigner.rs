//! Which windows a time is in, and the slices that windows share. All times are local milliseconds.
//!
//! ```text
//!   HOP of 10, slide 5:         |---- w1 ----|            TUMBLE: each slice is a window
//!                                     |---- w2 ----|
//!   slices of gcd(10, 5) = 5:   | s1  |  s2  |  s3 |      CUMULATE of 15, step 5: windows s1, s1+s2, s1+s2+s3
//! ```
//!
//! A slice is known by its end. Invariant: a window is made of whole slices.

use thalweg_plan::spec::WindowKind;

/// Where windows begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assigner {
    kind: WindowKind,
    offset: i64,
    slice: i64,
}

impl Assigner {
    /// Why there are no such windows, as a message; SESSION has none that are known by times alone.
    pub(crate) fn new(kind: WindowKind, offset: i64) -> Result<Self, String> {
        let positive = |name: &str, value: i64| match value > 0 {
            true => Ok(()),
            false => Err(format!(
                "the {name} of a window is {value} ms: it must be greater than 0"
            )),
        };
        let slice = match kind {
            WindowKind::Tumble { size_ms } => {
                positive("size", size_ms)?;
                size_ms
            }
            WindowKind::Hop { slide_ms, size_ms } => {
                positive("slide", slide_ms)?;
                positive("size", size_ms)?;
                greatest_common_divisor(slide_ms, size_ms)
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                positive("step", step_ms)?;
                positive("size", size_ms)?;
                if size_ms % step_ms != 0 {
                    return Err("CUMULATE requires that its size is a multiple of its step".to_owned());
                }
                step_ms
            }
            WindowKind::Session { .. } => return Err("sessions have no slices".to_owned()),
        };
        Ok(Self { kind, offset, slice })
    }

    /// The end of the slice that a time is in.
    #[inline]
    pub(crate) fn slice_end(&self, time: i64) -> i64 {
        floor(time, self.offset, self.slice) + self.slice
    }

    /// The first window that the slice is part of, as start and end; `None` if it lies between windows.
    pub(crate) fn first_window(&self, slice_end: i64) -> Option<(i64, i64)> {
        match self.kind {
            WindowKind::Tumble { size_ms } => Some((slice_end - size_ms, slice_end)),
            WindowKind::Hop { slide_ms, size_ms } => {
                let to_next_end = (self.offset + size_ms - slice_end).rem_euclid(slide_ms);
                let end = slice_end + to_next_end;
                (end - size_ms < slice_end).then_some((end - size_ms, end))
            }
            WindowKind::Cumulate { size_ms, .. } => {
                Some((floor(slice_end - 1, self.offset, size_ms), slice_end))
            }
            WindowKind::Session { .. } => None,
        }
    }

    /// The window behind `window` that the slice is part of, too.
    pub(crate) fn next_window(&self, slice_end: i64, (start, end): (i64, i64)) -> Option<(i64, i64)> {
        match self.kind {
            WindowKind::Tumble { .. } | WindowKind::Session { .. } => None,
            WindowKind::Hop { slide_ms, size_ms } => {
                let next = end + slide_ms;
                (next - size_ms < slice_end).then_some((next - size_ms, next))
            }
            WindowKind::Cumulate { step_ms, size_ms } => {
                (end < start + size_ms).then_some((start, end + step_ms))
            }
        }
    }

    /// The first window of the slice that is not over; `is_over` tells it by the end, and is true for all ends before one for which it
    /// is. `None`: all are over, or there is none (`false`).
    pub(crate) fn open_window(
        &self,
        slice_end: i64,
        is_over: impl Fn(i64) -> bool,
    ) -> Result<(i64, i64), NoWindow> {
        let mut window = self.first_window(slice_end).ok_or(NoWindow::Between)?;
        while is_over(window.1) {
            window = self.next_window(slice_end, window).ok_or(NoWindow::Late)?;
        }
        Ok(window)
    }

    /// The windows that a time is in, as Flink puts them out: HOP from the last one on, CUMULATE from the first.
    pub(crate) fn windows(&self, time: i64, windows: &mut Vec<(i64, i64)>) {
        windows.clear();
        let slice_end = self.slice_end(time);
        let mut window = self.first_window(slice_end);
        while let Some(known) = window {
            windows.push(known);
            window = self.next_window(slice_end, known);
        }
        if matches!(self.kind, WindowKind::Hop { .. }) {
            windows.reverse();
        }
    }

    /// Whether a slice may be part of several windows, so that what it holds is needed when a window is over.
    pub(crate) fn shares_slices(&self) -> bool {
        matches!(self.kind, WindowKind::Hop { size_ms, .. } if self.slice < size_ms)
    }

    /// Whether a window goes on in the next one, with all that it holds.
    pub(crate) fn cumulates(&self) -> bool {
        matches!(self.kind, WindowKind::Cumulate { .. })
    }
}

/// Why a time has no window that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoWindow {
    /// It lies between windows whose slide is longer than they are.
    Between,
    /// All its windows are over.
    Late,
}

/// The last of the times `offset + n * width` that is not behind `time`.
#[inline]
fn floor(time: i64, offset: i64, width: i64) -> i64 {
    time - (time - offset).rem_euclid(width)
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = WindowKind> {
        prop_oneof![
            (1..20_i64).prop_map(|size_ms| WindowKind::Tumble { size_ms }),
            (1..20_i64, 1..20_i64).prop_map(|(slide_ms, size_ms)| WindowKind::Hop { slide_ms, size_ms }),
            (1..6_i64, 1..6_i64).prop_map(|(step_ms, steps)| WindowKind::Cumulate {
                step_ms,
                size_ms: step_ms * steps,
            }),
        ]
    }

    /// All windows near a time, one by one.
    fn naive(kind: WindowKind, offset: i64, time: i64) -> Vec<(i64, i64)> {
        let starts = time - 60..=time;
        let mut windows = Vec::new();
        for start in starts {
            match kind {
                WindowKind::Tumble { size_ms } if (start - offset).rem_euclid(size_ms) == 0 => {
                    windows.push((start, start + size_ms));
                }
                WindowKind::Hop { slide_ms, size_ms } if (start - offset).rem_euclid(slide_ms) == 0 => {
                    windows.push((start, start + size_ms));
                }
                WindowKind::Cumulate { step_ms, size_ms } if (start - offset).rem_euclid(size_ms) == 0 => {
                    let steps = 1..=size_ms / step_ms;
                    windows.extend(steps.map(|step| (start, start + step * step_ms)));
                }
                _ => {}
            }
        }
        windows.retain(|(start, end)| (*start..*end).contains(&time));
        windows
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_windows_that_hold_it(
            kind in kinds(),
            offset in -30..30_i64,
            time in -100..100_i64,
        ) {
            let assigner = Assigner::new(kind, offset).unwrap();
            let mut windows = Vec::new();
            assigner.windows(time, &mut windows);
            windows.sort_unstable();
            let mut expected = naive(kind, offset, time);
            expected.sort_unstable();
            prop_assert_eq!(windows, expected);
        }

        #[test]
        fn all_times_of_a_slice_are_in_the_same_windows(
            kind in kinds(),
            offset in -30..30_i64,
            time in -100..100_i64,
        ) {
            let assigner = Assigner::new(kind, offset).unwrap();
            let end = assigner.slice_end(time);
            prop_assert!(time < end && time >= end - assigner.slice);
            let (mut first, mut last) = (Vec::new(), Vec::new());
            assigner.windows(end - assigner.slice, &mut first);
            assigner.windows(end - 1, &mut last);
            prop_assert_eq!(first, last);
        }

        #[test]
        fn the_open_window_is_the_first_that_is_not_over(
            kind in kinds(),
            offset in -30..30_i64,
            time in -100..100_i64,
            over in -100..130_i64,
        ) {
            let assigner = Assigner::new(kind, offset).unwrap();
            let mut expected = naive(kind, offset, time);
            expected.sort_by_key(|window| window.1);
            let open = assigner.open_window(assigner.slice_end(time), |end| end <= over);
            let found = expected.iter().find(|window| window.1 > over).copied();
            let expected = match found {
                Some(window) => Ok(window),
                None if expected.is_empty() => Err(NoWindow::Between),
                None => Err(NoWindow::Late),
            };
            prop_assert_eq!(open, expected);
        }
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        assert!(Assigner::new(WindowKind::Tumble { size_ms: 0 }, 0).is_err());
        let cumulate = WindowKind::Cumulate {
            step_ms: 4,
            size_ms: 10,
        };
        assert!(Assigner::new(cumulate, 0).is_err());
    }
}
