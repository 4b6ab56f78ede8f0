//! One type for all triggers that tests choose from.

use super::super::{TriggerContext, TriggerOpenContext, TriggerResult};
use super::*;
use crate::process::UserError;

/// Waits for ever.
#[derive(Debug, Clone)]
pub(super) struct Never;

impl Trigger<Word> for Never {
    fn on_element(
        &mut self,
        _: (&str, i64),
        _: Option<i64>,
        _: TimeWindow,
        _: &mut TriggerContext<'_>,
    ) -> Result<TriggerResult, UserError> {
        Ok(TriggerResult::Continue)
    }

    fn can_merge(&self) -> bool {
        true
    }
}

macro_rules! any_trigger {
    ($($name:ident($trigger:ty),)*) => {
        #[derive(Debug, Clone)]
        pub(super) enum AnyTrigger {
            $($name($trigger),)*
        }

        impl Trigger<Word> for AnyTrigger {
            fn open(&mut self, ctx: &mut TriggerOpenContext<'_>) {
                match self {
                    $(Self::$name(trigger) => Trigger::<Word>::open(trigger, ctx),)*
                }
            }

            fn on_element(
                &mut self,
                element: (&str, i64),
                timestamp: Option<i64>,
                window: TimeWindow,
                ctx: &mut TriggerContext<'_>,
            ) -> Result<TriggerResult, UserError> {
                match self {
                    $(Self::$name(trigger) => Trigger::<Word>::on_element(trigger, element, timestamp, window, ctx),)*
                }
            }

            fn on_event_time(
                &mut self,
                time: i64,
                window: TimeWindow,
                ctx: &mut TriggerContext<'_>,
            ) -> Result<TriggerResult, UserError> {
                match self {
                    $(Self::$name(trigger) => Trigger::<Word>::on_event_time(trigger, time, window, ctx),)*
                }
            }

            fn can_merge(&self) -> bool {
                match self {
                    $(Self::$name(trigger) => Trigger::<Word>::can_merge(trigger),)*
                }
            }

            fn on_merge(&mut self, window: TimeWindow, ctx: &mut OnMergeContext<'_>) -> Result<(), UserError> {
                match self {
                    $(Self::$name(trigger) => Trigger::<Word>::on_merge(trigger, window, ctx),)*
                }
            }

            fn clear(&mut self, window: TimeWindow, ctx: &mut TriggerContext<'_>) -> Result<(), UserError> {
                match self {
                    $(Self::$name(trigger) => Trigger::<Word>::clear(trigger, window, ctx),)*
                }
            }
        }
    };
}

any_trigger! {
    End(EventTimeTrigger),
    PurgingEnd(PurgingTrigger<EventTimeTrigger>),
    Count(CountTrigger),
    PurgingCount(PurgingTrigger<CountTrigger>),
    Continuous(ContinuousEventTimeTrigger),
    Never(Never),
}
