//! Windows as one would write them down: every window in a list, looked through for each element.

use std::collections::BTreeMap;

use super::super::assigner::AssignerKind;
use super::*;

/// What a key sees, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// Start, end and sorted values of a window, and the event time.
    Fired(i64, i64, Vec<i64>, i64),
    Watermark(i64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TwinTrigger {
    EventTime,
    Count(usize),
    Never,
}

struct Live {
    window: TimeWindow,
    values: Vec<i64>,
    /// Since it has last emitted by count.
    count: usize,
    waits: bool,
}

pub(super) struct Twin {
    pub(super) assigner: WindowAssigner,
    pub(super) trigger: TwinTrigger,
    pub(super) purges: bool,
    pub(super) lateness: i64,
    pub(super) watermark: i64,
    keys: BTreeMap<String, Vec<Live>>,
    pub(super) events: BTreeMap<String, Vec<Event>>,
    pub(super) late: BTreeMap<String, Vec<(i64, i64)>>,
}

impl Twin {
    pub(super) fn new(assigner: WindowAssigner, trigger: TwinTrigger, purges: bool, lateness: i64) -> Self {
        Self {
            assigner,
            trigger,
            purges,
            lateness,
            watermark: i64::MIN,
            keys: BTreeMap::new(),
            events: BTreeMap::new(),
            late: BTreeMap::new(),
        }
    }

    /// In wide integers, which don't overflow; `None`: never.
    fn cleanup(&self, window: TimeWindow) -> Option<i128> {
        let lateness = if matches!(self.assigner.kind, AssignerKind::Global) {
            0
        } else {
            self.lateness
        };
        let time = last_time(window) + i128::from(lateness);
        (time < i128::from(i64::MAX)).then_some(time)
    }

    fn windows(&self, time: i64) -> Vec<TimeWindow> {
        match self.assigner.kind {
            AssignerKind::Sliding { size, slide, offset } => (time - size + 1..=time)
                .rev()
                .filter(|start| (start - offset).rem_euclid(slide) == 0)
                .map(|start| TimeWindow {
                    start,
                    end: start + size,
                })
                .collect(),
            AssignerKind::Session { gap } => vec![TimeWindow {
                start: time,
                end: time + gap,
            }],
            AssignerKind::Global => vec![TimeWindow::GLOBAL],
        }
    }

    pub(super) fn element(&mut self, key: &str, time: i64, value: i64) {
        let mut is_taken = false;
        for mut window in self.windows(time) {
            let is_session = self.assigner.is_session();
            let mut live = self.keys.remove(key).unwrap_or_default();
            let joins = |known: &Live| {
                if is_session {
                    known.window.start <= window.end && window.start <= known.window.end
                } else {
                    known.window == window
                }
            };
            let (joined, mut others): (Vec<Live>, Vec<Live>) = live.drain(..).partition(joins);
            let was = joined.iter().map(|known| known.window).collect::<Vec<_>>();
            for known in &was {
                window.start = window.start.min(known.start);
                window.end = window.end.max(known.end);
            }
            let watermark = i128::from(self.watermark);
            let is_event = self.assigner.is_event_time();
            let is_late = is_event && self.cleanup(window).is_some_and(|cleanup| cleanup <= watermark);
            if !is_late {
                is_taken = true;
                let mut merged = Live {
                    window,
                    values: joined.iter().flat_map(|known| known.values.clone()).collect(),
                    count: joined.iter().map(|known| known.count).sum(),
                    waits: was == [window] && joined[0].waits,
                };
                merged.values.push(value);
                self.on_element(key, &mut merged);
                others.push(merged);
            }
            self.keys.insert(key.to_owned(), others);
        }
        let is_event = self.assigner.is_event_time();
        if !is_taken && is_event && time.saturating_add(self.lateness) <= self.watermark {
            self.late.entry(key.to_owned()).or_default().push((value, time));
        }
    }

    fn on_element(&mut self, key: &str, live: &mut Live) {
        let fires = match self.trigger {
            TwinTrigger::EventTime if last_time(live.window) <= i128::from(self.watermark) => true,
            TwinTrigger::EventTime => {
                live.waits = true;
                false
            }
            TwinTrigger::Count(count) => {
                live.count += 1;
                live.count >= count
            }
            TwinTrigger::Never => false,
        };
        if fires {
            live.count = 0;
            self.fire(key, live);
        }
    }

    fn fire(&mut self, key: &str, live: &mut Live) {
        let mut values = live.values.clone();
        if values.is_empty() {
            return;
        }
        values.sort_unstable();
        let TimeWindow { start, end } = live.window;
        let time = i64::try_from(last_time(live.window)).unwrap();
        let events = self.events.entry(key.to_owned()).or_default();
        events.push(Event::Fired(start, end, values, time));
        if self.purges {
            live.values.clear();
        }
    }

    pub(super) fn advance(&mut self, keys: &[&str], watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let now = i128::from(watermark);
        for key in keys {
            let mut live = self.keys.remove(*key).unwrap_or_default();
            live.sort_by_key(|live| last_time(live.window));
            for live in &mut live {
                if live.waits && last_time(live.window) <= now {
                    live.waits = false;
                    self.fire(key, live);
                }
            }
            if self.assigner.is_event_time() {
                live.retain(|live| self.cleanup(live.window).is_none_or(|cleanup| cleanup > now));
            }
            self.keys.insert((*key).to_owned(), live);
            let events = self.events.entry((*key).to_owned()).or_default();
            events.push(Event::Watermark(watermark));
        }
    }
}

fn last_time(window: TimeWindow) -> i128 {
    if window == TimeWindow::GLOBAL {
        return i128::from(i64::MAX);
    }
    i128::from(window.end) - 1
}
