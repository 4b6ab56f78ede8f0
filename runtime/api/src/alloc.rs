//! The allocator that counts: a worker stays within its byte budget or stops with a message, before the kernel kills
//! the TaskManager's whole container.
//!
//! ```text
//!   alloc/realloc/dealloc -> the thread's own counter --every 16 KiB--> ALLOCATED > BUDGET?  message, exit code 86
//! ```
//!
//! It counts the bytes that Rust code asks for, not malloc's overhead and not what C libraries take for themselves;
//! the TaskManager's watchdog looks at the whole process. The sum is off by less than [`BATCH`] a live thread, and by as much for
//! each thread that has ended.
//!
//! `#[thalweg_api::main]` installs it.

#![allow(unsafe_code)] // the proof is at each use; nothing else in the crate is unsafe

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// The exit code of a worker that passed its budget; the TaskManager knows it.
pub const OVER_BUDGET_EXIT_CODE: i32 = 86;
/// Bytes that a thread counts for itself before it adds them to the process's.
const BATCH: usize = 16 << 10;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);
static BUDGET: AtomicUsize = AtomicUsize::new(usize::MAX);
static LIMITED: OnceLock<Limited> = OnceLock::new();

/// Who keeps to the budget, and what to do when it doesn't suffice.
pub(crate) struct Limited {
    /// `worker of job X`, or `main`.
    pub(crate) who: String,
    /// What to do.
    pub(crate) advice: &'static str,
}

thread_local! {
    // Const and without destructor: its first use in a thread allocates nothing and registers nothing.
    static UNCOUNTED: Cell<isize> = const { Cell::new(0) };
}

/// Bytes allocated by this process and not freed, if its `main` has the `#[thalweg_api::main]` attribute; else 0.
pub fn allocated_bytes() -> u64 {
    u64::try_from(ALLOCATED.load(Ordering::Relaxed)).unwrap_or(0)
}

/// From now on the process ends itself when it holds more.
pub(crate) fn arm(limited: Limited, budget: usize) {
    // It is set first: whoever sees the budget sees whose it is. A second call keeps the first one.
    let _ = LIMITED.set(limited);
    BUDGET.store(budget, Ordering::Release);
}

/// The system's allocator, counted.
pub struct CountingAllocator {
    inner: System,
}

impl CountingAllocator {
    /// For a `#[global_allocator]`.
    #[allow(clippy::new_without_default)] // a static needs a const
    pub const fn new() -> Self {
        Self { inner: System }
    }
}

// SAFETY: every call goes to `System` with the arguments as they came, and its result goes back unchanged, so `System`'s
// guarantees are this allocator's. The counting beside it touches a `Cell` of the thread and two atomics: it doesn't
// allocate, unwind or look at the memory. A layout's size is at most isize::MAX, so the casts don't change it.
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract for us.
        let memory = unsafe { self.inner.alloc(layout) };
        if !memory.is_null() {
            count(layout.size() as isize);
        }
        memory
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract for us.
        let memory = unsafe { self.inner.alloc_zeroed(layout) };
        if !memory.is_null() {
            count(layout.size() as isize);
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract for us; `memory` came from `inner`, where every allocation does.
        unsafe { self.inner.dealloc(memory, layout) };
        count(-(layout.size() as isize));
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `realloc`'s contract for us; `memory` came from `inner`.
        let moved = unsafe { self.inner.realloc(memory, layout, new_size) };
        if !moved.is_null() {
            count(new_size as isize - layout.size() as isize);
        }
        moved
    }
}

#[inline]
fn count(delta: isize) {
    // A thread whose locals are gone counts straight into the process's sum.
    let due = UNCOUNTED.try_with(|own| {
        let sum = own.get() + delta;
        let due = sum.unsigned_abs() >= BATCH;
        own.set(if due { 0 } else { sum });
        if due { sum } else { 0 }
    });
    let due = due.unwrap_or(delta);
    if due != 0 {
        add(due);
    }
}

#[cold]
fn add(delta: isize) {
    let total = ALLOCATED.fetch_add(delta, Ordering::Relaxed) + delta;
    let budget = BUDGET.load(Ordering::Acquire);
    if delta > 0 && usize::try_from(total).is_ok_and(|total| total > budget) {
        stop(total, budget);
    }
}

/// Ends the process without allocating: whatever lock the thread holds, and however little memory there is.
fn stop(total: isize, budget: usize) -> ! {
    let mut line = Line {
        bytes: [0; 256],
        len: 0,
    };
    let (who, advice) = LIMITED
        .get()
        .map_or(("?", ""), |limited| (limited.who.as_str(), limited.advice));
    // A line that is too long is cut; it is written all the same.
    let _ = writeln!(
        line,
        "{who}: {total} bytes allocated, budget {budget}: stopped; {advice}"
    );
    // SAFETY: the pointer and length are those of `line.bytes`' initialised start; `write` only reads them.
    unsafe { libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.len) };
    // SAFETY: `_exit` takes any code and runs no handlers, so no lock that this thread holds is asked for.
    unsafe { libc::_exit(OVER_BUDGET_EXIT_CODE) }
}

/// Text on the stack.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.len += length;
        if length == text.len() {
            Ok(())
        } else {
            Err(std::fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_allocations_are_counted_at_once_and_given_back() {
        let allocator = CountingAllocator::new();
        let layout = Layout::from_size_align(64 << 20, 8).unwrap();
        let before = allocated_bytes();
        // SAFETY: the layout has a size; the memory is freed with the layout that it was allocated with.
        let memory = unsafe { allocator.alloc(layout) };
        let held = allocated_bytes();
        // SAFETY: as above.
        unsafe { allocator.dealloc(memory, layout) };
        assert!(held >= before + (64 << 20), "{before} -> {held}");
        assert!(allocated_bytes() < held);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let mut line = Line {
            bytes: [0; 256],
            len: 0,
        };
        assert!(write!(line, "{}", "x".repeat(300)).is_err());
        assert_eq!(line.len, 256);
    }
}
