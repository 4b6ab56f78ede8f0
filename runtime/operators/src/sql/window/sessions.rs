//! Sessions: which there are of each key, and how rows open, extend and merge them. Pure: their contents are elsewhere.
//!
//! ```text
//!   row at time t = [t, t + gap)   touches no session:  a new one, if it is not late
//!                                  one:                 that one, longer
//!                                  several:             the first, the others are absorbed by it
//! ```
//!
//! A session keeps the time of the row that opened it as its id: two sessions of a key never have the same, because each holds the time
//! of its id. Invariant: the sessions of a key don't touch one another, and none of them is over.

use thalweg_state::Slot;

const UNTOUCHED: u32 = u32::MAX;

/// A session of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: i64,
    pub(crate) start: i64,
    /// Exclusive.
    pub(crate) end: i64,
    /// Its place among those that the batch at hand has touched.
    touched: u32,
}

/// A session that rows of a batch went to, or that was absorbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Touched {
    /// A row that has its key.
    pub(crate) row: u32,
    pub(crate) id: i64,
    /// Its bounds before the batch; `None`: it is new.
    pub(crate) before: Option<(i64, i64)>,
    /// Its bounds.
    pub(crate) now: (i64, i64),
    /// Which of the touched sessions has absorbed it.
    pub(crate) absorbed_by: Option<u32>,
}

/// What a batch has done.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    pub(crate) touched: Vec<Touched>,
    /// Of each row: its place in `touched`, before later rows merged it; `None`: it is late.
    pub(crate) rows: Vec<Option<u32>>,
    /// Places of absorbed sessions and of those that took them, in order.
    pub(crate) merges: Vec<(u32, u32)>,
}

impl Placement {
    /// The session that a touched one is part of now.
    pub(crate) fn resolve(&self, mut place: u32) -> u32 {
        while let Some(by) = self.touched[place as usize].absorbed_by {
            place = by;
        }
        place
    }
}

/// The sessions of all keys, by a number of the key.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    gap: i64,
    of_key: Vec<Vec<Session>>,
}

impl Sessions {
    /// None yet.
    pub(crate) fn new(gap: i64) -> Self {
        Self {
            gap,
            of_key: Vec::new(),
        }
    }

    /// Makes room for keys below `count`.
    pub(crate) fn resize(&mut self, count: usize) {
        if count > self.of_key.len() {
            self.of_key.resize_with(count, Vec::new);
        }
    }

    /// A session that was there before.
    pub(crate) fn restore(&mut self, key: Slot, id: i64, (start, end): (i64, i64)) {
        self.of_key[key as usize].push(Session {
            id,
            start,
            end,
            touched: UNTOUCHED,
        });
    }

    /// Removes a session that is over. Whether the key has none any more.
    pub(crate) fn remove(&mut self, key: Slot, id: i64) -> bool {
        let sessions = &mut self.of_key[key as usize];
        sessions.retain(|session| session.id != id);
        if sessions.is_empty() {
            *sessions = Vec::new();
        }
        sessions.is_empty()
    }

    /// Whether the key has none.
    pub(crate) fn is_empty(&self, key: Slot) -> bool {
        self.of_key[key as usize].is_empty()
    }

    /// Puts rows into sessions, one after the other.
    pub(crate) fn place(
        &mut self,
        keys: &[Slot],
        times: impl Iterator<Item = i64>,
        is_over: impl Fn(i64) -> bool,
    ) -> Placement {
        let mut placement = Placement::default();
        for (row, (key, time)) in keys.iter().zip(times).enumerate() {
            let place = self.place_row(row as u32, *key, time, &is_over, &mut placement);
            placement.rows.push(place);
        }
        for touched in &placement.touched {
            for session in &mut self.of_key[keys[touched.row as usize] as usize] {
                session.touched = UNTOUCHED;
            }
        }
        placement
    }

    fn place_row(
        &mut self,
        row: u32,
        key: Slot,
        time: i64,
        is_over: &impl Fn(i64) -> bool,
        placement: &mut Placement,
    ) -> Option<u32> {
        let end = time.saturating_add(self.gap);
        let sessions = &mut self.of_key[key as usize];
        let touches = |session: &Session| session.start <= end && time <= session.end;
        let Some(first) = sessions.iter().position(touches) else {
            if is_over(end) {
                return None;
            }
            let session = Session {
                id: time,
                start: time,
                end,
                touched: UNTOUCHED,
            };
            sessions.push(session);
            let last = sessions.len() - 1;
            return Some(touch(&mut sessions[last], row, None, placement));
        };
        let before = (sessions[first].start, sessions[first].end);
        let target = touch(&mut sessions[first], row, Some(before), placement);
        let (mut start, mut end) = (before.0.min(time), before.1.max(end));
        let mut place = first + 1;
        while place < sessions.len() {
            if !(sessions[place].start <= time.saturating_add(self.gap) && time <= sessions[place].end) {
                place += 1;
                continue;
            }
            let mut other = sessions.swap_remove(place);
            let bounds = (other.start, other.end);
            let absorbed = touch(&mut other, row, Some(bounds), placement);
            placement.touched[absorbed as usize].absorbed_by = Some(target);
            placement.merges.push((absorbed, target));
            start = start.min(other.start);
            end = end.max(other.end);
        }
        (sessions[first].start, sessions[first].end) = (start, end);
        placement.touched[target as usize].now = (start, end);
        Some(target)
    }

    /// Bytes held, about.
    pub(crate) fn memory_size(&self) -> usize {
        let sessions: usize = self.of_key.iter().map(Vec::capacity).sum();
        sessions * size_of::<Session>() + self.of_key.capacity() * size_of::<Vec<Session>>()
    }
}

/// The session's place among the touched ones.
fn touch(session: &mut Session, row: u32, before: Option<(i64, i64)>, placement: &mut Placement) -> u32 {
    if session.touched == UNTOUCHED {
        session.touched = placement.touched.len() as u32;
        placement.touched.push(Touched {
            row,
            id: session.id,
            before,
            now: (session.start, session.end),
            absorbed_by: None,
        });
    }
    session.touched
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_row_between_two_sessions_makes_them_one() {
        let mut sessions = Sessions::new(10);
        sessions.resize(1);
        let placement = sessions.place(&[0, 0, 0], [0, 20, 10].into_iter(), |_| false);
        assert_eq!(placement.merges, [(1, 0)]);
        assert_eq!(placement.rows, [Some(0), Some(1), Some(0)]);
        assert_eq!(placement.resolve(1), 0);
        assert_eq!(placement.touched[0].now, (0, 30));
        assert_eq!(placement.touched[0].before, None);
    }

    #[test]
    fn a_late_row_opens_no_session_but_joins_one_that_is_not_over() {
        let mut sessions = Sessions::new(10);
        sessions.resize(1);
        let is_over = |end| end <= 15;
        let placement = sessions.place(&[0, 0, 0], [2, 8, 2].into_iter(), is_over);
        assert_eq!(placement.rows, [None, Some(0), Some(0)]);
        assert_eq!(placement.touched[0].now, (2, 18));
    }

    proptest! {
        #[test]
        fn sessions_are_the_runs_of_times_without_a_gap(
            times in vec((0..3_u32, 0..60_i64), 0..40),
            gap in 1..8_i64,
            cut in 0..40_usize,
        ) {
            let mut sessions = Sessions::new(gap);
            sessions.resize(3);
            let (first, second) = times.split_at(cut.min(times.len()));
            for part in [first, second] {
                let keys: Vec<Slot> = part.iter().map(|(key, _)| *key).collect();
                sessions.place(&keys, part.iter().map(|(_, time)| *time), |_| false);
            }
            for key in 0..3_u32 {
                let mut of_key: Vec<i64> = times.iter().filter(|(k, _)| *k == key).map(|(_, time)| *time).collect();
                of_key.sort_unstable();
                let mut expected: Vec<(i64, i64)> = Vec::new();
                for time in of_key {
                    match expected.last_mut() {
                        Some((_, end)) if time <= *end => *end = time + gap,
                        _ => expected.push((time, time + gap)),
                    }
                }
                let mut found: Vec<(i64, i64)> = sessions.of_key[key as usize].iter().map(|s| (s.start, s.end)).collect();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
                for session in &sessions.of_key[key as usize] {
                    prop_assert!((session.start..session.end).contains(&session.id));
                    prop_assert_eq!(session.touched, UNTOUCHED);
                }
            }
        }
    }
}
