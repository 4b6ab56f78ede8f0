//! Whole jobs: what users write, run by the engine's tasks.

mod support;

use std::time::Duration;

use support::{Collected, run};
use thalweg_api::prelude::*;

type Click = (String, i64);

/// Clicks of four users at 0, 10, 20, .. ms; every seventh is 500 ms late.
fn clicks(env: &StreamExecutionEnvironment) -> DataStream<Click> {
    let clicks = (0..400_i64).map(|n| {
        let time = if n % 7 == 6 { n * 10 - 500 } else { n * 10 };
        (format!("user {}", n % 4), time)
    });
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(100));
    env.from_elements(clicks.collect::<Vec<_>>())
        .rebalance()
        .assign_timestamps_and_watermarks(strategy, |(_, time)| *time)
}

fn early() -> OutputTag<i64> {
    OutputTag::new("early")
}

/// Counts a user's clicks per second of event time.
#[derive(Clone, Default)]
struct PerSecond {
    counts: MapState<i64, i64>,
}

impl KeyedProcessFunction for PerSecond {
    type Key = String;
    type In = Click;
    type Out = (String, i64, i64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.counts = ctx.get_map_state("counts");
        Ok(())
    }

    fn process(
        &mut self,
        (_, time): (&str, i64),
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        if time < 50 {
            ctx.output(&early(), time);
        }
        let second = time.div_euclid(1_000);
        *self.counts.get_or_insert_with(ctx, second, || 0) += 1;
        // At the end, so that it counts the late ones too.
        ctx.timer_service().register_event_time_timer(10_000 + second);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, String>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let second = timestamp - 10_000;
        if let Some(count) = self.counts.remove(ctx, &second) {
            out.collect((ctx.current_key(), second, count));
        }
        Ok(())
    }
}

#[test]
fn a_keyed_function_counts_by_event_time_and_has_a_side_output() {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    let counts = Collected::<(String, i64, i64)>::new();
    let first = Collected::<i64>::new();
    let counted = clicks(&env)
        .key_by_field::<String>("f0")
        .process(PerSecond::default());
    counted.sink_to(counts.clone());
    counted
        .get_side_output(&early())
        .map(|time| time)
        .sink_to(first.clone());
    run(env);
    let mut expected = std::collections::BTreeMap::new();
    let mut expected_early = Vec::new();
    for n in 0..400_i64 {
        let time = if n % 7 == 6 { n * 10 - 500 } else { n * 10 };
        *expected
            .entry((format!("user {}", n % 4), time.div_euclid(1_000)))
            .or_insert(0) += 1;
        expected_early.extend((time < 50).then_some(time));
    }
    expected_early.sort_unstable();
    let expected: Vec<(String, i64, i64)> = expected
        .into_iter()
        .map(|((user, second), count)| (user, second, count))
        .collect();
    assert_eq!(counts.sorted(), expected);
    assert_eq!(first.sorted(), expected_early);
}

/// Says at the end how many of each stream a key had.
#[derive(Clone, Default)]
struct CountBoth {
    counts: ValueState<(i64, i64)>,
}

impl KeyedCoProcessFunction for CountBoth {
    type Key = String;
    type In1 = Click;
    type In2 = String;
    type Out = (String, i64, i64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.counts = ctx.get_state("counts");
        Ok(())
    }

    fn process1(
        &mut self,
        _: (&str, i64),
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        self.counts.get_or_insert_with(ctx, || (0, 0)).0 += 1;
        ctx.timer_service().register_event_time_timer(100_000);
        Ok(())
    }

    fn process2(
        &mut self,
        _: &str,
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        self.counts.get_or_insert_with(ctx, || (0, 0)).1 += 1;
        ctx.timer_service().register_event_time_timer(100_000);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        ctx: &mut OnTimerContext<'_, String>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let (first, second) = self.counts.take(ctx).ok_or("a timer without counts")?;
        out.collect((ctx.current_key(), first, second));
        Ok(())
    }
}

#[test]
fn two_streams_meet_by_key() {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    let out = Collected::<(String, i64, i64)>::new();
    let names = (0..60).map(|n| format!("user {}", n % 5)).collect::<Vec<_>>();
    let strategy = WatermarkStrategy::for_monotonous_timestamps();
    let names = env
        .from_elements(names)
        .assign_timestamps_and_watermarks(strategy, |_| 0);
    clicks(&env)
        .key_by_field::<String>("f0")
        .connect(&names.key_by::<String, _>(|name| name))
        .process(CountBoth::default())
        .sink_to(out.clone());
    run(env);
    let expected: Vec<(String, i64, i64)> = (0..5)
        .map(|n| (format!("user {n}"), if n < 4 { 100 } else { 0 }, 12))
        .collect();
    assert_eq!(out.sorted(), expected);
}

/// Keeps the rules; says at the end of a key's records how many rules there are.
#[derive(Clone, Default)]
struct RulesAtEnd {
    rules: BroadcastState<i64, String>,
}

impl KeyedBroadcastProcessFunction for RulesAtEnd {
    type Key = String;
    type In = Click;
    type Broadcast = i64;
    type Out = (String, i64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.rules = ctx.get_broadcast_state("rules");
        Ok(())
    }

    fn process(
        &mut self,
        _: (&str, i64),
        ctx: &mut Context<'_, String>,
        _: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        ctx.timer_service().register_event_time_timer(100_000);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: i64,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        self.rules.put(ctx, rule, rule.to_string());
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        ctx: &mut OnTimerContext<'_, String>,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError> {
        let rules = self
            .rules
            .iter(ctx)
            .filter(|(rule, text)| rule.to_string() == **text)
            .count();
        out.collect((ctx.current_key(), rules as i64));
        Ok(())
    }
}

#[test]
fn every_subtask_has_all_of_a_broadcast_stream() {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    let out = Collected::<(String, i64)>::new();
    let rules = env
        .from_elements((0..30_i64).collect::<Vec<_>>())
        .broadcast_state();
    clicks(&env)
        .key_by_field::<String>("f0")
        .connect_broadcast(&rules)
        .process(RulesAtEnd::default())
        .sink_to(out.clone());
    run(env);
    let expected: Vec<(String, i64)> = (0..4).map(|n| (format!("user {n}"), 30)).collect();
    assert_eq!(out.sorted(), expected);
}

#[test]
fn outside_systems_are_asked_for_every_record() {
    for is_ordered in [true, false] {
        let env = StreamExecutionEnvironment::new();
        env.set_parallelism(2);
        let out = Collected::<(i64, String)>::new();
        let ids = env.from_elements((0..500_i64).collect::<Vec<_>>());
        let ask = |id: i64| async move {
            for _ in 0..id % 5 {
                tokio::task::yield_now().await;
            }
            Ok::<_, String>([(id, id.to_string())])
        };
        let timeout = Duration::from_secs(60);
        let answers = match is_ordered {
            true => AsyncDataStream::ordered_wait(&ids, ask, timeout, 7),
            false => AsyncDataStream::unordered_wait(&ids, ask, timeout, 7),
        };
        answers.sink_to(out.clone());
        run(env);
        let expected: Vec<(i64, String)> = (0..500).map(|id| (id, id.to_string())).collect();
        assert_eq!(out.sorted(), expected);
    }
}

#[test]
fn a_file_sink_shows_each_line_once_when_its_input_has_ended() {
    use thalweg_api::connectors::{BucketAssigner, FileSink};

    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::for_row_format(folder.path().to_str().unwrap())
        .with_bucket_assigner(BucketAssigner::by_row(|row, bucket| {
            bucket.push_str(if row.value.len() == 1 { "short" } else { "long" });
        }))
        .build()
        .unwrap();
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(2);
    env.from_elements((0..1_000).map(|n| n.to_string()).collect::<Vec<_>>())
        .rebalance()
        .sink_to(sink)
        .name("lines");
    run(env);
    let lines = |bucket: &str| {
        let mut lines = Vec::new();
        for file in std::fs::read_dir(folder.path().join(bucket)).unwrap() {
            let file = file.unwrap();
            assert!(
                file.file_name().to_str().unwrap().starts_with("part-"),
                "{file:?}"
            );
            let text = std::fs::read_to_string(file.path()).unwrap();
            lines.extend(text.lines().map(|line| line.parse::<i32>().unwrap()));
        }
        lines.sort_unstable();
        lines
    };
    assert_eq!(lines("short"), (0..10).collect::<Vec<_>>());
    assert_eq!(lines("long"), (10..1_000).collect::<Vec<_>>());
}
