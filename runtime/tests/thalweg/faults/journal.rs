//! What is done to a run and when, told as it happens: a test that fails shows it.

use std::fmt::Display;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub(super) struct Journal {
    begun: Instant,
    faults: usize,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            faults: 0,
        }
    }

    /// With the seconds since the begin, and the time of day (UTC) as it stands in the logs.
    pub(super) fn note(&self, event: impl Display) {
        let since = self.begun.elapsed().as_secs_f64();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (day, millis) = (now.as_secs() % 86_400, now.subsec_millis());
        let (hours, minutes, seconds) = (day / 3_600, day / 60 % 60, day % 60);
        println!("{since:9.3} s  {hours:02}:{minutes:02}:{seconds:02}.{millis:03}  {event}");
    }

    pub(super) fn fault(&mut self, event: impl Display) {
        self.faults += 1;
        self.note(format!("fault {}: {event}", self.faults));
    }

    pub(super) fn faults(&self) -> usize {
        self.faults
    }
}
