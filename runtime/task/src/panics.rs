//! Panics on a task's thread as errors of that task.
//!
//! A panic hook, installed once behind whatever hook there is, notes where the panic happened: the payload that
//! `catch_unwind` gives does not say.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};
use std::thread;

use crate::error::TaskError;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static STAGE: RefCell<Option<(Stage, Arc<str>)>> = const { RefCell::new(None) };
}

/// What an operator is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Working on rows, timers, or the end of its input.
    Running,
    /// Taking its state back.
    Restoring,
    /// Giving its state for a checkpoint.
    Snapshot,
}

/// From here on the thread runs this operator's code; a panic will say so. Called once a piece of work.
pub(crate) fn enter(stage: Stage, operator: &Arc<str>) {
    STAGE.with_borrow_mut(|current| match current {
        Some((now, name)) if Arc::ptr_eq(name, operator) => *now = stage,
        _ => *current = Some((stage, operator.clone())),
    });
}

fn stage_in_words() -> String {
    match STAGE.take() {
        Some((Stage::Running, operator)) => format!(" in {operator}"),
        Some((Stage::Restoring, operator)) => format!(" while {operator} was being restored"),
        Some((Stage::Snapshot, operator)) => format!(" while {operator} gave its state for a checkpoint"),
        None => String::new(),
    }
}

/// Runs a task's code; a panic becomes [`TaskError::Panic`]. What the code owned is gone afterwards, so no broken
/// state can be seen.
pub(crate) fn catch<T>(task: &str, code: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            note_place(info);
            previous(info);
        }));
    });
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| {
        let place = PLACE.take().unwrap_or_else(|| "at an unknown place".to_owned());
        let current = thread::current();
        Err(TaskError::Panic {
            task: task.to_owned(),
            stage: stage_in_words(),
            message: message(payload.as_ref()),
            place: format!("thread {:?} {place}", current.name().unwrap_or("without a name")),
        })
    })
}

fn note_place(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|location| format!("at {location}"));
    // The thread may be ending, its locals gone; then nobody asks either.
    let _ = PLACE.try_with(|cell| cell.replace(place));
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("with a value that is no text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message_and_place() {
        let error = catch::<()>("Map (1/1)", || panic!("no {}", "luck")).unwrap_err();
        assert_eq!(error.to_string(), "Map (1/1) panicked: no luck");
        assert!(
            error.to_failure().detail.contains("panics.rs"),
            "{:?}",
            error.to_failure()
        );
    }

    #[test]
    fn a_payload_that_is_no_text_is_named_as_such() {
        let error = catch::<()>("Map (1/1)", || std::panic::panic_any(7)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Map (1/1) panicked: with a value that is no text"
        );
    }
}
