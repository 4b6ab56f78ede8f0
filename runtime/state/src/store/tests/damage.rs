//! Files that are not what was written are refused, by name, and never restored in part.

use std::path::PathBuf;

use thalweg_proto::state::v1::OperatorRestore;
use thalweg_types::{Classify, FailureClass};

use super::fixtures::{Fixture, MAX_PARALLELISM, changes, whole};
use crate::{StateError, SubtaskChain};

/// One checkpoint of one file.
struct Damaged {
    fixture: Fixture,
    restore: OperatorRestore,
    path: PathBuf,
    content: Vec<u8>,
}

impl Damaged {
    fn new(rows: i64) -> Self {
        let fixture = Fixture::new(0);
        let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
        let written = fixture.checkpoint(&chain, 1, changes((0..rows).map(|id| (id, Some(id)))));
        let path = fixture.job_folder_path().join(&fixture.files()[0]);
        Self {
            restore: fixture.operator_restore(&[written.state]),
            content: std::fs::read(&path).unwrap(),
            fixture,
            path,
        }
    }

    fn read(&self) -> Result<usize, StateError> {
        self.fixture
            .read_rows(&self.restore, whole())
            .map(|rows| rows.len())
    }

    fn refused(&self, what: &str) {
        let error = match self.read() {
            Ok(rows) => panic!("{what}: {rows} rows were restored"),
            Err(error) => error,
        };
        let name = self.path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{what}: {error}");
        assert_eq!(error.class(), FailureClass::Fatal, "{what}: {error}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_small_file_is_found() {
    let file = Damaged::new(30);
    assert_eq!(file.read().unwrap(), 30);
    for place in 0..file.content.len() {
        let mut content = file.content.clone();
        content[place] ^= 1 << (place % 8);
        std::fs::write(&file.path, content).unwrap();
        file.refused(&format!("bit flipped in byte {place}"));
    }
}

#[test]
fn a_flipped_bit_in_a_file_that_is_read_by_range_is_found() {
    let file = Damaged::new(300_000);
    assert_eq!(file.read().unwrap(), 300_000);
    let length = file.content.len();
    assert!(length > 256 << 10, "{length} bytes");
    let ends = (0..20).chain(length - 40..length);
    for place in ends.chain((20..length - 40).step_by(length / 20)) {
        let mut content = file.content.clone();
        content[place] ^= 0x10;
        std::fs::write(&file.path, content).unwrap();
        file.refused(&format!("bit flipped in byte {place}"));
    }
}

#[test]
fn a_file_that_is_cut_off_is_found_wherever_the_cut_is() {
    let file = Damaged::new(30);
    for length in 0..file.content.len() {
        std::fs::write(&file.path, &file.content[..length]).unwrap();
        file.refused(&format!("cut off at {length}"));
    }
}

#[test]
fn a_longer_file_and_a_file_of_something_else_are_refused() {
    let file = Damaged::new(30);
    let mut longer = vec![b' '; 7];
    longer.extend(&file.content);
    std::fs::write(&file.path, longer).unwrap();
    file.refused("longer");
    std::fs::write(&file.path, vec![b'x'; file.content.len()]).unwrap();
    file.refused("something else");
}

#[test]
fn a_missing_file_is_named() {
    let file = Damaged::new(30);
    std::fs::remove_file(&file.path).unwrap();
    file.refused("missing");
    assert!(file.read().unwrap_err().to_string().contains("does not exist"));
}

#[test]
fn a_file_of_a_newer_format_names_both_versions() {
    let mut file = Damaged::new(30);
    let length = file.content.len();
    file.content[length - 12..length - 8].copy_from_slice(&7_u32.to_le_bytes());
    std::fs::write(&file.path, &file.content).unwrap();
    let error = file.read().unwrap_err();
    assert!(
        matches!(
            error,
            StateError::Version {
                found: 7,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
}
