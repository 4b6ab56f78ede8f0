use super::*;
use proptest::prelude::*;

fn idle(output: ValveOutput) -> Option<bool> {
    output.idle
}

#[test]
fn one_channel_passes_its_watermarks_and_drops_those_that_go_back() {
    let mut valve = WatermarkValve::new(1);
    assert_eq!(
        [5, 3, 5, 6].map(|watermark| valve.advance(0, watermark)),
        [Some(5), None, None, Some(6)]
    );
}

#[test]
fn the_slowest_channel_decides() {
    let mut valve = WatermarkValve::new(2);
    assert_eq!(valve.advance(0, 10), None);
    assert_eq!(valve.advance(1, 4), Some(4));
    assert_eq!(valve.advance(1, 20), Some(10));
}

#[test]
fn an_idle_channel_holds_nothing_back_and_counts_again_once_it_has_caught_up() {
    let mut valve = WatermarkValve::new(2);
    valve.advance(0, 10);
    assert_eq!(
        valve.mark_idle(1),
        ValveOutput {
            watermark: Some(10),
            idle: None
        }
    );
    assert_eq!(valve.mark_active(1), ValveOutput::default());
    assert_eq!(valve.advance(0, 12), Some(12));
    assert_eq!(valve.advance(1, 12), None);
    assert_eq!(valve.advance(0, 15), None);
    assert_eq!(valve.advance(1, 14), Some(14));
}

#[test]
fn the_input_is_idle_when_all_channels_are_and_then_stands_at_the_furthest() {
    let mut valve = WatermarkValve::new(2);
    valve.advance(0, 10);
    valve.advance(1, 4);
    assert_eq!(valve.mark_idle(0), ValveOutput::default());
    assert_eq!(
        valve.mark_idle(1),
        ValveOutput {
            watermark: Some(10),
            idle: Some(true)
        }
    );
    assert_eq!(valve.advance(1, 99), None);
    assert_eq!(idle(valve.mark_active(1)), Some(false));
}

#[test]
fn an_ended_channel_is_left_out_also_of_what_idle_channels_stand_at() {
    let mut valve = WatermarkValve::new(3);
    valve.advance(0, MAX_WATERMARK);
    valve.advance(1, 7);
    valve.advance(2, 5);
    valve.mark_ended(0);
    assert_eq!(valve.watermark(), 5);
    valve.mark_idle(1);
    assert_eq!(
        valve.mark_idle(2),
        ValveOutput {
            watermark: Some(7),
            idle: Some(true)
        }
    );
    assert!(!valve.has_ended());
}

#[test]
fn the_end_of_every_channel_is_not_idleness() {
    let mut valve = WatermarkValve::new(2);
    assert_eq!(idle(valve.mark_idle(0)), None);
    assert_eq!(idle(valve.mark_ended(1)), Some(true));
    assert_eq!(valve.mark_ended(0), ValveOutput::default());
    assert!(valve.has_ended());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Advance(usize, i64),
    Idle(usize),
    Active(usize),
    End(usize),
}

fn step(channels: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..channels, 0..50_i64).prop_map(|(channel, watermark)| Step::Advance(channel, watermark)),
        2 => (0..channels).prop_map(Step::Idle),
        2 => (0..channels).prop_map(Step::Active),
        1 => (0..channels).prop_map(Step::End),
    ]
}

/// What each channel last said, kept apart from the valve.
#[derive(Debug, Clone, Copy)]
struct Said {
    watermark: i64,
    idle: bool,
    ended: bool,
}

proptest! {
    /// Whatever the channels do: the output only grows, it never passes an active channel that had been level with it, and
    /// idleness is exactly "none active, one left".
    #[test]
    fn no_active_channel_is_ever_overtaken(steps in proptest::collection::vec(step(3), 0..80)) {
        let mut valve = WatermarkValve::new(3);
        let mut said = [Said { watermark: NO_WATERMARK, idle: false, ended: false }; 3];
        let mut idle_out = false;
        for step in steps {
            let before = valve.watermark();
            let output = match step {
                Step::Advance(channel, watermark) => {
                    let channel_said = &mut said[channel];
                    if !channel_said.idle && !channel_said.ended {
                        channel_said.watermark = channel_said.watermark.max(watermark);
                    }
                    ValveOutput { watermark: valve.advance(channel, watermark), idle: None }
                }
                Step::Idle(channel) => { said[channel].idle |= !said[channel].ended; valve.mark_idle(channel) }
                Step::Active(channel) => { said[channel].idle = false; valve.mark_active(channel) }
                Step::End(channel) => { said[channel].ended = true; said[channel].idle = false; valve.mark_ended(channel) }
            };
            if let Some(idle) = output.idle {
                prop_assert_ne!(idle, idle_out);
                idle_out = idle;
            }
            prop_assert!(output.watermark.is_none_or(|watermark| watermark > before));
            prop_assert_eq!(output.watermark.unwrap_or(before), valve.watermark());

            let active = said.iter().filter(|channel| !channel.idle && !channel.ended);
            let waiting = said.iter().any(|channel| channel.idle);
            prop_assert_eq!(valve.is_idle(), active.clone().next().is_none() && waiting);
            prop_assert_eq!(idle_out && !valve.has_ended(), valve.is_idle());
            for channel in active {
                // An active channel is either behind since it was idle, or not overtaken.
                prop_assert!(channel.watermark < before || valve.watermark() <= channel.watermark);
            }
        }
    }

    /// Without idleness the output is the minimum over the channels that have not ended, as far as it was reached.
    #[test]
    fn without_idleness_it_is_the_running_minimum(
        steps in proptest::collection::vec(prop_oneof![
            8 => (0..3_usize, 0..50_i64).prop_map(|(channel, watermark)| Step::Advance(channel, watermark)),
            1 => (0..3_usize).prop_map(Step::End),
        ], 0..80),
    ) {
        let mut valve = WatermarkValve::new(3);
        let mut open = [Some(NO_WATERMARK); 3];
        let mut expected = NO_WATERMARK;
        for step in steps {
            match step {
                Step::Advance(channel, watermark) => {
                    open[channel] = open[channel].map(|last| last.max(watermark));
                    valve.advance(channel, watermark);
                }
                Step::End(channel) => { open[channel] = None; valve.mark_ended(channel); }
                Step::Idle(_) | Step::Active(_) => {}
            }
            expected = expected.max(open.iter().flatten().copied().min().unwrap_or(NO_WATERMARK));
            prop_assert_eq!(valve.watermark(), expected);
        }
    }
}
