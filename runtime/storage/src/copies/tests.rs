use std::path::Path;

use bytes::Bytes;
use thalweg_types::config::Configuration;

use super::file::CHUNK_BYTES;
use super::*;
use crate::FileSystem;

/// A checkpoint folder and a local disk.
struct Machine {
    remote: tempfile::TempDir,
    disk: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self {
            remote: tempfile::tempdir().unwrap(),
            disk: tempfile::tempdir().unwrap(),
        }
    }

    fn folder_uri(&self) -> String {
        format!("file://{}/job", self.remote.path().display())
    }

    /// What a process that has just started sees.
    fn open(&self, limit_bytes: u64) -> (LocalCopies, FileSystem) {
        self.open_with(LocalCopiesSettings {
            folders: vec![self.disk.path().join("0"), self.disk.path().join("1")],
            of: self.folder_uri(),
            limit_bytes,
            write: true,
            read: true,
        })
    }

    fn open_with(&self, settings: LocalCopiesSettings) -> (LocalCopies, FileSystem) {
        let copies = LocalCopies::open(settings).unwrap();
        let files = FileSystems::new(Configuration::default()).with_copies(Some(copies.clone()));
        (copies, files.open_folder(&self.folder_uri()).unwrap())
    }

    fn copies_on_disk(&self) -> Vec<std::path::PathBuf> {
        let folders = [self.disk.path().join("0"), self.disk.path().join("1")];
        let entries = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap());
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The remote file is gone, without anybody having been told.
    fn lose(&self, path: &str) {
        std::fs::remove_file(self.remote.path().join("job").join(path)).unwrap();
    }
}

const NO_LIMIT: u64 = u64::MAX;

fn content(length: u64) -> Bytes {
    (0..length).map(|at| (at ^ (at >> 9)) as u8).collect()
}

fn uri(folder: &FileSystem, path: &str) -> String {
    folder.uri_of(path)
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn ranges_of_a_copy_are_those_of_the_file() {
    let machine = Machine::new();
    let (_, folder) = machine.open(NO_LIMIT);
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
        let all = content(length);
        folder.write("shared/f", all.clone()).await.unwrap();
        machine.lose("shared/f");
        let ranges = [
            (0, length),
            (0, length + 10),
            (length / 2, length / 2 + 7),
            (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
            (length, length + 1),
            (length + 5, length + 9),
        ];
        for (start, end) in ranges.into_iter().filter(|(start, end)| start < end) {
            let read = folder.read_range("shared/f", start..end).await.unwrap();
            let expected = &all[start.min(length) as usize..end.min(length) as usize];
            assert_eq!(read, expected, "{start}..{end} of {length}");
        }
    }
}

#[tokio::test]
async fn a_file_written_in_pieces_has_a_copy_once_it_is_there() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(NO_LIMIT);
    let all = content(500_000);
    let mut writer = folder.writer("chk-1/f").await.unwrap();
    for piece in all.chunks(123_457) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(copies.bytes(), 0);
    writer.finish().await.unwrap();
    machine.lose("chk-1/f");
    assert_eq!(folder.read_range("chk-1/f", 0..500_000).await.unwrap(), all);

    let mut given_up = folder.writer("chk-1/g").await.unwrap();
    given_up.write(content(10)).await.unwrap();
    given_up.abort().await;
    assert_eq!(machine.copies_on_disk().len(), 1, "nothing is left of the other");
}

#[tokio::test]
async fn the_next_process_finds_the_copies_and_removes_what_was_half_written() {
    let machine = Machine::new();
    let (_, folder) = machine.open(NO_LIMIT);
    folder.write("shared/f", content(100_000)).await.unwrap();
    std::fs::write(machine.disk.path().join("0/.inprogress-1"), "half").unwrap();
    machine.lose("shared/f");
    let (_, folder) = machine.open(NO_LIMIT);
    assert_eq!(
        folder.read_range("shared/f", 70_000..80_000).await.unwrap(),
        content(100_000).slice(70_000..80_000)
    );
    assert_eq!(machine.copies_on_disk().len(), 1);
}

#[tokio::test]
async fn a_damaged_copy_is_removed_and_the_file_itself_is_read() {
    let whole = content(200_000);
    // In the content, the list of checksums, the URI, the lengths, the magic number.
    for damage in [0, 150_000, 200_001, 200_030, 200_110, usize::MAX] {
        let machine = Machine::new();
        let (_, folder) = machine.open(NO_LIMIT);
        folder.write("shared/f", whole.clone()).await.unwrap();
        let [copy] = &machine.copies_on_disk()[..] else {
            panic!("one copy");
        };
        let length = std::fs::metadata(copy).unwrap().len();
        if damage == usize::MAX {
            std::fs::File::options()
                .write(true)
                .open(copy)
                .unwrap()
                .set_len(length / 2)
                .unwrap();
        } else {
            flip_byte(copy, damage.min(length as usize - 1));
        }
        let (copies, folder) = machine.open(NO_LIMIT);
        let read = folder.read_range("shared/f", 0..200_000).await.unwrap();
        assert!(read == whole, "damage at {damage}");
        assert_eq!(
            (copies.bytes(), machine.copies_on_disk().len()),
            (0, 0),
            "damage at {damage}"
        );
    }
}

#[tokio::test]
async fn a_copy_of_another_folders_file_is_not_taken_for_this_ones() {
    let machine = Machine::new();
    let (_, folder) = machine.open(NO_LIMIT);
    folder.write("shared/f", content(10)).await.unwrap();
    let elsewhere = Machine {
        remote: tempfile::tempdir().unwrap(),
        disk: machine.disk,
    };
    let (_, folder) = elsewhere.open(NO_LIMIT);
    assert!(
        folder.read_range("shared/f", 0..10).await.is_err(),
        "there is none there"
    );
}

#[tokio::test]
async fn on_another_machine_the_file_itself_is_read() {
    let machine = Machine::new();
    let (_, folder) = machine.open(NO_LIMIT);
    folder.write("shared/f", content(10)).await.unwrap();
    let other = Machine {
        remote: machine.remote,
        disk: tempfile::tempdir().unwrap(),
    };
    let (copies, folder) = other.open(NO_LIMIT);
    assert_eq!(folder.read_range("shared/f", 0..10).await.unwrap(), content(10));
    assert_eq!(copies.bytes(), 0, "reading makes no copy");
}

#[tokio::test]
async fn what_is_outside_of_the_folder_has_no_copy() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(NO_LIMIT);
    let savepoint = format!("file://{}/job-savepoint", machine.remote.path().display());
    let files = FileSystems::new(Configuration::default()).with_copies(Some(copies.clone()));
    let savepoint = files.open_folder(&savepoint).unwrap();
    savepoint.write("f", content(10)).await.unwrap();
    assert_eq!(copies.bytes(), 0);
    folder.folder("chk-1").write("f", content(10)).await.unwrap();
    assert!(copies.bytes() > 10);
}

#[tokio::test]
async fn copies_that_are_not_to_be_made_or_read_are_not() {
    let machine = Machine::new();
    let settings = |write, read| LocalCopiesSettings {
        folders: vec![machine.disk.path().join("0"), machine.disk.path().join("1")],
        of: machine.folder_uri(),
        limit_bytes: NO_LIMIT,
        write,
        read,
    };
    let (_, folder) = machine.open_with(settings(false, true));
    folder.write("none", content(10)).await.unwrap();
    assert!(machine.copies_on_disk().is_empty());
    let (_, folder) = machine.open_with(settings(true, false));
    folder.write("unread", content(10)).await.unwrap();
    machine.lose("unread");
    assert_eq!(machine.copies_on_disk().len(), 1);
    assert!(folder.read_range("unread", 0..10).await.is_err());
}

#[tokio::test]
async fn copies_go_when_no_checkpoint_that_may_be_restored_needs_them() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(NO_LIMIT);
    let files = |paths: &[&str]| -> Vec<String> { paths.iter().map(|path| uri(&folder, path)).collect() };
    let uses = |checkpoint, paths: &[&str]| {
        let files = files(paths);
        copies.use_by(checkpoint, files.iter().map(String::as_str));
    };
    let there = |path: &str| copies.index().find(path).is_some();
    for path in ["shared/base", "shared/one", "shared/merged", "chk-1/lists"] {
        folder.write(path, content(10)).await.unwrap();
    }
    uses(1, &["shared/base", "shared/one", "chk-1/lists"]);
    copies.completed(1);
    assert!(there("shared/merged"), "the next checkpoint may need it");
    folder.write("chk-2/lists", content(10)).await.unwrap();
    uses(2, &["shared/merged", "chk-2/lists"]);
    assert!(there("shared/base"), "the second checkpoint may yet fail");
    assert!(copies.is_news(2) && !copies.is_news(1) && !copies.is_news(3));
    copies.completed(2);
    for path in ["shared/base", "shared/one", "chk-1/lists"] {
        assert!(!there(path), "{path}");
    }
    assert!(there("shared/merged") && there("chk-2/lists"));
    assert_eq!(machine.copies_on_disk().len(), 2);
}

#[tokio::test]
async fn a_savepoint_that_completes_costs_the_newest_checkpoint_no_copies() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(NO_LIMIT);
    folder.write("shared/base", content(10)).await.unwrap();
    copies.use_by(1, [uri(&folder, "shared/base").as_str()]);
    copies.completed(1);
    assert!(!copies.is_news(2), "its files were never told");
    copies.completed(2);
    assert!(copies.bytes() > 0);
}

#[tokio::test]
async fn a_copy_that_no_checkpoint_ever_names_goes_after_a_while() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(NO_LIMIT);
    folder.write("chk-1/aborted", content(10)).await.unwrap();
    for checkpoint in 2..5 {
        copies.use_by(checkpoint, []);
        copies.completed(checkpoint);
        assert!(copies.bytes() > 0);
    }
    copies.use_by(5, []);
    copies.completed(5);
    assert_eq!(copies.bytes(), 0);
}

#[tokio::test]
async fn a_deleted_file_has_no_copy() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(NO_LIMIT);
    folder.write("shared/f", content(10)).await.unwrap();
    folder.delete(&["shared/f".to_owned()]).await.unwrap();
    assert_eq!((copies.bytes(), machine.copies_on_disk().len()), (0, 0));
}

#[tokio::test]
async fn over_the_limit_files_get_no_copy_unless_unneeded_ones_can_go() {
    let machine = Machine::new();
    let (copies, folder) = machine.open(3_000);
    folder.write("shared/a", content(1_500)).await.unwrap();
    folder.write("shared/b", content(1_500)).await.unwrap();
    assert_eq!(machine.copies_on_disk().len(), 1, "the second does not fit");
    assert_eq!(
        folder.read_range("shared/b", 0..1_500).await.unwrap(),
        content(1_500)
    );
    copies.use_by(1, [uri(&folder, "shared/a").as_str()]);
    copies.completed(1);
    folder.write("shared/c", content(1_500)).await.unwrap();
    assert!(
        copies.index().find("shared/c").is_none(),
        "a checkpoint needs the first"
    );
    copies.use_by(2, []);
    copies.completed(2);
    folder.write("shared/d", content(1_500)).await.unwrap();
    assert!(copies.index().find("shared/d").is_some());
    assert!(copies.bytes() <= 3_000);

    let (copies, _) = machine.open(1_000);
    assert_eq!(copies.bytes(), 0, "an earlier process had a larger limit");
    assert!(machine.copies_on_disk().is_empty());
}
