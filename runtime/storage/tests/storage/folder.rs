//! What every folder does, whatever it is on: run for local files, for the scripted server and for a real one.

use bytes::Bytes;
use thalweg_storage::{FileSystem, StorageError};
use thalweg_types::config::Configuration;
use thalweg_types::{Classify, FailureClass};

pub(crate) async fn behaves(folder: &FileSystem) {
    files_come_back(folder).await;
    large_files_come_back(folder).await;
    listing_and_deleting(folder).await;
    folder.probe_writable().await.unwrap();
    assert_eq!(folder.list("").await.unwrap(), []);
}

async fn files_come_back(folder: &FileSystem) {
    folder
        .write("a/b", Bytes::from_static(b"0123456789"))
        .await
        .unwrap();
    assert_eq!(folder.read("a/b").await.unwrap(), "0123456789");
    assert_eq!(folder.size("a/b").await.unwrap(), 10);
    assert_eq!(folder.read_range("a/b", 2..5).await.unwrap(), "234");
    assert_eq!(
        folder.read_range("a/b", 8..50).await.unwrap(),
        "89",
        "the file ends before"
    );
    assert_eq!(folder.read_range("a/b", 50..60).await.unwrap(), "");
    assert_eq!(folder.folder("a").read("b").await.unwrap(), "0123456789");
    folder.write("a/b", Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(folder.read("a/b").await.unwrap(), "new");
    folder
        .write_new("a/c", Bytes::from_static(b"first"))
        .await
        .unwrap();
    let error = folder
        .write_new("a/c", Bytes::from_static(b"second"))
        .await
        .unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error}");
    assert_eq!(folder.read("a/c").await.unwrap(), "first");
    let error = folder.read("a/none").await.unwrap_err();
    assert!(matches!(error, StorageError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains(&folder.uri_of("a/none")), "{error}");
    assert_eq!(error.class(), FailureClass::Fatal);
    assert!(folder.size("a/none").await.is_err());
    folder.delete_folder("a").await.unwrap();
    assert!(folder.read("a/b").await.is_err());
}

async fn large_files_come_back(folder: &FileSystem) {
    let content: Vec<u8> = (0..20_u32 << 20).map(|at| (at ^ (at >> 11)) as u8).collect();
    let content = Bytes::from(content);
    folder.write("large", content.clone()).await.unwrap();
    assert!(folder.read("large").await.unwrap() == content);
    let range = 9_000_000..9_500_000;
    let part = folder.read_range("large", range.clone()).await.unwrap();
    assert!(part == content[range.start as usize..range.end as usize]);

    let mut writer = folder.writer("pieces").await.unwrap();
    for piece in content.chunks(1_234_567) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(writer.written(), content.len() as u64);
    assert!(
        folder.read("pieces").await.is_err(),
        "it is there only when it is finished"
    );
    writer.finish().await.unwrap();
    assert!(folder.read("pieces").await.unwrap() == content);

    let mut writer = folder.writer("given-up").await.unwrap();
    writer.write(content.slice(..1000)).await.unwrap();
    writer.abort().await;
    assert!(folder.read("given-up").await.is_err());
    folder
        .delete(&["large".to_owned(), "pieces".to_owned()])
        .await
        .unwrap();
}

async fn listing_and_deleting(folder: &FileSystem) {
    for path in ["chk-1/_metadata", "chk-1/x", "shared/y", "chk-10/z"] {
        folder.write(path, Bytes::from_static(b"content")).await.unwrap();
    }
    let paths = async |prefix: &str| -> Vec<String> {
        let files = folder.list(prefix).await.unwrap();
        assert!(files.iter().all(|file| file.size == 7 && file.modified_ms > 0));
        files.into_iter().map(|file| file.path).collect()
    };
    assert_eq!(paths("chk-1").await, ["chk-1/_metadata", "chk-1/x"]);
    assert_eq!(
        paths("").await,
        ["chk-1/_metadata", "chk-1/x", "chk-10/z", "shared/y"]
    );
    assert_eq!(paths("none").await, Vec::<String>::new());
    let gone = ["chk-1/x".to_owned(), "not/there".to_owned()];
    folder.delete(&gone).await.unwrap();
    assert_eq!(paths("chk-1").await, ["chk-1/_metadata"]);
    folder.delete_folder("chk-1").await.unwrap();
    folder.delete_folder("not-there").await.unwrap();
    assert_eq!(paths("").await, ["chk-10/z", "shared/y"]);
    folder.delete_folder("chk-10").await.unwrap();
    folder.delete_folder("shared").await.unwrap();
}

#[tokio::test]
async fn a_local_folder_behaves() {
    let folder = tempfile::tempdir().unwrap();
    // Characters that URIs would encode are part of the name.
    let uri = format!("file://{}/check points/100%/ä#1", folder.path().display());
    let opened = FileSystem::open(&uri, &Configuration::default()).unwrap();
    behaves(&opened).await;
    let left: Vec<_> = std::fs::read_dir(folder.path().join("check points/100%/ä#1"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn no_path_leads_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), b"secret").unwrap();
    let uri = format!("file://{}/inner", folder.path().display());
    let opened = FileSystem::open(&uri, &Configuration::default()).unwrap();
    let path = "../secret".to_owned();
    assert!(opened.read(&path).await.is_err());
    assert!(opened.delete(std::slice::from_ref(&path)).await.is_err());
    assert!(opened.delete_folder("..").await.is_err());
    assert!(opened.delete_folder("").await.is_err());
    assert!(folder.path().join("secret").exists());
}

#[tokio::test]
async fn a_folder_that_is_not_writable_is_refused_at_start_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"in the way").unwrap();
    let uri = format!("file://{}/file/checkpoints", folder.path().display());
    let opened = FileSystem::open(&uri, &Configuration::default()).unwrap();
    let error = opened.probe_writable().await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("folder {uri} is not writable")),
        "{error}"
    );
}
