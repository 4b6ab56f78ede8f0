//! Joins against naive twins.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::interval_logic::{Bounds, IntervalLogic, IntervalSpec};
use super::*;
use crate::environment::StreamExecutionEnvironment;
use crate::function::testing::{Harness, Route, Word};
use crate::process::UserError;
use crate::side_output::{OutputTag, SideOutputTags};
use crate::window::{
    EventTimeSessionWindows, EventTimeTrigger, SlidingEventTimeWindows, TumblingEventTimeWindows,
};

const KEYS: [&str; 4] = ["a", "bb", "ccc", "d"];

/// What was emitted with its event time.
type Timed<O> = (O, Option<i64>);
/// Key, left value, right value.
type Pair = (String, i64, i64);

#[derive(Debug, Clone)]
enum Step {
    /// Input, key, how much later than the step's number it happened.
    Element(usize, usize, i64),
    /// How much the watermark of both inputs lags behind the step's number.
    Watermark(i64),
    Restart(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..2_usize, 0..KEYS.len(), -20..5_i64).prop_map(|(input, key, jitter)| Step::Element(input, key, jitter)),
        4 => (0..20_i64).prop_map(Step::Watermark),
        1 => (1..=4_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..90)
}

fn word(key: &str, value: i64) -> Word {
    (key.to_owned(), value)
}

/// Both inputs' steps through the operator; a value is its step's number.
fn drive<O: Record>(harness: &mut Harness<O>, steps: &[Step], batch_rows: usize) {
    harness.batch_rows = batch_rows;
    for (now, step) in (0..).zip(steps) {
        match step {
            Step::Element(input, key, jitter) => {
                harness.row(*input, &word(KEYS[*key], now), Some(now + jitter));
            }
            Step::Watermark(lag) => {
                harness.watermark(0, now - lag);
                harness.watermark(1, now - lag);
            }
            Step::Restart(parallelism) => harness.restart(*parallelism),
        }
    }
    harness.watermark(0, i64::MAX);
    harness.watermark(1, i64::MAX);
    harness.flush_all();
}

fn sorted<O: Ord>(mut rows: Vec<O>) -> Vec<O> {
    rows.sort();
    rows
}

fn windowed<E: Pairs<In1 = Word, In2 = Word>>(assigner: WindowAssigner, pairs: E) -> Harness<E::Out> {
    let windowing = Windowing {
        assigner,
        trigger: EventTimeTrigger::create(),
        lateness: 0,
    };
    Harness::of_logic(&[Route::Key, Route::Key], &SideOutputTags::default(), move || {
        WindowLogic::new((windowing.clone(), CoListed::<String, E>::new(pairs.clone())))
    })
}

/// A window with what it has of both inputs.
#[derive(Clone)]
struct Live {
    start: i64,
    end: i64,
    values: [Vec<i64>; 2],
}

/// All windows that come to their end, by key.
fn windows_of(steps: &[Step], size: i64, slide: i64, is_session: bool) -> Vec<(String, Live)> {
    let mut live: BTreeMap<usize, Vec<Live>> = BTreeMap::new();
    let mut over = Vec::new();
    let mut watermark = i64::MIN;
    for (now, step) in (0..).zip(steps.iter().chain([&Step::Watermark(i64::MIN)])) {
        match step {
            Step::Element(input, key, jitter) => {
                let time = now + jitter;
                let starts: Vec<i64> = if is_session {
                    vec![time]
                } else {
                    let starts = (time - size + 1..=time).rev();
                    starts.filter(|start| start.rem_euclid(slide) == 0).collect()
                };
                for start in starts {
                    let live = live.entry(*key).or_default();
                    let mut window = Live {
                        start,
                        end: start + size,
                        values: [Vec::new(), Vec::new()],
                    };
                    let (joined, others): (Vec<Live>, Vec<Live>) = live.drain(..).partition(|known| {
                        if is_session {
                            known.start <= window.end && window.start <= known.end
                        } else {
                            known.start == window.start
                        }
                    });
                    *live = others;
                    for known in joined {
                        window.start = window.start.min(known.start);
                        window.end = window.end.max(known.end);
                        for (values, known) in window.values.iter_mut().zip(known.values) {
                            values.extend(known);
                        }
                    }
                    window.values[*input].push(now);
                    if window.end - 1 > watermark {
                        live.push(window);
                    }
                }
            }
            Step::Watermark(lag) => {
                watermark = watermark.max(now.saturating_sub(*lag));
                for (key, live) in &mut live {
                    let is_over = |window: &Live| window.end - 1 <= watermark;
                    let ended = live.iter().filter(|window| is_over(window)).cloned();
                    over.extend(ended.map(|window| (KEYS[*key].to_owned(), window)));
                    live.retain(|window| !is_over(window));
                }
            }
            Step::Restart(_) => watermark = i64::MIN,
        }
    }
    over
}

fn pairs_of(steps: &[Step], size: i64, slide: i64, is_session: bool) -> Vec<Timed<Pair>> {
    let mut pairs = Vec::new();
    for (key, window) in windows_of(steps, size, slide, is_session) {
        for left in &window.values[0] {
            let rights = window.values[1].iter();
            pairs.extend(rights.map(|right| ((key.clone(), *left, *right), Some(window.end - 1))));
        }
    }
    sorted(pairs)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pair(left: (&str, i64), right: (&str, i64)) -> Pair {
    assert_eq!(left.0, right.0);
    (left.0.to_owned(), left.1, right.1)
}

proptest! {
    #[test]
    fn a_windowed_join_makes_each_pair_of_a_window_once(
        steps in steps(),
        batch_rows in 1..9_usize,
        kind in 0..3_usize,
    ) {
        let (assigner, size, slide, is_session): (WindowAssigner, i64, i64, bool) = match kind {
            0 => (TumblingEventTimeWindows::of(ms(10)).into(), 10, 10, false),
            1 => (SlidingEventTimeWindows::of(ms(12), ms(5)).into(), 12, 5, false),
            _ => (EventTimeSessionWindows::with_gap(ms(3)).into(), 3, 1, true),
        };
        let expected = pairs_of(&steps, size, slide, is_session);
        let mut harness = windowed(assigner.clone(), JoinBy::<_, Word, Word, Pair>::new(pair));
        drive(&mut harness, &steps, batch_rows);
        prop_assert_eq!(&sorted(harness.rows()), &expected);
        let flat = |left: (&str, i64), right: (&str, i64), out: &mut Collector<Pair>| {
            out.collect((left.0, left.1, right.1));
        };
        let mut harness = windowed(assigner, FlatJoinBy::<_, Word, Word, Pair>::new(flat));
        drive(&mut harness, &steps, batch_rows);
        prop_assert_eq!(sorted(harness.rows()), expected);
    }

    #[test]
    fn a_co_group_gets_each_window_s_elements_of_both_also_where_one_has_none(
        steps in steps(),
        batch_rows in 1..9_usize,
    ) {
        let show = |first: &[Word], second: &[Word], out: &mut Collector<(String, String)>| {
            let values = |words: &[Word]| sorted(words.iter().map(|(_, value)| *value).collect());
            let text = format!("{:?} {:?}", values(first), values(second));
            let any = first.first().or(second.first()).unwrap();
            out.collect((&any.0, &text));
        };
        let windows = EventTimeSessionWindows::with_gap(ms(4));
        let mut harness = windowed(windows.into(), CoGroupBy::<_, Word, Word, (String, String)>::new(show));
        drive(&mut harness, &steps, batch_rows);
        let expected = windows_of(&steps, 4, 1, true).into_iter().map(|(key, window)| {
            let [first, second] = window.values.map(sorted);
            ((key, format!("{first:?} {second:?}")), Some(window.end - 1))
        });
        prop_assert_eq!(sorted(harness.rows()), sorted(expected.collect()));
    }

    #[test]
    fn an_interval_join_makes_each_pair_whose_times_are_near(
        steps in steps(),
        batch_rows in 1..9_usize,
        lower in -12..8_i64,
        length in 0..12_i64,
    ) {
        let bounds = Bounds { lower, upper: lower + length };
        let mut harness = interval(bounds);
        drive(&mut harness, &steps, batch_rows);
        let (pairs, late) = near_pairs(&steps, bounds);
        prop_assert_eq!(sorted(harness.rows()), pairs);
        prop_assert_eq!(sorted(harness.side::<Word>(1)), late[0].clone());
        prop_assert_eq!(sorted(harness.side::<Word>(2)), late[1].clone());
    }
}

/// Emits each pair, and its times' distance to a side output.
#[derive(Clone)]
struct Near;

fn distance() -> OutputTag<i64> {
    OutputTag::new("distance")
}

impl ProcessJoinFunction for Near {
    type In1 = Word;
    type In2 = Word;
    type Out = Pair;

    fn process(
        &mut self,
        left: (&str, i64),
        right: (&str, i64),
        ctx: &mut JoinContext<'_>,
        out: &mut Collector<Pair>,
    ) -> Result<(), UserError> {
        out.collect_owned(&pair(left, right));
        ctx.output(&distance(), ctx.right_timestamp() - ctx.left_timestamp());
        Ok(())
    }
}

fn interval(bounds: Bounds) -> Harness<Pair> {
    let tags = SideOutputTags::default();
    let late = [OutputTag::<Word>::new("left"), OutputTag::<Word>::new("right")];
    late.iter().for_each(|tag| {
        tags.register(tag).unwrap();
    });
    tags.register(&distance()).unwrap();
    let spec = IntervalSpec {
        function: Near,
        bounds,
        late: (Some(late[0].clone()), Some(late[1].clone())),
    };
    Harness::of_logic(&[Route::Key, Route::Key], &tags, move || {
        IntervalLogic::<String, Near>::new(spec.clone())
    })
}

/// Pairs with the later time, and the late elements of each input.
fn near_pairs(steps: &[Step], bounds: Bounds) -> (Vec<Timed<Pair>>, [Vec<Timed<Word>>; 2]) {
    // By input: key, time, value.
    let mut kept: [Vec<(usize, i64, i64)>; 2] = [Vec::new(), Vec::new()];
    let mut late = [Vec::new(), Vec::new()];
    let mut pairs = Vec::new();
    let mut watermark = i64::MIN;
    for (now, step) in (0..).zip(steps) {
        match step {
            Step::Element(input, key, jitter) => {
                let time = now + jitter;
                if time < watermark {
                    late[*input].push((word(KEYS[*key], now), Some(time)));
                    continue;
                }
                for (other, other_time, value) in &kept[1 - input] {
                    let (distance, values) = match input {
                        0 => (other_time - time, (now, *value)),
                        _ => (time - other_time, (*value, now)),
                    };
                    if other == key && (bounds.lower..=bounds.upper).contains(&distance) {
                        let pair = (KEYS[*key].to_owned(), values.0, values.1);
                        pairs.push((pair, Some(time.max(*other_time))));
                    }
                }
                kept[*input].push((*key, time, now));
            }
            // Elements at the watermark stay until it moves: one that repeats itself is none.
            Step::Watermark(lag) if now - lag > watermark => {
                watermark = now - lag;
                kept[0].retain(|(_, time, _)| time + bounds.upper.max(0) > watermark);
                kept[1].retain(|(_, time, _)| time + (-bounds.lower).max(0) > watermark);
            }
            Step::Watermark(_) => {}
            Step::Restart(_) => watermark = i64::MIN,
        }
    }
    (sorted(pairs), late.map(sorted))
}

#[test]
fn an_element_at_the_watermark_is_kept_until_it_moves() {
    let bounds = Bounds { lower: 0, upper: 6 };
    let after = |repeated: i64| {
        let mut harness = interval(bounds);
        harness.watermark(0, -3);
        harness.watermark(1, -3);
        harness.row(1, &word("a", 1), Some(-3));
        harness.watermark(0, repeated);
        harness.watermark(1, repeated);
        harness.restart(1);
        harness.row(0, &word("a", 2), Some(-9));
        harness.flush_all();
        harness.rows()
    };
    assert_eq!(after(-3), [(("a".to_owned(), 2, 1), Some(-3))]);
    assert_eq!(after(-2), []);
}

#[test]
fn an_interval_join_s_function_knows_both_times() {
    let mut harness = interval(Bounds { lower: -2, upper: 5 });
    harness.row(0, &word("a", 1), Some(10));
    harness.row(1, &word("a", 2), Some(15));
    harness.row(1, &word("a", 3), Some(16));
    harness.row(1, &word("bb", 4), Some(10));
    harness.row(1, &word("a", 5), Some(8));
    harness.flush_all();
    assert_eq!(
        harness.rows(),
        [
            (("a".to_owned(), 1, 2), Some(15)),
            (("a".to_owned(), 1, 5), Some(10))
        ]
    );
    assert_eq!(harness.side::<i64>(3), [(5, Some(15)), (-2, Some(10))]);
}

fn streams(env: &StreamExecutionEnvironment) -> (DataStream<Word>, DataStream<(String, f64)>) {
    (
        env.from_elements([word("a", 1)]),
        env.from_elements([("a".to_owned(), 0.5)]),
    )
}

#[test]
fn joins_become_nodes_of_two_keyed_inputs() {
    let env = StreamExecutionEnvironment::new();
    let (orders, rates) = streams(&env);
    let minute = || TumblingEventTimeWindows::of(ms(60_000));
    orders
        .join(&rates)
        .where_::<String, _>(|(key, _)| key)
        .equal_to(|(key, _)| key)
        .window(minute())
        .apply(|(_, amount), (_, rate)| amount as f64 * rate)
        .name("joined")
        .print();
    let late = OutputTag::<Word>::new("late");
    let near = orders
        .key_by_field::<String>("f0")
        .interval_join(&rates.key_by_field::<String>("f0"))
        .between(-5, 5)
        .upper_bound_exclusive()
        .side_output_left_late_data(&late)
        .apply(|(_, amount), (_, rate), out: &mut Collector<f64>| out.collect(amount as f64 * rate))
        .name("near");
    near.get_side_output(&late).print();
    let graph = env.into_program("job").unwrap().stream_graph;
    for (name, operator, key) in [("joined", "WindowJoin", "$key0"), ("near", "IntervalJoin", "f0")] {
        let node = graph.nodes.iter().find(|node| node.name == name).unwrap();
        assert_eq!(node.operator, operator);
        assert_eq!(node.key_columns, [key]);
        let mut inputs: Vec<u32> = graph
            .edges
            .iter()
            .filter(|edge| edge.target == node.id)
            .map(|edge| edge.input)
            .collect();
        inputs.sort_unstable();
        assert_eq!(inputs, [0, 1]);
    }
}

#[test]
fn bounds_that_nothing_lies_between_are_refused() {
    let env = StreamExecutionEnvironment::new();
    let (orders, rates) = streams(&env);
    let left = orders.key_by_field::<String>("f0");
    let joined = left.interval_join(&rates.key_by_field::<String>("f0"));
    joined
        .between(5, 5)
        .lower_bound_exclusive()
        .apply(|_, _, out: &mut Collector<i64>| out.collect(1))
        .print();
    let error = env.into_program("job").unwrap_err().to_string();
    assert!(error.starts_with("between(): the lower bound (6 ms)"), "{error}");
}
