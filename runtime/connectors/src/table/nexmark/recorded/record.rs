//! Writes the generator's events to files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, TypeRoot};

use super::super::config::NexmarkConfig;
use super::super::events::{EventKind, Generator, Texts};
use super::super::fields::{Events, Leaf, Output, Shape};
use super::{MAGIC, numbers, texts};

/// Events that are made at once.
const STEP: u64 = 8_192;

/// Writes `events` events of the generator with that seed and `first-event.rate` to the files `events-0`, `events-1`, .. of a folder,
/// all other options being the defaults.
///
/// # Errors
/// A file can't be written.
pub fn record(folder: &Path, files: u64, events: u64, seed: u64, rate: u32) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut outs = Vec::new();
    for file in 0..files {
        let mut out = BufWriter::new(File::create(folder.join(format!("events-{file}")))?);
        out.write_all(&MAGIC)?;
        outs.push(out);
    }
    let config = NexmarkConfig::seeded(seed, rate, events);
    let generator = Generator {
        base_time_ms: config.base_time_ms.unwrap_or_default(),
        texts: Arc::new(Texts::new(seed)),
        config,
    };
    let mut record = Vec::new();
    for begin in (0..events).step_by(STEP as usize) {
        let end = (begin + STEP).min(events);
        let step = Step::of(&generator, begin..end);
        for number in begin..end {
            record.clear();
            step.write(
                (number - begin) as usize,
                generator_kind(&generator, number),
                &mut record,
            );
            let out = &mut outs[(number % files) as usize];
            out.write_all(&(record.len() as u32).to_be_bytes())?;
            out.write_all(&record)?;
        }
    }
    outs.iter_mut().try_for_each(Write::flush)
}

fn generator_kind(generator: &Generator, number: u64) -> EventKind {
    generator.kind(&generator.event(number))
}

/// All fields of some events in a row, by kind.
struct Step {
    numbers: [Vec<ArrayRef>; 3],
    texts: [Vec<ArrayRef>; 3],
}

impl Step {
    fn of(generator: &Generator, events: std::ops::Range<u64>) -> Self {
        let events = Events::new(generator, &[events], [true; 3]);
        let columns = |leaves: fn(EventKind) -> &'static [Leaf]| {
            EventKind::ALL.map(|kind| {
                let output = |leaf: &Leaf| Output::Leaf(kind, *leaf, type_of(*leaf));
                leaves(kind)
                    .iter()
                    .map(|leaf| events.column(&output(leaf)))
                    .collect()
            })
        };
        Self {
            numbers: columns(numbers),
            texts: columns(texts),
        }
    }

    /// A record without its length.
    fn write(&self, row: usize, kind: EventKind, out: &mut Vec<u8>) {
        out.push(kind as u8);
        for column in &self.numbers[kind as usize] {
            let value = match column.as_primitive_opt::<Int64Type>() {
                Some(numbers) => numbers.value(row),
                None => column.as_primitive::<TimestampMillisecondType>().value(row),
            };
            out.extend_from_slice(&value.to_be_bytes());
        }
        let texts = &self.texts[kind as usize];
        for column in texts {
            let length = column.as_string::<i32>().value_length(row);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        for column in texts {
            out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes());
        }
    }
}

fn type_of(leaf: Leaf) -> DataType {
    match leaf.shape() {
        Shape::Number => DataType::nullable(TypeRoot::BigInt),
        Shape::Text => DataType::string(),
        Shape::Time => DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular)),
    }
}
