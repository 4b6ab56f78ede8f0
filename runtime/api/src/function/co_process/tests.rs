//! Functions of two inputs against a naive twin.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::context::{Context, OnTimerContext};
use crate::function::testing::{Emitted, Harness, Route, Word};
use crate::function::{Collector, FlatMap};
use crate::side_output::SideOutputTags;
use crate::state::{BroadcastState, ListState, OperatorListState};

/// Keeps numbers of the first input until the second asks for them or event time is over them.
#[derive(Clone, Default)]
struct Pair {
    waiting: ListState<i64>,
}

impl KeyedCoProcessFunction for Pair {
    type Key = String;
    type In1 = Word;
    type In2 = Word;
    type Out = Word;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.waiting = ctx.get_list_state("waiting");
        Ok(())
    }

    fn process1(
        &mut self,
        (_, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        self.waiting.add(ctx, n);
        ctx.timer_service().register_event_time_timer(n);
        Ok(())
    }

    fn process2(
        &mut self,
        (_, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        out: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        let key = ctx.current_key();
        for waiting in self.waiting.get(ctx) {
            out.collect((key, waiting * 1_000 + n));
        }
        self.waiting.clear(ctx);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, String>,
        out: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        let kept: Vec<i64> = self
            .waiting
            .get(ctx)
            .iter()
            .copied()
            .filter(|n| *n != timestamp)
            .collect();
        if kept.len() < self.waiting.get(ctx).len() {
            out.collect((ctx.current_key(), -timestamp));
        }
        self.waiting.update(ctx, kept);
        Ok(())
    }
}

#[derive(Default)]
struct PairTwin {
    waiting: BTreeMap<String, Vec<i64>>,
    timers: BTreeSet<(i64, String)>,
    watermarks: [i64; 2],
    combined: i64,
    emitted: BTreeMap<String, Vec<(i64, Option<i64>)>>,
}

impl PairTwin {
    fn forget_watermarks(&mut self) {
        self.watermarks = [i64::MIN; 2];
        self.combined = i64::MIN;
    }

    fn row(&mut self, input: usize, (word, n): &Word, time: i64) {
        let waiting = self.waiting.entry(word.clone()).or_default();
        if input == 0 {
            waiting.push(*n);
            self.timers.insert((*n, word.clone()));
            return;
        }
        for waiting in waiting.drain(..) {
            let row = (waiting * 1_000 + n, Some(time));
            self.emitted.entry(word.clone()).or_default().push(row);
        }
    }

    fn watermark(&mut self, input: usize, watermark: i64) {
        self.watermarks[input] = watermark.max(self.watermarks[input]);
        let combined = self.watermarks[0].min(self.watermarks[1]);
        if combined <= self.combined {
            return;
        }
        self.combined = combined;
        while let Some((time, word)) = self.timers.pop_first() {
            if time > combined {
                self.timers.insert((time, word));
                return;
            }
            let waiting = self.waiting.entry(word.clone()).or_default();
            let before = waiting.len();
            waiting.retain(|n| *n != time);
            if waiting.len() < before {
                self.emitted.entry(word).or_default().push((-time, Some(time)));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Row(usize, Word, i64),
    Watermark(usize, i64),
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..2_usize, "[a-d]", 0..60_i64, 0..100_i64)
            .prop_map(|(input, word, n, time)| Step::Row(input, (word, n), time)),
        3 => (0..2_usize, 0..70_i64).prop_map(|(input, time)| Step::Watermark(input, time)),
        1 => (1..5_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..80)
}

proptest! {
    #[test]
    fn two_keyed_inputs_share_state_and_the_smaller_watermark(
        steps in steps(),
        batch_rows in 1..6_usize,
        limit_rows in 1..6_usize,
    ) {
        let routes = [Route::Key, Route::Key];
        let logic = || KeyedCoProcess::new(Pair::default());
        let mut harness = Harness::<Word>::of_logic(&routes, &SideOutputTags::default(), logic);
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        let mut twin = PairTwin::default();
        twin.forget_watermarks();
        let mut emitted: BTreeMap<String, Vec<(i64, Option<i64>)>> = BTreeMap::new();
        let mut collect = |harness: &mut Harness<Word>| {
            for ((word, n), time) in harness.rows() {
                emitted.entry(word).or_default().push((n, time));
            }
            harness.emitted.iter_mut().for_each(Vec::clear);
        };
        for step in &steps {
            match step {
                Step::Row(input, word, time) => {
                    harness.row(*input, word, Some(*time));
                    twin.row(*input, word, *time);
                }
                Step::Watermark(input, time) => {
                    harness.watermark(*input, *time);
                    twin.watermark(*input, *time);
                }
                Step::Restart(parallelism) => {
                    harness.restart(*parallelism);
                    collect(&mut harness);
                    twin.forget_watermarks();
                }
            }
        }
        harness.flush_all();
        collect(&mut harness);
        prop_assert_eq!(emitted, twin.emitted);
    }
}

/// Passes on what is above the limit that was broadcast last for its key, with how many limits there are.
#[derive(Clone, Default)]
struct AboveLimit {
    limits: BroadcastState<String, i64>,
    passed: ListState<i64>,
}

impl KeyedBroadcastProcessFunction for AboveLimit {
    type Key = String;
    type In = Word;
    type Broadcast = Word;
    type Out = Word;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.limits = ctx.get_broadcast_state("limits");
        self.passed = ctx.get_list_state("passed");
        Ok(())
    }

    fn process(
        &mut self,
        (word, n): (&str, i64),
        ctx: &mut Context<'_, String>,
        out: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        if self.limits.get(ctx, word).is_some_and(|limit| n > *limit) {
            self.passed.add(ctx, n);
            let passed = self.passed.get(ctx).len() as i64;
            out.collect((word, passed * 100 + self.limits.len(ctx) as i64));
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (word, limit): (&str, i64),
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        if limit == 0 {
            self.limits.remove(ctx, word);
        } else {
            self.limits.put(ctx, word.to_owned(), limit);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn broadcast_state_is_the_same_for_all_keys_whatever_the_parallelism(
        steps in steps(),
        batch_rows in 1..6_usize,
    ) {
        let routes = [Route::Key, Route::All];
        let logic = || KeyedBroadcastProcess::new(AboveLimit::default());
        let mut harness = Harness::<Word>::of_logic(&routes, &SideOutputTags::default(), logic);
        harness.batch_rows = batch_rows;
        let mut limits: BTreeMap<String, i64> = BTreeMap::new();
        let mut passed: BTreeMap<String, i64> = BTreeMap::new();
        let mut expected: Vec<Word> = Vec::new();
        for step in &steps {
            match step {
                Step::Row(0, (word, n), time) => {
                    harness.row(0, &(word.clone(), *n), Some(*time));
                    if limits.get(word).is_some_and(|limit| n > limit) {
                        let count = passed.entry(word.clone()).or_default();
                        *count += 1;
                        expected.push((word.clone(), *count * 100 + limits.len() as i64));
                    }
                }
                Step::Row(_, (word, n), time) => {
                    let limit = n / 3;
                    harness.row(1, &(word.clone(), limit), Some(*time));
                    match limit {
                        0 => drop(limits.remove(word)),
                        _ => drop(limits.insert(word.clone(), limit)),
                    }
                }
                Step::Watermark(input, time) => harness.watermark(*input, *time),
                Step::Restart(parallelism) => harness.restart(*parallelism),
            }
        }
        harness.flush_all();
        let mut emitted: Vec<Word> = harness.rows().into_iter().map(|(word, _)| word).collect();
        emitted.sort();
        expected.sort();
        prop_assert_eq!(emitted, expected);
    }
}

/// Without key: counts both inputs together.
#[derive(Clone, Default)]
struct CountBoth {
    seen: OperatorListState<i64>,
}

impl CoProcessFunction for CountBoth {
    type In1 = Word;
    type In2 = Word;
    type Out = i64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.seen = ctx.get_operator_list_state("seen");
        Ok(())
    }

    fn process1(
        &mut self,
        (_, n): (&str, i64),
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        self.seen.add(ctx, n);
        out.collect(self.seen.get(ctx).len() as i64);
        Ok(())
    }

    fn process2(
        &mut self,
        (_, n): (&str, i64),
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        self.seen.add(ctx, -n);
        out.collect(-(self.seen.get(ctx).len() as i64));
        Ok(())
    }
}

fn word(n: i64) -> Word {
    ("a".to_owned(), n)
}

#[test]
fn an_unkeyed_function_of_two_inputs_tells_them_apart() {
    let routes = [Route::InTurn, Route::InTurn];
    let logic = || CoProcess::new(CountBoth::default());
    let mut harness = Harness::<i64>::of_logic(&routes, &SideOutputTags::default(), logic);
    harness.restart(1);
    harness.row(0, &word(1), Some(7));
    harness.row(1, &word(2), None);
    harness.row(0, &word(3), Some(8));
    harness.flush_all();
    assert_eq!(harness.rows(), [(1, Some(7)), (-2, None), (3, Some(8))]);
}

/// Without key: rules say which words go on.
#[derive(Clone, Default)]
struct Allowed {
    words: BroadcastState<String, bool>,
}

impl BroadcastProcessFunction for Allowed {
    type In = Word;
    type Broadcast = Word;
    type Out = Word;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.words = ctx.get_broadcast_state("words");
        Ok(())
    }

    fn process(
        &mut self,
        record: (&str, i64),
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        if self.words.contains(ctx, record.0) {
            out.collect(record);
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (word, n): (&str, i64),
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        self.words.put(ctx, word.to_owned(), n > 0);
        Ok(())
    }
}

#[test]
fn broadcast_state_reaches_subtasks_that_were_not_there() {
    let routes = [Route::InTurn, Route::All];
    let logic = || BroadcastProcess::new(Allowed::default());
    let mut harness = Harness::<Word>::of_logic(&routes, &SideOutputTags::default(), logic);
    harness.row(0, &word(1), None);
    harness.row(1, &word(1), None);
    harness.restart(4);
    (2..6).for_each(|n| harness.row(0, &word(n), None));
    harness.flush_all();
    let mut emitted: Vec<i64> = harness.rows().into_iter().map(|((_, n), _)| n).collect();
    emitted.sort_unstable();
    assert_eq!(emitted, [2, 3, 4, 5]);
}

#[test]
fn an_idle_input_holds_no_watermark_back_until_it_is_active() {
    let logic = || CoProcess::new(CountBoth::default());
    let routes = [Route::InTurn, Route::InTurn];
    let mut harness = Harness::<i64>::of_logic(&routes, &SideOutputTags::default(), logic);
    harness.restart(1);
    harness.watermark(0, 10);
    harness.set_input_idle(1, true);
    harness.watermark(0, 20);
    harness.set_input_idle(1, false);
    harness.watermark(0, 30);
    harness.watermark(1, 15);
    harness.watermark(1, 25);
    harness.flush_all();
    let watermarks = [10, 20, 25].map(Emitted::Watermark);
    assert_eq!(harness.emitted[0], watermarks);
}

#[test]
fn co_functions_keep_times_and_pass_on_the_smaller_watermark_until_an_input_ends() {
    let logic = || {
        let first = FlatMap(|(_, n): (&str, i64), out: &mut Collector<i64>| out.collect(n));
        let second = FlatMap(|(_, n): (&str, i64), out: &mut Collector<i64>| {
            (0..2).for_each(|_| out.collect(-n));
        });
        CoRows::<Word, Word, i64, _, _>::new((first, second))
    };
    let routes = [Route::InTurn, Route::InTurn];
    let mut harness = Harness::<i64>::of_logic(&routes, &SideOutputTags::default(), logic);
    harness.restart(1);
    harness.row(0, &word(1), Some(10));
    harness.watermark(0, 10);
    harness.row(1, &word(2), Some(5));
    harness.watermark(1, 4);
    harness.watermark(1, 3);
    harness.row(0, &word(3), None);
    harness.watermark(0, 20);
    harness.end_input(1);
    use Emitted::{Row, Watermark};
    assert_eq!(
        harness.emitted[0],
        [
            Row(1, Some(10)),
            Row(-2, Some(5)),
            Row(-2, Some(5)),
            Watermark(4),
            Row(3, None),
            Watermark(20),
        ]
    );
}
