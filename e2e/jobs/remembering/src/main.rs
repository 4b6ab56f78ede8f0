//! A job that keeps the same facts in every kind of keyed state, in timers and in windows, and says at its end what each of them
//! remembers: `remembering NUMBERS KEYS NUMBERS_PER_SECOND`.
//!
//! ```text
//!   numbers 0, 1, .. -- key: number % KEYS --+--> Ledger: value, list, map, reducing, aggregating state, timers --> print, at the end
//!                                            |       ^
//!                                            +-> tumbling windows: how many
//! ```
//!
//! Whatever happens on the way (kills, savepoints, other parallelisms), each kind must know each number of a key once.

use std::time::Duration;

use thalweg_api::prelude::*;

const WINDOW: Duration = Duration::from_millis(100);
/// Event time goes back to its begin with each start, so that windows must never be too old for a number.
const LATENESS: Duration = Duration::from_millis(1 << 50);
const END: i64 = i64::MAX - 1;

/// A key and a number.
type Numbered = (i64, i64);
/// A key, the begin of a window, and how many numbers it has.
type Window = (i64, i64, i64);

#[thalweg_api::main]
fn main() -> Result<(), String> {
    let env = StreamExecutionEnvironment::new();
    let arguments: Vec<u64> = env
        .args()
        .iter()
        .map(|argument| argument.parse().map_err(|_| format!("{argument:?} is no number")))
        .collect::<Result<_, _>>()?;
    let [count, keys, rate] = arguments[..] else {
        return Err("usage: remembering NUMBERS KEYS NUMBERS_PER_SECOND".to_owned());
    };
    let options = DatagenOptions {
        rows_per_second: Some(rate as f64),
        number_of_rows: Some(count),
    };
    let numbers = env
        .datagen(options, move |index| ((index % keys) as i64, index as i64))
        .uid("numbers")
        .assign_timestamps_and_watermarks(WatermarkStrategy::for_monotonous_timestamps(), |(_, number)| {
            *number
        });
    let by_key = numbers.key_by_field::<i64>("f0");
    let windows = by_key
        .window(TumblingEventTimeWindows::of(WINDOW))
        .allowed_lateness(LATENESS)
        .apply(
            |key: i64, window, numbers: &[Numbered], out: &mut Collector<Window>| {
                out.collect((key, window.start, numbers.len() as i64));
            },
        )
        .uid("windows");
    by_key
        .connect(&windows.key_by_field::<i64>("f0"))
        .process(Ledger::default())
        .uid("ledger")
        .print()
        .uid("print");
    env.execute("remembering")
}

/// The largest number.
#[derive(Clone, Copy, Default)]
struct Largest;

impl AggregateFunction for Largest {
    type In = i64;
    type Accumulator = i64;
    type Out = i64;

    fn create_accumulator(&self) -> i64 {
        i64::MIN
    }

    fn add(&self, largest: &mut i64, number: i64) {
        *largest = number.max(*largest);
    }

    fn get_result(&self, largest: &i64) -> i64 {
        *largest
    }

    fn merge(&self, largest: &mut i64, other: &i64) {
        *largest = (*largest).max(*other);
    }
}

#[derive(Clone, Default)]
struct Ledger {
    counted: ValueState<i64>,
    listed: ListState<i64>,
    mapped: MapState<i64, i64>,
    summed: ReducingState<i64>,
    largest: AggregatingState<Largest>,
    fired: ValueState<i64>,
    in_windows: MapState<i64, i64>,
}

impl KeyedCoProcessFunction for Ledger {
    type Key = i64;
    type In1 = Numbered;
    type In2 = Window;
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.counted = ctx.get_state("counted");
        self.listed = ctx.get_list_state("listed");
        self.mapped = ctx.get_map_state("mapped");
        self.summed = ctx.get_reducing_state(ReducingStateDescriptor::new("summed", |sum: &mut i64, n| {
            *sum += n;
        }));
        self.largest = ctx.get_aggregating_state(AggregatingStateDescriptor::new("largest", Largest));
        self.fired = ctx.get_state("fired");
        self.in_windows = ctx.get_map_state("in windows");
        Ok(())
    }

    fn process1(
        &mut self,
        (_, number): Numbered,
        ctx: &mut Context<'_, i64>,
        _out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        *self.counted.get_or_insert_with(ctx, || 0) += 1;
        self.listed.add(ctx, number);
        self.mapped.put(ctx, number, number);
        self.summed.add(ctx, number);
        self.largest.add(ctx, number);
        ctx.timer_service().register_event_time_timer(number);
        ctx.timer_service().register_event_time_timer(END);
        Ok(())
    }

    fn process2(
        &mut self,
        (_, start, count): Window,
        ctx: &mut Context<'_, i64>,
        _out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        self.in_windows.put(ctx, start, count);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut OnTimerContext<'_, i64>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        if timestamp != END {
            *self.fired.get_or_insert_with(ctx, || 0) += 1;
            return Ok(());
        }
        let key = ctx.current_key();
        let counted = self.counted.get(ctx).copied().unwrap_or_default();
        let listed = self.listed.get(ctx).len();
        let mapped = self.mapped.values(ctx).count();
        let map_sum: i64 = self.mapped.values(ctx).sum();
        let summed = self.summed.get(ctx).copied().unwrap_or_default();
        let largest = self.largest.get(ctx).unwrap_or_default();
        let fired = self.fired.get(ctx).copied().unwrap_or_default();
        let in_windows: i64 = self.in_windows.values(ctx).sum();
        let line = format!(
            "key {key}: counted {counted}, listed {listed}, mapped {mapped}, map sum {map_sum}, summed {summed}, \
             largest {largest}, fired {fired}, in windows {in_windows}"
        );
        out.collect(&line);
        Ok(())
    }
}
