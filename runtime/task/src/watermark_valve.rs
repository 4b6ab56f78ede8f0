//! Combines the watermarks and the idleness of one logical input's channels. Flink's StatusWatermarkValve.
//!
//! ```text
//!   channel 0 --10---20------->            min over the channels that are
//!   channel 1 -----15--(idle)->  valve -->  active, not ended and aligned  --> 10, 15, 20, idle
//!   channel 2 --(ended)
//! ```
//!
//! Invariants: the output never goes back; an idle or ended channel holds nothing back; a channel that comes back from idle
//! counts again once it has caught up with the output ("aligned").

/// Before any watermark.
pub const NO_WATERMARK: i64 = i64::MIN;
/// Behind the last row of a bounded input. Flink's `Watermark.MAX_WATERMARK`.
pub const MAX_WATERMARK: i64 = i64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Active,
    Idle,
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    watermark: i64,
    activity: Activity,
    aligned: bool,
}

/// What a change of one channel means for the combined input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValveOutput {
    /// The combined watermark advanced to this.
    pub watermark: Option<i64>,
    /// The combined input became idle (`true`) or active; comes behind the watermark.
    pub idle: Option<bool>,
}

/// The valve of one logical input.
#[derive(Debug, Clone)]
pub struct WatermarkValve {
    channels: Vec<Channel>,
    watermark: i64,
    idle: bool,
}

impl WatermarkValve {
    /// All channels active and without a watermark.
    pub fn new(channels: usize) -> Self {
        let fresh = Channel {
            watermark: NO_WATERMARK,
            activity: Activity::Active,
            aligned: true,
        };
        Self {
            channels: vec![fresh; channels],
            watermark: NO_WATERMARK,
            idle: false,
        }
    }

    /// The combined watermark so far.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Whether every channel that has not ended is idle, and there is one.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Whether every channel has ended.
    pub fn has_ended(&self) -> bool {
        self.channels
            .iter()
            .all(|channel| channel.activity == Activity::Ended)
    }

    /// A watermark from a channel: the combined one, if it advanced. Ignored from a channel that is not active.
    pub fn advance(&mut self, channel: usize, watermark: i64) -> Option<i64> {
        let state = &mut self.channels[channel];
        if state.activity != Activity::Active || watermark <= state.watermark {
            return None;
        }
        state.watermark = watermark;
        state.aligned |= watermark >= self.watermark;
        self.advance_to_min()
    }

    /// A channel became idle.
    pub fn mark_idle(&mut self, channel: usize) -> ValveOutput {
        if self.channels[channel].activity != Activity::Active {
            return ValveOutput::default();
        }
        self.leave(channel, Activity::Idle)
    }

    /// A channel became active again.
    pub fn mark_active(&mut self, channel: usize) -> ValveOutput {
        let state = &mut self.channels[channel];
        if state.activity != Activity::Idle {
            return ValveOutput::default();
        }
        state.activity = Activity::Active;
        state.aligned = state.watermark >= self.watermark;
        let was_idle = std::mem::replace(&mut self.idle, false);
        ValveOutput {
            watermark: None,
            idle: was_idle.then_some(false),
        }
    }

    /// A channel ended. The end of all channels is no idleness: see [`Self::has_ended`].
    pub fn mark_ended(&mut self, channel: usize) -> ValveOutput {
        if self.channels[channel].activity == Activity::Ended {
            return ValveOutput::default();
        }
        self.leave(channel, Activity::Ended)
    }

    fn leave(&mut self, channel: usize, activity: Activity) -> ValveOutput {
        let left = self.channels[channel].watermark;
        self.channels[channel].activity = activity;
        self.channels[channel].aligned = false;
        let any_active = self
            .channels
            .iter()
            .any(|channel| channel.activity == Activity::Active);
        if any_active {
            return ValveOutput {
                watermark: self.advance_to_min(),
                idle: None,
            };
        }
        let all_ended = self.has_ended();
        // The last active channel held the others back: nothing does any more.
        let held_back = activity == Activity::Idle && left == self.watermark;
        let watermark = if held_back {
            self.advance_to_max_of_idle()
        } else {
            None
        };
        let was_idle = std::mem::replace(&mut self.idle, !all_ended);
        ValveOutput {
            watermark,
            idle: (!was_idle && !all_ended).then_some(true),
        }
    }

    fn advance_to_min(&mut self) -> Option<i64> {
        let min = self
            .channels
            .iter()
            .filter(|channel| channel.aligned)
            .map(|channel| channel.watermark)
            .min();
        self.advance_to(min?)
    }

    fn advance_to_max_of_idle(&mut self) -> Option<i64> {
        let idle = self
            .channels
            .iter()
            .filter(|channel| channel.activity == Activity::Idle);
        self.advance_to(idle.map(|channel| channel.watermark).max()?)
    }

    fn advance_to(&mut self, watermark: i64) -> Option<i64> {
        (watermark > self.watermark).then(|| {
            self.watermark = watermark;
            watermark
        })
    }
}

#[cfg(test)]
mod tests;
