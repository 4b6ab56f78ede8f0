//! User functions as operators.
//!
//! ```text
//!   closure --Map/FlatMap/..--> RowFunction --RowOperator--> Operator
//!                                               |
//!                   one catch_unwind a piece of output: a panic is the task's error, with message and place
//! ```
//!
//! Functions with state, timers or several inputs are a [`Logic`] each, run by a [`Driver`].
//!
//! Everything is generic over the closure: a row costs a direct call, no dispatch, no allocation.
//! Invariants: a record's event time and change kind go with what it becomes; a watermark stays between the records that it
//! was between.

mod async_wait;
mod batch;
mod co_process;
mod collector;
mod driver;
mod filter;
mod key;
mod operator_state;
mod process;
mod reduce;
mod row;
mod services;
#[cfg(test)]
pub(crate) mod testing;
mod timestamps;

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use thalweg_operators::{OperatorContext, OperatorError};

use crate::record::RecordError;

pub(crate) use async_wait::{AsyncOperator, AsyncOptions, OutputMode};
pub(crate) use batch::BatchOperator;
pub(crate) use co_process::{BroadcastProcess, CoProcess, CoRows, KeyedBroadcastProcess, KeyedCoProcess};
pub use collector::Collector;
pub(crate) use driver::{Driver, Logic, Output, RowAt};
pub(crate) use filter::FilterOperator;
pub(crate) use key::{ComputedKey, FieldKey};
pub(crate) use process::{KeyedProcess, Process};
pub(crate) use reduce::ReduceOperator;
pub(crate) use row::{FlatMap, Map, RowFunction, RowOperator, TryFlatMap, TryMap};
pub(crate) use services::Services;
pub(crate) use timestamps::TimestampsOperator;

thread_local! {
    /// Where this thread's last panic happened; a panic's payload does not say.
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes where a panic happens; called by the panic hook.
pub(crate) fn note_panic_place(info: &PanicHookInfo<'_>) {
    let place = info
        .location()
        .map(|location| format!("{}:{}", location.file(), location.line()));
    // The thread may be ending, its locals gone; then nobody asks either.
    let _ = PANIC_PLACE.try_with(|cell| cell.replace(place));
}

/// A panic's message, and its place if the hook noted it.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(a value that is no text)");
    match PANIC_PLACE.take() {
        Some(place) => format!("{text} (at {place})"),
        None => text.to_owned(),
    }
}

/// Runs user code; a panic becomes [`OperatorError::UserPanic`]. The task ends with the error, so nobody sees what the code
/// left half done.
pub(crate) fn guard<R>(
    operator: &str,
    code: impl FnOnce() -> Result<R, OperatorError>,
) -> Result<R, OperatorError> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        Err(OperatorError::UserPanic {
            operator: operator.to_owned(),
            message: panic_message(payload.as_ref()),
        })
    })
}

/// Adds to a failure of user code which row of the operator's batch it was called with.
pub(crate) fn at_row(error: OperatorError, row: usize, rows: usize) -> OperatorError {
    let said = |message: String| format!("{message} (row {} of a batch of {rows})", row + 1);
    match error {
        OperatorError::UserPanic { operator, message } => OperatorError::UserPanic {
            operator,
            message: said(message),
        },
        OperatorError::User { operator, message } => OperatorError::User {
            operator,
            message: said(message),
        },
        other => other,
    }
}

/// Columns that are not those of the stream's record.
pub(crate) fn wrong_input(context: &OperatorContext, error: &RecordError) -> OperatorError {
    OperatorError::Input {
        operator: context.operator_name.to_string(),
        message: error.to_string(),
    }
}

/// A batch that arrow refuses.
pub(crate) fn arrow_error(context: &OperatorContext, source: arrow::error::ArrowError) -> OperatorError {
    OperatorError::Arrow {
        operator: context.operator_name.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests;
