//! `_metadata`: what makes a folder a checkpoint or a savepoint.
//!
//! ```text
//!   "THALSNAP" | version u32 LE | SnapshotMetadata (protobuf) | crc32c u32 LE of all before it
//! ```
//!
//! | version | since | what older readers would read wrongly |
//! | --- | --- | --- |
//! | 1 | 0.1 | |
//! | 2 | 0.1 | files that hold several state files (`execution.checkpointing.file-merging.enabled`) |
//!
//! Invariants: what [`decode`] returns was written by [`encode`], byte by byte, or it is an error; the oldest version that has
//! all that is in a snapshot is written. `runtime/samples` holds a snapshot of each version.

use prost::Message;
use thalweg_proto::state::v1::{
    Distribution, OperatorState, OperatorSubtaskState, SnapshotMetadata, StateFile,
};
use thalweg_types::{Classify, FailureClass};

/// The newest version of the frame and of what is in it.
pub const FORMAT_VERSION: u32 = 2;
/// The first with files that hold several.
const WITH_SEGMENTS: u32 = 2;
/// The file's name in its folder.
pub const METADATA_FILE: &str = "_metadata";

const MAGIC: &[u8; 8] = b"THALSNAP";
const HEAD: usize = MAGIC.len() + 4;
const CHECKSUM: usize = 4;

/// Why bytes are no metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It begins otherwise.
    #[error("it is no snapshot's metadata of this engine: it does not begin with \"THALSNAP\"{}", if *.flink { " (Flink's own snapshots can't be read)" } else { "" })]
    Magic {
        /// Whether it is one of Flink's.
        flink: bool,
    },
    /// Cut off.
    #[error("it is cut off: {size} bytes are too few")]
    Truncated {
        /// How many there are.
        size: usize,
    },
    /// Of a newer engine.
    #[error(
        "it has format version {found}, this engine reads up to {FORMAT_VERSION}: restore it with the engine that wrote it, or a newer one"
    )]
    Version {
        /// What it says.
        found: u32,
    },
    /// Damaged.
    #[error("it is damaged or cut off: its checksum is {found:08x}, its content gives {expected:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What it should say.
        expected: u32,
    },
    /// The checksum is right but the content isn't: a writer's mistake.
    #[error("its content can't be read: {message}")]
    Content {
        /// What is wrong.
        message: String,
    },
}

impl Classify for MetadataError {
    fn class(&self) -> FailureClass {
        FailureClass::Fatal
    }
}

/// The oldest version that has all that is in these operators' state.
pub fn version_for(operators: &[OperatorState]) -> u32 {
    let segment = |file: &StateFile| file.physical_size > 0;
    let states = operators.iter().flat_map(|operator| &operator.subtasks);
    match states.flat_map(files_of).flatten().any(segment) {
        true => WITH_SEGMENTS,
        false => 1,
    }
}

fn files_of(state: &OperatorSubtaskState) -> impl Iterator<Item = Option<&StateFile>> {
    let runs = state.runs.iter().map(|run| run.file.as_ref());
    let lists = state.lists.iter().map(|list| list.file.as_ref());
    let channels = state.channels.iter().map(|channel| channel.file.as_ref());
    runs.chain(lists).chain(channels)
}

/// The bytes of the file, in the version that the metadata names.
pub fn encode(metadata: &SnapshotMetadata) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + metadata.encoded_len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&metadata.format_version.to_le_bytes());
    bytes.extend_from_slice(&metadata.encode_to_vec());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads the file.
///
/// # Errors
/// No metadata, cut off, damaged, of a newer engine, inconsistent.
pub fn decode(bytes: &[u8]) -> Result<SnapshotMetadata, MetadataError> {
    if !bytes.starts_with(&MAGIC[..MAGIC.len().min(bytes.len())]) {
        // Flink's Checkpoints.HEADER_MAGIC_NUMBER
        let flink = bytes.starts_with(&[0x49, 0x60, 0x67, 0x22]);
        return Err(MetadataError::Magic { flink });
    }
    let truncated = MetadataError::Truncated { size: bytes.len() };
    let Some((framed, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else {
        return Err(truncated);
    };
    let Some((head, content)) = framed.split_first_chunk::<HEAD>() else {
        return Err(truncated);
    };
    let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let (found, expected) = (u32::from_le_bytes(*checksum), crc32c::crc32c(framed));
    if found != expected {
        return Err(MetadataError::Checksum { found, expected });
    }
    if version > FORMAT_VERSION {
        return Err(MetadataError::Version { found: version });
    }
    let metadata = SnapshotMetadata::decode(content).map_err(|error| MetadataError::Content {
        message: error.to_string(),
    })?;
    if metadata.format_version > FORMAT_VERSION {
        return Err(MetadataError::Version {
            found: metadata.format_version,
        });
    }
    validate(&metadata)?;
    Ok(metadata)
}

/// What every reader may rely on.
fn validate(metadata: &SnapshotMetadata) -> Result<(), MetadataError> {
    let broken = |message: String| Err(MetadataError::Content { message });
    let mut seen = std::collections::HashSet::new();
    for operator in &metadata.operators {
        let name = &operator.name;
        if !seen.insert(operator.operator_id.as_str()) {
            return broken(format!("operator {name:?} is in it twice"));
        }
        let (parallelism, max) = (operator.parallelism, operator.max_parallelism);
        if parallelism == 0 || parallelism > max || max > thalweg_types::key_group::MAX_MAX_PARALLELISM {
            return broken(format!(
                "operator {name:?} has parallelism {parallelism} of at most {max}"
            ));
        }
        let mut last = None;
        for state in &operator.subtasks {
            if state.subtask >= parallelism || last.is_some_and(|last| last >= state.subtask) {
                return broken(format!(
                    "operator {name:?} has a state of subtask {} out of order",
                    state.subtask
                ));
            }
            last = Some(state.subtask);
            if files_of(state).any(|file| !has_content(file)) {
                return broken(format!("operator {name:?} has a state without a file"));
            }
            if files_of(state).flatten().any(is_misplaced) {
                return broken(format!("operator {name:?} has a state outside of its file"));
            }
            if state
                .runs
                .iter()
                .any(|run| run.first_key_group > run.last_key_group || run.last_key_group >= max)
            {
                return broken(format!(
                    "operator {name:?} has a run of key groups that it can't have"
                ));
            }
            if state
                .lists
                .iter()
                .any(|list| list.distribution() == Distribution::Unspecified)
            {
                return broken(format!("operator {name:?} has a list without a distribution"));
            }
        }
    }
    Ok(())
}

fn has_content(file: Option<&StateFile>) -> bool {
    file.is_some_and(|file| file.path.is_empty() != file.inline.is_empty())
}

fn is_misplaced(file: &StateFile) -> bool {
    let segment = file.offset > 0 || file.physical_size > 0;
    let end = file.offset.checked_add(file.size);
    segment && (file.path.is_empty() || end.is_none_or(|end| end > file.physical_size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::state::v1::KeyedRun;

    fn sample() -> SnapshotMetadata {
        let run = KeyedRun {
            file: Some(StateFile {
                path: "shared/0123".to_owned(),
                size: 10,
                ..StateFile::default()
            }),
            first_key_group: 0,
            last_key_group: 127,
            checkpoint_id: 3,
            rows: 1,
        };
        SnapshotMetadata {
            format_version: 1,
            job_id: "0".repeat(32),
            checkpoint_id: 3,
            operators: vec![OperatorState {
                operator_id: "1".repeat(32),
                name: "Count".to_owned(),
                operator: "KeyedReduce".to_owned(),
                parallelism: 1,
                max_parallelism: 128,
                subtasks: vec![OperatorSubtaskState {
                    runs: vec![run],
                    ..OperatorSubtaskState::default()
                }],
                ..OperatorState::default()
            }],
            ..SnapshotMetadata::default()
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(decode(&encode(&sample())), Ok(sample()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let bytes = encode(&sample());
        for size in 0..bytes.len() {
            assert!(decode(&bytes[..size]).is_err(), "cut to {size}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_and_flinks_own_metadata_are_refused_in_words() {
        let mut newer = encode(&sample());
        newer.truncate(newer.len() - CHECKSUM);
        newer[8] = 9;
        newer.extend(crc32c::crc32c(&newer).to_le_bytes());
        assert_eq!(decode(&newer), Err(MetadataError::Version { found: 9 }));
        let error = decode(&[0x49, 0x60, 0x67, 0x22, 0, 0, 0, 4]).unwrap_err();
        assert!(error.to_string().contains("Flink's own"), "{error}");
    }

    #[test]
    fn the_oldest_version_that_has_all_is_written_and_segments_lie_in_their_file() {
        let mut metadata = sample();
        assert_eq!((version_for(&metadata.operators), encode(&metadata)[8]), (1, 1));
        let file = metadata.operators[0].subtasks[0].runs[0].file.as_mut().unwrap();
        (file.offset, file.physical_size) = (90, 100);
        metadata.format_version = version_for(&metadata.operators);
        assert_eq!((metadata.format_version, encode(&metadata)[8]), (2, 2));
        assert_eq!(decode(&encode(&metadata)).as_ref(), Ok(&metadata));
        metadata.operators[0].subtasks[0].runs[0]
            .file
            .as_mut()
            .unwrap()
            .offset = 91;
        let error = decode(&encode(&metadata)).unwrap_err();
        assert!(error.to_string().contains("\"Count\""), "{error}");
    }

    #[test]
    fn a_state_without_a_file_is_refused() {
        let mut metadata = sample();
        metadata.operators[0].subtasks[0].runs[0].file = None;
        let error = decode(&encode(&metadata)).unwrap_err();
        assert!(error.to_string().contains("\"Count\""), "{error}");
    }
}
