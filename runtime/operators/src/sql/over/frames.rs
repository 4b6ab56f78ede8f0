//! Which rows are in a frame: pure decisions.

use std::collections::VecDeque;

use thalweg_plan::DataType;
use thalweg_plan::spec::{AggregateCall, Frame};
use thalweg_state::TimeDomain;

use super::Due;
use super::buffer::Kept;

/// Functions of a row's place.
pub(super) const BY_PLACE: [&str; 4] = ["ROW_NUMBER", "RANK", "DENSE_RANK", "LAG"];
/// The call as one whose rows leave a bounded frame; ranks are of the order's column.
pub(super) fn in_frame(call: &AggregateCall, frame: Frame, order: (usize, &DataType)) -> AggregateCall {
    let is_bounded = !matches!(frame, Frame::Rows(None) | Frame::Range(None));
    let function = match call.function.as_str() {
        "ROW_NUMBER" => "COUNT".to_owned(),
        other => other.to_owned(),
    };
    let (args, arg_types) = match call.function.as_str() {
        "RANK" | "DENSE_RANK" => (vec![order.0], vec![order.1.clone()]),
        "ROW_NUMBER" => (Vec::new(), Vec::new()),
        _ => (call.args.clone(), call.arg_types.clone()),
    };
    AggregateCall {
        function,
        args,
        arg_types,
        retracts: is_bounded,
        ..call.clone()
    }
}

/// Rows by the clock are no peers of one another, unless they wait for the clock.
pub(super) fn effective(frame: Frame, waits: Option<TimeDomain>) -> Frame {
    match (frame, waits) {
        (Frame::Range(None), None | Some(TimeDomain::Processing)) => Frame::Rows(None),
        (frame, _) => frame,
    }
}

/// The row that leaves a frame of so many rows before the current one: with the current one there would be one too many.
pub(super) fn nth_last(history: &VecDeque<Kept>, new: &[u32], due: &Due, preceding: u64) -> Option<Kept> {
    let frame = usize::try_from(preceding).ok()?.checked_add(1)?;
    let place = (history.len() + new.len()).checked_sub(frame)?;
    match place.checked_sub(history.len()) {
        None => history.get(place).cloned(),
        Some(place) => new.get(place).map(|row| due.rows[*row as usize].clone()),
    }
}

/// Whether a row, behind which so many are, is in no frame of the last row (at `time`).
pub(super) fn is_left(frame: Frame, kept: &Kept, behind: usize, time: i64) -> bool {
    match frame {
        Frame::Rows(None) | Frame::Range(None) => true,
        Frame::Rows(Some(preceding)) => behind as u64 > preceding,
        Frame::Range(Some(interval)) => kept.time < time.saturating_sub_unsigned(interval),
    }
}

/// Whether rows of the frame leave it.
pub(super) fn is_bounded(frame: Frame) -> bool {
    !matches!(frame, Frame::Rows(None) | Frame::Range(None))
}
