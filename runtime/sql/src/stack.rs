//! Parser, binder and planner recurse as deep as the script does, which the parser bounds. What that takes at most is here, so that it
//! doesn't depend on the thread that calls them.

/// Enough for what the parser lets through: half of it is the most that tests take without optimisation.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Runs it with [`STACK_BYTES`] of stack; memory is taken as it is touched.
pub(crate) fn with_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES, STACK_BYTES, run)
}
