//! The watermark of an operator with several inputs.

/// The watermarks of the inputs; one that is idle or has ended holds nothing back.
#[derive(Debug, Clone)]
pub struct InputWatermarks {
    inputs: Vec<InputWatermark>,
    emitted: i64,
}

#[derive(Debug, Clone, Copy)]
struct InputWatermark {
    watermark: i64,
    counts: bool,
}

impl InputWatermarks {
    /// None yet of so many inputs.
    pub fn new(inputs: usize) -> Self {
        let fresh = InputWatermark {
            watermark: i64::MIN,
            counts: true,
        };
        Self {
            inputs: vec![fresh; inputs],
            emitted: i64::MIN,
        }
    }

    /// An input's watermark.
    pub fn advance(&mut self, input: usize, watermark: i64) {
        let known = &mut self.inputs[input].watermark;
        *known = watermark.max(*known);
    }

    /// Whether an input holds the others back: not if it is idle or has ended.
    pub fn set_counts(&mut self, input: usize, counts: bool) {
        self.inputs[input].counts = counts;
    }

    /// The least; `None` if no input counts.
    pub fn combined(&self) -> Option<i64> {
        let counting = self.inputs.iter().filter(|input| input.counts);
        counting.map(|input| input.watermark).min()
    }

    /// The least, if it is above what was taken before.
    pub fn take(&mut self) -> Option<i64> {
        let combined = self.combined().filter(|watermark| *watermark > self.emitted)?;
        self.emitted = combined;
        Some(combined)
    }
}
