//! Process functions against a naive twin: the same events one by one over plain maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::function::Collector;
use crate::function::testing::{Emitted, Harness, Route, Word};
use crate::record::RecordRef;
use crate::side_output::{OutputTag, SideOutputTags};
use crate::state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, ListState, ListStateDescriptor,
    MapState, OperatorListState, ReducingState, ReducingStateDescriptor, StateTtlConfig, ValueState,
    ValueStateDescriptor,
};

type Text = (String, String);

/// Sum and count.
#[derive(Clone, Copy, Default)]
struct Mean;

impl AggregateFunction for Mean {
    type In = i64;
    type Accumulator = (i64, i64);
    type Out = i64;

    fn create_accumulator(&self) -> (i64, i64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (i64, i64), value: i64) {
        accumulator.0 += value;
        accumulator.1 += 1;
    }

    fn get_result(&self, (sum, count): &(i64, i64)) -> i64 {
        sum / count
    }

    fn merge(&self, accumulator: &mut (i64, i64), other: &(i64, i64)) {
        accumulator.0 += other.0;
        accumulator.1 += other.1;
    }
}

/// Uses every kind of state and both kinds of timers.
#[derive(Clone, Default)]
struct Everything {
    count: ValueState<i64>,
    list: ListState<i64>,
    map: MapState<String, i64>,
    largest: ReducingState<i64>,
    mean: AggregatingState<Mean>,
}

fn odd() -> OutputTag<Word> {
    OutputTag::new("odd")
}

impl KeyedProcessFunction for Everything {
    type Key = String;
    type In = Word;
    type Out = Text;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.count = ctx.get_state("count");
        self.list = ctx.get_list_state("list");
        self.map = ctx.get_map_state("map");
        self.largest = ctx.get_reducing_state(ReducingStateDescriptor::new("largest", |largest, n| {
            *largest = n.max(*largest);
        }));
        self.mean = ctx.get_aggregating_state(AggregatingStateDescriptor::new("mean", Mean));
        Ok(())
    }

    fn process(
        &mut self,
        (word, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        out: &mut Collector<Text>,
    ) -> Result<(), UserError> {
        assert_eq!(ctx.current_key(), word);
        *self.count.get_or_insert_with(ctx, || 0) += 1;
        self.list.add(ctx, n);
        *self.map.get_or_insert_with(ctx, format!("m{}", n % 3), || 0) += n;
        self.largest.add(ctx, n);
        self.mean.add(ctx, n);
        if n % 2 == 1 {
            ctx.output(&odd(), (word, n));
        }
        let now = ctx.current_processing_time();
        let mut timers = ctx.timer_service();
        match n % 5 {
            0 => timers.delete_event_time_timer(n + 1),
            4 => timers.register_processing_time_timer(now + n),
            _ => timers.register_event_time_timer(n + 2),
        }
        let text = self.text(ctx);
        out.collect((word, &text));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, String>,
        out: &mut Collector<Text>,
    ) -> Result<(), UserError> {
        let text = format!("{:?} {timestamp} {}", ctx.time_domain(), self.text(ctx));
        out.collect((ctx.current_key(), &text));
        match timestamp % 4 {
            0 => self.count.clear(ctx),
            1 => self.list.update(ctx, [timestamp]),
            2 => drop(self.map.remove(ctx, "m1")),
            _ => {
                self.list.clear(ctx);
                self.map.clear(ctx);
                self.largest.clear(ctx);
                self.mean.clear(ctx);
                ctx.timer_service().register_event_time_timer(timestamp + 3);
            }
        }
        Ok(())
    }
}

impl Everything {
    fn text(&self, ctx: &mut Context<'_, String>) -> String {
        let map: BTreeMap<String, i64> = self.map.iter(ctx).map(|(key, n)| (key.clone(), *n)).collect();
        format!(
            "{:?} {:?} {map:?} {:?} {:?}",
            self.count.get(ctx).copied(),
            self.list.get(ctx).to_vec(),
            self.largest.get(ctx).copied(),
            self.mean.get(ctx),
        )
    }
}

/// The same by plain maps.
#[derive(Default)]
struct Twin {
    keys: HashMap<String, TwinState>,
    event: BTreeSet<(i64, String)>,
    processing: BTreeSet<(i64, String)>,
    now: i64,
    watermark: i64,
    emitted: Vec<(Text, Option<i64>)>,
    odd: Vec<(Word, Option<i64>)>,
}

#[derive(Default)]
struct TwinState {
    count: Option<i64>,
    list: Vec<i64>,
    map: BTreeMap<String, i64>,
    largest: Option<i64>,
    numbers: Vec<i64>,
}

impl TwinState {
    fn text(&self) -> String {
        let mean =
            (!self.numbers.is_empty()).then(|| self.numbers.iter().sum::<i64>() / self.numbers.len() as i64);
        format!(
            "{:?} {:?} {:?} {:?} {mean:?}",
            self.count, self.list, self.map, self.largest
        )
    }
}

impl Twin {
    fn row(&mut self, (word, n): &Word, time: Option<i64>) {
        let state = self.keys.entry(word.clone()).or_default();
        state.count = Some(state.count.unwrap_or(0) + 1);
        state.list.push(*n);
        *state.map.entry(format!("m{}", n % 3)).or_default() += n;
        state.largest = state.largest.max(Some(*n));
        state.numbers.push(*n);
        if n % 2 == 1 {
            self.odd.push(((word.clone(), *n), time));
        }
        match n % 5 {
            0 => drop(self.event.remove(&(n + 1, word.clone()))),
            4 => drop(self.processing.insert((self.now + n, word.clone()))),
            _ => drop(self.event.insert((n + 2, word.clone()))),
        }
        self.emitted.push(((word.clone(), state.text()), time));
    }

    fn watermark(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        while let Some((time, word)) = self.event.pop_first() {
            if time > watermark {
                self.event.insert((time, word));
                return;
            }
            self.fire("Event", time, word, Some(time));
        }
    }

    fn set_time(&mut self, now: i64) {
        self.now = now;
        while let Some((time, word)) = self.processing.pop_first() {
            if time >= now {
                self.processing.insert((time, word));
                return;
            }
            self.fire("Processing", time, word, None);
        }
    }

    fn fire(&mut self, domain: &str, time: i64, word: String, event_time: Option<i64>) {
        let state = self.keys.entry(word.clone()).or_default();
        let text = format!("{domain} {time} {}", state.text());
        self.emitted.push(((word.clone(), text), event_time));
        match time % 4 {
            0 => state.count = None,
            1 => state.list = vec![time],
            2 => drop(state.map.remove("m1")),
            _ => {
                *state = TwinState {
                    count: state.count,
                    ..TwinState::default()
                };
                self.event.insert((time + 3, word));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Row(Word, Option<i64>),
    Watermark(i64),
    Time(i64),
    Checkpoint,
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => ("[a-f]", 0..60_i64, proptest::option::weighted(0.9, 0..100_i64))
            .prop_map(|(word, n, time)| Step::Row((word, n), time)),
        2 => (0..70_i64).prop_map(Step::Watermark),
        1 => (0..40_i64).prop_map(Step::Time),
        1 => Just(Step::Checkpoint),
        1 => (1..5_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..80)
}

/// What came out for each key, in order.
fn by_key(emitted: &[(Text, Option<i64>)]) -> BTreeMap<String, Vec<(String, Option<i64>)>> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((word, text), time) in emitted {
        by_key
            .entry(word.clone())
            .or_default()
            .push((text.clone(), *time));
    }
    by_key
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

proptest! {
    #[test]
    fn a_keyed_function_sees_the_state_and_timers_of_its_key_whatever_cuts_and_restarts(
        steps in steps(),
        batch_rows in 1..6_usize,
        limit_rows in 1..6_usize,
    ) {
        let tags = SideOutputTags::default();
        tags.register(&odd()).unwrap();
        let mut harness = Harness::<Text>::of_logic(&[Route::Key], &tags, || KeyedProcess::new(Everything::default()));
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        let mut twin = Twin { now: 1_000, watermark: i64::MIN, ..Twin::default() };
        let mut emitted = Vec::new();
        for step in &steps {
            match step {
                Step::Row(word, time) => {
                    harness.row(0, word, *time);
                    twin.row(word, *time);
                }
                Step::Watermark(watermark) => {
                    harness.watermark(0, *watermark);
                    twin.watermark(*watermark);
                }
                Step::Time(later) => {
                    harness.set_time(twin.now + later);
                    twin.set_time(twin.now + later);
                }
                Step::Checkpoint => harness.checkpoint(),
                Step::Restart(parallelism) => {
                    harness.restart(*parallelism);
                    // Watermarks are no state: they begin anew.
                    twin.watermark = i64::MIN;
                    emitted.append(&mut harness.rows());
                    harness.emitted.iter_mut().for_each(Vec::clear);
                }
            }
        }
        harness.flush_all();
        emitted.append(&mut harness.rows());
        prop_assert_eq!(by_key(&emitted), by_key(&twin.emitted));
        prop_assert_eq!(sorted(harness.side::<Word>(1)), sorted(twin.odd));
        // Each call emits one row, so that no piece is larger than the limit.
        prop_assert!(harness.largest_piece <= limit_rows);
    }
}

#[test]
fn a_watermark_goes_on_behind_what_its_timers_emit_and_timers_fire_in_order_of_time() {
    let mut harness = Harness::<Text>::of_logic(&[Route::Key], &SideOutputTags::default(), || {
        KeyedProcess::new(Everything::default())
    });
    harness.restart(1);
    for n in [13, 11, 12] {
        harness.row(0, &("a".to_owned(), n), Some(n));
    }
    harness.watermark(0, 14);
    harness.flush_all();
    let times: Vec<String> = harness.emitted[0]
        .iter()
        .map(|emitted| match emitted {
            Emitted::Row((_, text), time) if text.starts_with("Event") => format!("timer {}", time.unwrap()),
            Emitted::Row(_, time) => format!("row {}", time.unwrap()),
            Emitted::Watermark(time) => format!("watermark {time}"),
        })
        .collect();
    assert_eq!(
        times,
        [
            "row 13",
            "row 11",
            "row 12",
            "timer 13",
            "timer 14",
            "watermark 14"
        ]
    );
}

/// Emits what its state holds; expires after a second.
#[derive(Clone, Default)]
struct Expiring {
    count: ValueState<i64>,
    list: ListState<i64>,
}

impl KeyedProcessFunction for Expiring {
    type Key = String;
    type In = Word;
    type Out = Text;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        let ttl = StateTtlConfig::new(Duration::from_secs(1));
        self.count = ctx.get_state(ValueStateDescriptor::new("count").enable_time_to_live(ttl));
        self.list = ctx.get_list_state(ListStateDescriptor::new("list").enable_time_to_live(ttl));
        Ok(())
    }

    fn process(
        &mut self,
        (word, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        out: &mut Collector<Text>,
    ) -> Result<(), UserError> {
        let text = format!("{:?} {:?}", self.count.get(ctx).copied(), self.list.get(ctx));
        out.collect((word, &text));
        self.list.add(ctx, n);
        self.count.update(ctx, n);
        Ok(())
    }
}

#[test]
fn state_expires_by_the_clock_also_through_a_restart() {
    let mut harness = Harness::<Text>::of_logic(&[Route::Key], &SideOutputTags::default(), || {
        KeyedProcess::new(Expiring::default())
    });
    let word = |n| ("a".to_owned(), n);
    harness.row(0, &word(1), None);
    harness.set_time(1_500);
    harness.row(0, &word(2), None);
    harness.restart(1);
    harness.set_time(2_100);
    harness.row(0, &word(3), None);
    harness.set_time(5_000);
    harness.row(0, &word(4), None);
    harness.flush_all();
    let mut texts: Vec<String> = harness.rows().into_iter().map(|((_, text), _)| text).collect();
    texts.sort();
    assert_eq!(texts, ["None []", "None []", "Some(1) [1]", "Some(2) [2]"]);
}

/// Remembers its records in lists without key.
#[derive(Clone, Default)]
struct Remember {
    split: OperatorListState<Word>,
    union: OperatorListState<i64>,
}

impl ProcessFunction for Remember {
    type In = Word;
    type Out = i64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.split = ctx.get_operator_list_state("split");
        self.union = ctx.get_union_list_state("union");
        // What was restored can be read at once.
        assert!(ctx.is_restored() || self.split.get(ctx).is_empty());
        Ok(())
    }

    fn process(
        &mut self,
        (word, n): (&str, i64),
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        self.split.add(ctx, (word.to_owned(), n));
        self.union.add(ctx, n);
        out.collect(self.split.get(ctx).len() as i64 * 100 + self.union.get(ctx).len() as i64);
        if word == "fail" {
            return Err("it was told to".into());
        }
        Ok(())
    }
}

#[test]
fn operator_lists_are_dealt_out_or_given_to_all_when_the_parallelism_changes() {
    let mut harness = Harness::<i64>::of_logic(&[Route::InTurn], &SideOutputTags::default(), || {
        Process::new(Remember::default())
    });
    harness.restart(1);
    for n in 0..4 {
        harness.row(0, &("a".to_owned(), n), Some(n));
    }
    harness.restart(2);
    harness.row(0, &("a".to_owned(), 9), None);
    harness.flush_all();
    let mut rows = harness.rows();
    rows.sort_unstable();
    // The last: two of four and its own; all four and its own.
    let expected = [
        (101, Some(0)),
        (202, Some(1)),
        (303, Some(2)),
        (305, None),
        (404, Some(3)),
    ];
    assert_eq!(rows, expected);
}

fn failure(word: &str) -> String {
    use thalweg_operators::{Operator, OutputLimit};
    let context = crate::function::testing::context(0, 1);
    let logic = Process::new(Remember::default());
    let mut driver =
        crate::function::Driver::new(context, vec![None], &SideOutputTags::default(), logic).unwrap();
    driver
        .restore(&mut thalweg_state::RestoredState::default())
        .unwrap();
    let mut rows = crate::record::RowsBuilder::<Word>::with_capacity(1);
    rows.push(&(word.to_owned(), 1));
    driver.push(0, StreamBatch::new(rows.finish().unwrap())).unwrap();
    let limit = OutputLimit { rows: 9, bytes: 999 };
    driver.poll_output(limit).unwrap_err().to_string()
}

#[test]
fn an_error_of_the_function_is_the_operators() {
    assert_eq!(
        failure("fail"),
        "user function of Test failed: it was told to (row 1 of a batch of 1)"
    );
}

/// Registers one name twice, or state by key where there is none.
#[derive(Clone)]
struct Wrong(&'static str);

impl ProcessFunction for Wrong {
    type In = Word;
    type Out = i64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        match self.0 {
            "twice" => {
                ctx.get_union_list_state::<i64>("x");
                ctx.get_operator_list_state::<i64>("x");
            }
            "panic" => panic!("in open"),
            _ => drop(ctx.get_state::<i64>("x")),
        }
        Ok(())
    }

    fn process(
        &mut self,
        _: RecordRef<'_, Word>,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        Ok(())
    }
}

fn refusal(what: &'static str) -> String {
    use thalweg_operators::Operator;
    let context = crate::function::testing::context(0, 1);
    let tags = SideOutputTags::default();
    let mut driver =
        crate::function::Driver::new(context, vec![None], &tags, Process::new(Wrong(what))).unwrap();
    let restored = driver.restore(&mut thalweg_state::RestoredState::default());
    restored.unwrap_err().to_string()
}

#[test]
fn mistakes_in_open_fail_the_task_with_a_message() {
    assert!(refusal("twice").contains("another list or broadcast state of this name"));
    assert!(refusal("keyed").contains("where the stream has no key"));
    assert!(refusal("panic").contains("user function of Test panicked: in open"));
}

/// Registers as many timers as its number says; they emit nothing.
#[derive(Clone)]
struct ManyTimers;

impl KeyedProcessFunction for ManyTimers {
    type Key = String;
    type In = Word;
    type Out = Text;

    fn process(
        &mut self,
        (_, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Text>,
    ) -> Result<(), UserError> {
        (0..n).for_each(|time| ctx.timer_service().register_event_time_timer(time));
        Ok(())
    }
}

#[test]
fn many_timers_that_emit_nothing_give_the_task_a_turn_in_between() {
    let mut harness = Harness::<Text>::of_logic(&[Route::Key], &SideOutputTags::default(), || {
        KeyedProcess::new(ManyTimers)
    });
    harness.restart(1);
    harness.row(0, &("a".to_owned(), 40_000), None);
    harness.watermark(0, 50_000);
    harness.flush_all();
    assert_eq!(harness.emitted[0], [Emitted::Watermark(50_000)]);
    assert!(harness.pieces > 2, "{} pieces", harness.pieces);
}

/// Registers a timer of the clock at the record's number, and says when it fires.
#[derive(Clone)]
struct Alarm;

impl KeyedProcessFunction for Alarm {
    type Key = String;
    type In = Word;
    type Out = Text;

    fn process(
        &mut self,
        (_, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Text>,
    ) -> Result<(), UserError> {
        ctx.timer_service().register_processing_time_timer(n);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, String>,
        out: &mut Collector<Text>,
    ) -> Result<(), UserError> {
        let text = format!("{timestamp} at {}", ctx.current_processing_time());
        out.collect((ctx.current_key(), &text));
        Ok(())
    }
}

fn alarms() -> Harness<Text> {
    let tags = SideOutputTags::default();
    let mut harness = Harness::<Text>::of_logic(&[Route::Key], &tags, || KeyedProcess::new(Alarm));
    harness.restart(1);
    harness
}

fn fired(harness: &Harness<Text>) -> Vec<String> {
    harness.rows().into_iter().map(|((_, text), _)| text).collect()
}

#[test]
fn a_timer_of_the_clock_fires_once_its_millisecond_is_over() {
    let mut harness = alarms();
    harness.row(0, &("a".to_owned(), 2_000), None);
    harness.set_time(2_000);
    assert_eq!(fired(&harness), [""; 0]);
    harness.set_time(2_001);
    assert_eq!(fired(&harness), ["2000 at 2001"]);
}

#[test]
fn timers_far_in_the_past_fire_at_once_and_those_at_the_end_of_time_never() {
    let mut harness = alarms();
    for time in [i64::MAX, 0, i64::MIN] {
        harness.row(0, &("a".to_owned(), time), None);
    }
    harness.set_time(1_000);
    let expected = [format!("{} at 1000", i64::MIN), "0 at 1000".to_owned()];
    assert_eq!(fired(&harness), expected);
    harness.set_time(i64::MAX);
    assert_eq!(fired(&harness), expected);
}

#[test]
fn a_clock_that_jumps_fires_each_timer_once_and_none_too_early() {
    let mut harness = alarms();
    for time in [2_000, 3_000, 900_000_000] {
        harness.row(0, &("a".to_owned(), time), None);
    }
    harness.set_time(2_500);
    harness.set_time(500); // set back
    harness.row(0, &("a".to_owned(), 2_000), None);
    harness.set_time(1_999);
    assert_eq!(fired(&harness), ["2000 at 2500"]);
    harness.restart(1);
    harness.set_time(2_400);
    harness.set_time(899_999_999); // far forwards
    assert_eq!(
        fired(&harness),
        ["2000 at 2500", "2000 at 2400", "3000 at 899999999"]
    );
}
