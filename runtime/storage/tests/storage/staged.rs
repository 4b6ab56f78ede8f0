//! Files that appear in one step, on a disk and on a scripted S3 server.

use bytes::Bytes;
use thalweg_storage::{FileSystem, FileSystems, Staged, StorageError};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass};

use crate::server::Server;

async fn staged(folder: &FileSystem, path: &str, pieces: &[&'static str]) -> Staged {
    let mut writer = folder.stage(path).await.unwrap();
    for piece in pieces {
        writer.write(Bytes::from_static(piece.as_bytes())).await.unwrap();
    }
    writer.sync().await.unwrap()
}

fn lost(result: Result<(), StorageError>, length: u64) {
    let error = result.unwrap_err();
    assert!(
        matches!(error, StorageError::Lost { length: found, .. } if found == length),
        "{error}"
    );
    assert_eq!(error.class(), FailureClass::Fatal);
}

async fn visible(folder: &FileSystem) -> Vec<String> {
    let files = folder.list("").await.unwrap();
    let paths = files.into_iter().map(|file| file.path);
    paths.filter(|path| !path.contains("/.")).collect()
}

async fn behaves(folder: &FileSystem) {
    folder.probe_stageable().await.unwrap();
    let whole = staged(folder, "a/whole", &["one ", "two"]).await;
    assert!(
        visible(folder).await.is_empty(),
        "nothing shows before it is published"
    );
    for _ in 0..2 {
        folder.publish("a/whole", &whole, 7).await.unwrap();
        assert_eq!(folder.read("a/whole").await.unwrap(), "one two");
    }
    lost(folder.publish("a/whole", &whole, 6).await, 6);

    let begun = staged(folder, "a/more", &["one "]).await;
    let mut writer = folder.resume("a/more", &begun, 4).await.unwrap();
    writer.write(Bytes::from_static(b"three")).await.unwrap();
    let more = writer.sync().await.unwrap();
    folder.publish("a/more", &more, 9).await.unwrap();
    assert_eq!(folder.read("a/more").await.unwrap(), "one three");
    lost(folder.resume("a/more", &begun, 4).await.map(drop), 4);

    let gone = staged(folder, "a/gone", &["x"]).await;
    for _ in 0..2 {
        folder.discard("a/gone", &gone).await.unwrap();
    }
    lost(folder.publish("a/gone", &gone, 1).await, 1);
    assert_eq!(visible(folder).await, ["a/more", "a/whole"]);
    folder.delete_folder("a").await.unwrap();
}

#[tokio::test]
async fn on_a_disk_a_writer_that_was_cut_off_writes_to_nothing_that_is_published() {
    let root = tempfile::tempdir().unwrap();
    let uri = format!("file://{}/sink", root.path().display());
    let folder = FileSystem::open(&uri, &Configuration::default()).unwrap();
    let mut cut_off = folder.stage("a/part").await.unwrap();
    cut_off.write(Bytes::from_static(b"one ")).await.unwrap();
    let begun = cut_off.sync().await.unwrap();
    cut_off.write(Bytes::from_static(b"lost")).await.unwrap();
    let mut next = folder.resume("a/part", &begun, 4).await.unwrap();
    cut_off.write(Bytes::from_static(b"lost too")).await.unwrap();
    next.write(Bytes::from_static(b"two")).await.unwrap();
    let more = next.sync().await.unwrap();
    // One that was held up in the midst of its own beginning, and another of its kind that gives up.
    let mut late = folder.resume("a/part", &begun, 4).await.unwrap();
    late.write(Bytes::from_static(b"lost")).await.unwrap();
    let given_up = folder.resume("a/part", &more, 7).await.unwrap().staged();
    folder.discard("a/part", &given_up).await.unwrap();
    folder.publish("a/part", &more, 7).await.unwrap();
    cut_off.write(Bytes::from_static(b"and this")).await.unwrap();
    assert_eq!(folder.read("a/part").await.unwrap(), "one two");
    folder.discard("a/part", &late.staged()).await.unwrap();
    assert_eq!(
        folder.list("").await.unwrap().len(),
        1,
        "what it was copied from is gone"
    );
}

#[tokio::test]
async fn on_a_disk_a_staged_file_appears_whole_once_or_never() {
    let root = tempfile::tempdir().unwrap();
    let uri = format!("file://{}/sink", root.path().display());
    let folder = FileSystem::open(&uri, &Configuration::default()).unwrap();
    behaves(&folder).await;
    // What a process wrote behind its last checkpoint is cut off; what a checkpoint counts on must be there.
    let longer = staged(&folder, "a/cut", &["kept", "lost"]).await;
    lost(folder.publish("a/cut", &longer, 9).await, 9);
    lost(folder.resume("a/cut", &longer, 9).await.map(drop), 9);
    folder.publish("a/cut", &longer, 4).await.unwrap();
    assert_eq!(folder.read("a/cut").await.unwrap(), "kept");
    let outside = Staged::File {
        name: "../a/cut".to_owned(),
        older: Vec::new(),
    };
    let refused = folder.discard("a/x", &outside).await;
    assert!(matches!(refused, Err(StorageError::Uri { .. })), "{refused:?}");
}

#[tokio::test]
async fn on_an_object_store_a_staged_object_appears_whole_once_or_never() {
    let server = Server::start().await;
    let folder = bucket(&server);
    behaves(&folder).await;
    assert_eq!(server.unfinished_uploads(), 0);
    // A part that was sent behind a checkpoint is no part of what that checkpoint publishes.
    let mut writer = folder.stage("a/cut").await.unwrap();
    writer.write(Bytes::from_static(b"kept")).await.unwrap();
    let kept = writer.sync().await.unwrap();
    writer.write(Bytes::from_static(b"lost")).await.unwrap();
    writer.sync().await.unwrap();
    folder.publish("a/cut", &kept, 4).await.unwrap();
    assert_eq!(folder.read("a/cut").await.unwrap(), "kept");
}

fn bucket(server: &Server) -> FileSystem {
    let keys = [
        ("s3.endpoint", server.endpoint()),
        ("s3.access-key", "key".to_owned()),
        ("s3.secret-key", "secret".to_owned()),
        ("s3.region", "nowhere-1".to_owned()),
    ];
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value)));
    let files = FileSystems::new(configuration);
    files.open_folder("s3://bucket/sink").unwrap()
}
