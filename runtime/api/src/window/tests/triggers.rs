//! Triggers other than those of the twin: Flink's, and one of a user.

use std::time::Duration;

use super::*;
use crate::prelude::*;
use crate::window::WindowElements;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Which values the windows showed, and their event times.
fn shown(harness: &Harness<Shown>) -> Vec<(String, i64)> {
    let rows = harness.rows().into_iter();
    rows.map(|((_, _, _, values), time)| (values, time.unwrap()))
        .collect()
}

fn show(values: &str, time: i64) -> (String, i64) {
    (values.to_owned(), time)
}

#[test]
fn a_continuous_trigger_emits_at_each_multiple_of_its_interval_and_at_the_end() {
    let tumbling = TumblingEventTimeWindows::of(ms(25));
    let mut harness = listing(windowing(tumbling, ContinuousEventTimeTrigger::of(ms(10)), 5));
    harness.row(0, &word("a", 1), Some(3));
    harness.watermark(0, 9);
    harness.flush_all();
    assert_eq!(shown(&harness), []);
    harness.watermark(0, 10);
    harness.row(0, &word("a", 2), Some(12));
    harness.restart(3);
    harness.watermark(0, 21);
    harness.watermark(0, 24);
    harness.row(0, &word("a", 3), Some(20)); // late, within the lateness
    harness.watermark(0, 100);
    harness.flush_all();
    let mut all = shown(&harness);
    all.sort();
    let expected = [
        show("[1, 2, 3]", 24),
        show("[1, 2]", 24),
        show("[1, 2]", 24),
        show("[1]", 24),
    ];
    assert_eq!(all, expected, "at 10, 20 and 24, and for the late element");
}

#[test]
fn continuous_triggers_of_sessions_that_become_one_go_on_with_the_earlier_time() {
    let sessions = EventTimeSessionWindows::with_gap(ms(5));
    let mut harness = listing(windowing(sessions, ContinuousEventTimeTrigger::of(ms(10)), 0));
    harness.restart(1);
    harness.row(0, &word("a", 1), Some(8));
    harness.row(0, &word("a", 2), Some(17));
    harness.row(0, &word("a", 3), Some(12));
    harness.watermark(0, 10);
    harness.flush_all();
    assert_eq!(shown(&harness), [show("[1, 2, 3]", 21)]);
    harness.watermark(0, 100);
    harness.flush_all();
    assert_eq!(
        shown(&harness)[1..],
        [show("[1, 2, 3]", 21), show("[1, 2, 3]", 21)],
        "at 20 and at the end"
    );
}

#[test]
fn a_continuous_trigger_by_the_clock_emits_as_long_as_the_window_is_there() {
    let trigger = PurgingTrigger::of(ContinuousProcessingTimeTrigger::of(ms(100)));
    let mut harness = listing(windowing(GlobalWindows::create(), trigger, 0));
    harness.restart(1);
    harness.set_time(1_050);
    harness.row(0, &word("a", 1), None);
    harness.set_time(1_100);
    assert_eq!(shown(&harness), []);
    harness.set_time(1_101);
    harness.row(0, &word("a", 2), None);
    harness.restart(2);
    harness.set_time(1_180);
    harness.row(0, &word("a", 3), None);
    harness.set_time(1_400); // over two of its times: what there is goes out once
    let mut all = shown(&harness);
    all.sort();
    assert_eq!(all, [show("[1]", i64::MAX), show("[2, 3]", i64::MAX)]);
}

#[test]
fn a_timeout_trigger_emits_when_the_other_does_or_its_time_is_over_also_through_a_restart() {
    for resets in [false, true] {
        let trigger = ProcessingTimeoutTrigger::with(CountTrigger::of(3), ms(100), resets, true);
        let trigger = PurgingTrigger::of(trigger);
        let mut harness = listing(windowing(GlobalWindows::create(), trigger, 0));
        harness.restart(1);
        harness.set_time(1_000);
        for value in [1, 2, 3] {
            harness.row(0, &word("a", value), None);
        }
        harness.set_time(1_150);
        assert_eq!(
            shown(&harness),
            [show("[1, 2, 3]", i64::MAX)],
            "the time-out went with it"
        );
        harness.row(0, &word("a", 4), None);
        harness.set_time(1_200);
        harness.restart(1);
        harness.row(0, &word("a", 5), None);
        harness.set_time(1_251);
        assert_eq!(shown(&harness).len(), if resets { 1 } else { 2 });
        harness.set_time(1_301);
        assert_eq!(shown(&harness)[1..], [show("[4, 5]", i64::MAX)]);
        // The count began anew too.
        for value in [6, 7] {
            harness.row(0, &word("a", value), None);
        }
        assert_eq!(shown(&harness).len(), 2);
        harness.row(0, &word("a", 8), None);
        assert_eq!(shown(&harness)[2..], [show("[6, 7, 8]", i64::MAX)]);
    }
}

#[test]
fn a_delta_trigger_emits_when_an_element_is_far_from_the_one_it_emitted_at_last() {
    let far = |last: &Word, element: &(&str, i64)| (element.1 - last.1).abs() as f64;
    let mut harness = listing(windowing(GlobalWindows::create(), DeltaTrigger::of(10.0, far), 0));
    harness.restart(1);
    for value in [0, 10, 11, 12] {
        harness.row(0, &word("a", value), None);
    }
    harness.restart(1);
    for value in [21, 0] {
        harness.row(0, &word("a", value), None);
    }
    harness.flush_all();
    assert_eq!(
        shown(&harness),
        [
            show("[0, 10, 11]", i64::MAX),
            show("[0, 0, 10, 11, 12, 21]", i64::MAX)
        ]
    );
}

/// Emits and forgets once the values of a window sum to ten or more; at the window's end it emits what is left, and by the clock
/// it forgets all.
#[derive(Clone, Default)]
struct Sum {
    sum: TriggerState<i64>,
}

impl Trigger<Word> for Sum {
    fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
        self.sum = ctx.get_state("sum");
    }

    fn on_element(
        &mut self,
        (_, value): (&str, i64),
        _: Option<i64>,
        window: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        assert_eq!(ctx.current_watermark(), i64::MIN, "the tests send none before");
        ctx.register_event_time_timer(window.max_timestamp());
        ctx.register_processing_time_timer(5_000);
        let sum = self.sum.get_or_insert_with(ctx, || 0);
        *sum += value;
        if *sum < 10 {
            return Ok(TriggerResult::Continue);
        }
        self.sum.clear(ctx);
        Ok(TriggerResult::FireAndPurge)
    }

    fn on_event_time(
        &mut self,
        time: i64,
        window: TimeWindow,
        _: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        assert_eq!(time, window.max_timestamp());
        Ok(TriggerResult::Fire)
    }

    fn on_processing_time(
        &mut self,
        time: i64,
        _: TimeWindow,
        ctx: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        assert!(ctx.current_processing_time() > time);
        self.sum.clear(ctx);
        Ok(TriggerResult::Purge)
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn on_merge(&mut self, window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
        ctx.merge(&self.sum, |sum, other| *sum += other);
        ctx.register_event_time_timer(window.max_timestamp());
        Ok(())
    }

    fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
        ctx.delete_event_time_timer(window.max_timestamp());
        self.sum.clear(ctx);
        Ok(())
    }
}

#[test]
fn a_users_trigger_has_state_and_timers_of_each_key_and_window_also_through_a_restart() {
    let tumbling = TumblingEventTimeWindows::of(ms(10));
    let mut harness = listing(windowing(tumbling, Sum::default(), 0));
    for (value, time) in [(6, 1), (7, 11), (1, 2)] {
        harness.row(0, &word("a", value), Some(time));
    }
    harness.row(0, &word("bb", 5), Some(3));
    harness.restart(3);
    harness.row(0, &word("a", 3), Some(4));
    harness.row(0, &word("a", 2), Some(5));
    harness.watermark(0, 100);
    harness.flush_all();
    let mut all = shown(&harness);
    all.sort();
    assert_eq!(
        all,
        [
            show("[1, 3, 6]", 9),
            show("[2]", 9),
            show("[5]", 9),
            show("[7]", 19)
        ]
    );
}

#[test]
fn a_users_trigger_merges_its_state_with_sessions_and_purges_by_the_clock() {
    let sessions = EventTimeSessionWindows::with_gap(ms(5));
    let mut harness = listing(windowing(sessions, Sum::default(), 0));
    harness.restart(1);
    for (value, time) in [(4, 0), (3, 8), (3, 4)] {
        harness.row(0, &word("a", value), Some(time));
    }
    harness.row(0, &word("bb", 1), Some(0));
    harness.set_time(6_000);
    assert_eq!(shown(&harness), [show("[3, 3, 4]", 12)]);
    harness.watermark(0, 100);
    harness.flush_all();
    assert_eq!(shown(&harness).len(), 1, "nothing is left in either window");
}

/// Can't merge.
#[derive(Clone)]
struct EveryElement;

impl Trigger<Word> for EveryElement {
    fn on_element(
        &mut self,
        _: (&str, i64),
        _: Option<i64>,
        _: TimeWindow,
        _: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        Ok(TriggerResult::Fire)
    }
}

#[test]
fn sessions_refuse_a_trigger_that_can_not_merge() {
    let env = StreamExecutionEnvironment::new();
    env.from_elements([word("a", 1)])
        .key_by_field::<String>("f0")
        .window(EventTimeSessionWindows::with_gap(ms(5)))
        .trigger(EveryElement)
        .sum("f1")
        .print();
    let error = env.into_program("job").unwrap_err().to_string();
    assert!(
        error.starts_with("trigger(): sessions are windows that merge"),
        "{error}"
    );
}

#[test]
fn windows_without_key_run_in_one_subtask() {
    let env = StreamExecutionEnvironment::new();
    let words = env.from_elements([word("a", 1)]);
    words
        .window_all(TumblingEventTimeWindows::of(ms(10)))
        .trigger(EveryElement)
        .evictor(CountEvictor::of(2))
        .apply(|key, _, elements: &[Word], out: &mut Collector<i64>| {
            out.collect(i64::from(key) + elements.len() as i64);
        })
        .name("all");
    words.count_window_all(3).sum("f1").name("counted");
    words
        .key_by_field::<String>("f0")
        .count_window_sliding(3, 2)
        .process(Last)
        .name("sliding");
    let graph = env.into_program("job").unwrap().stream_graph;
    let node = |name: &str| graph.nodes.iter().find(|node| node.name == name).unwrap().clone();
    for name in ["all", "counted"] {
        assert_eq!((node(name).parallelism, node(name).max_parallelism), (1, 1));
    }
    assert_eq!(node("sliding").parallelism, 0);
}

#[derive(Clone)]
struct Last;

impl ProcessWindowFunction for Last {
    type Key = String;
    type In = Word;
    type Out = Word;

    fn process(
        &mut self,
        key: &str,
        _: &mut WindowContext<'_>,
        elements: &[Word],
        out: &mut Collector<Word>,
    ) -> Result<(), UserError> {
        out.collect((key, elements.last().map_or(0, |(_, value)| *value)));
        Ok(())
    }
}

#[test]
fn window_elements_are_values_with_their_times() {
    let mut elements: WindowElements<i64> = (0..5).map(|n| (n, (n != 2).then_some(n * 10))).collect();
    elements.remove_first(1);
    elements.retain(|value, time| *value != 3 || time.is_none());
    assert_eq!(
        elements.iter().collect::<Vec<_>>(),
        [(&1, Some(10)), (&2, None), (&4, Some(40))]
    );
    elements.remove_first(9);
    assert!(elements.is_empty());
}
