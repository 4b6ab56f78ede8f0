//! How a task's thread sleeps: its `Waker` unparks the thread.
//!
//! ```text
//!   thread:  clear -> poll everything with the waker -> nothing ready? -> wait(until)
//!   others:  wake -> notified = true -> unpark
//! ```
//!
//! Invariant: a wake-up after `clear` ends the next `wait`, also when user code on the thread parked and took the
//! thread's own token in between; that is what `notified` is for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use std::thread::{self, Thread};
use std::time::Instant;

/// The sleeping place of one thread.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    notified: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Parker {
    /// Names the calling thread as the one that waits. A wake-up from before is kept.
    pub(crate) fn attach(&self) {
        self.thread.get_or_init(thread::current);
    }

    /// Forgets wake-ups so far; whatever they announced must be polled after this.
    pub(crate) fn clear(&self) {
        self.notified.swap(false, Ordering::AcqRel);
    }

    /// Sleeps until a wake-up or `until`.
    pub(crate) fn wait(&self, until: Option<Instant>) {
        while !self.notified.load(Ordering::Acquire) {
            match until {
                None => thread::park(),
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => thread::park_timeout(left),
                    _ => return,
                },
            }
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notified.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use std::time::Duration;

    #[test]
    fn a_wake_up_before_the_thread_is_known_is_kept() {
        let parker = Arc::new(Parker::default());
        Waker::from(parker.clone()).wake();
        parker.attach();
        parker.wait(None);
    }

    #[test]
    fn a_wake_up_whose_token_user_code_took_still_ends_the_wait() {
        let parker = Arc::new(Parker::default());
        parker.attach();
        parker.clear();
        Waker::from(parker.clone()).wake();
        thread::park();
        parker.wait(None);
    }

    #[test]
    fn another_thread_ends_the_wait() {
        let parker = Arc::new(Parker::default());
        parker.attach();
        let waker = Waker::from(parker.clone());
        let other = thread::spawn(move || waker.wake());
        parker.wait(None);
        other.join().unwrap();
        parker.clear();
        parker.wait(Some(Instant::now() + Duration::from_millis(1)));
    }
}
