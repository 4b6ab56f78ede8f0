//! Each way in which a package can be wrong, and what is said about it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use thalweg_types::config::Configuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{manifest, package_directory};

struct Fixture {
    store: PackageStore,
    folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    limited(1 << 20, 1 << 30)
}

fn limited(max_package_bytes: u64, max_total_bytes: u64) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(PackageStoreConfig {
        directory: folder.path().join("store"),
        max_package_bytes,
        max_total_bytes,
        configuration: Configuration::default(),
    });
    Fixture {
        store: store.unwrap(),
        folder,
    }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn import(&self, path: &Path) -> Result<std::sync::Arc<Package>, PackageError> {
        self.store.import(&path.to_string_lossy(), "").await
    }

    /// What is said about a folder that is a good package but for one change.
    async fn refusal(&self, change: impl FnOnce(&Path)) -> String {
        let directory = self.path("package");
        package_directory(&directory, "#!/bin/sh\n");
        change(&directory);
        self.import(&directory).await.unwrap_err().to_string()
    }

    fn is_clean(&self) -> bool {
        fs::read_dir(self.path("store")).unwrap().count() == 0
    }
}

fn member(builder: &mut Builder<impl Write>, path: &str, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_entry_type(kind);
    // not set_path: it refuses what an attacker would write
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn archive(path: &Path, members: &[(&str, EntryType, &[u8])]) {
    let mut builder = Builder::new(GzEncoder::new(
        fs::File::create(path).unwrap(),
        Compression::fast(),
    ));
    for (name, kind, content) in members {
        member(&mut builder, name, *kind, content);
    }
    builder.into_inner().unwrap().finish().unwrap();
}

fn good_archive(path: &Path) {
    let manifest = manifest();
    let members: [(&str, EntryType, &[u8]); 2] = [
        ("job.yaml", EntryType::Regular, manifest.as_bytes()),
        ("bin/job", EntryType::Regular, b"#!/bin/sh\n"),
    ];
    archive(path, &members);
}

#[tokio::test]
async fn a_folder_and_its_archive_are_packages() {
    let fixture = fixture();
    let directory = fixture.path("package");
    package_directory(&directory, "#!/bin/sh\n");
    let from_folder = fixture.import(&directory).await.unwrap();
    assert_eq!(from_folder.manifest.name, "sample");
    assert_eq!(fs::read(from_folder.entry()).unwrap(), b"#!/bin/sh\n");
    let payload = fs::read(from_folder.payload()).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&payload)), from_folder.sha256);
    assert_eq!(payload.len() as u64, from_folder.size);

    let path = fixture.path("package.tar.gz");
    good_archive(&path);
    let from_archive = fixture.import(&path).await.unwrap();
    assert_eq!(
        fs::read(from_archive.payload()).unwrap(),
        fs::read(&path).unwrap(),
        "the archive travels as it is"
    );
}

#[tokio::test]
async fn equal_folders_have_equal_hashes_wherever_and_whenever_they_were_made() {
    let fixture = fixture();
    let (a, b) = (fixture.path("a"), fixture.path("b"));
    package_directory(&a, "#!/bin/sh\n");
    package_directory(&b, "#!/bin/sh\n");
    let file = fs::File::options().write(true).open(b.join("job.yaml")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(b.join("bin/job"), fs::Permissions::from_mode(0o700)).unwrap();
    let first = fixture.import(&a).await.unwrap();
    let second = fixture.import(&b).await.unwrap();
    assert_eq!(first.sha256, second.sha256);
}

#[tokio::test]
async fn a_package_goes_when_nobody_uses_it() {
    let fixture = fixture();
    let path = fixture.path("package.tar.gz");
    good_archive(&path);
    let package = fixture.import(&path).await.unwrap();
    let sha256 = package.sha256.clone();
    assert!(fixture.store.get(&sha256).is_some());
    drop(package);
    assert!(fixture.store.get(&sha256).is_none());
    assert!(fixture.is_clean());
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let fixture = fixture();
    let error = fixture
        .store
        .import("file:///no/such/package", "")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no package at file:///no/such/package"
    );
}

#[tokio::test]
async fn what_is_no_package_is_refused() {
    let fixture = fixture();
    let file = fixture.path("text");
    fs::write(
        &file,
        "this is a text, and long enough to be taken for a header".repeat(30),
    )
    .unwrap();
    let error = fixture.import(&file).await.unwrap_err().to_string();
    assert!(
        error.contains("is not a job package") && error.contains(".tar.gz"),
        "{error}"
    );

    let empty = fixture.path("empty");
    fs::create_dir(&empty).unwrap();
    let error = fixture.import(&empty).await.unwrap_err().to_string();
    assert!(error.contains("there is no job.yaml at its top"), "{error}");

    let nothing = fixture.path("nothing");
    fs::write(&nothing, "").unwrap();
    let error = fixture.import(&nothing).await.unwrap_err().to_string();
    assert!(error.contains("is not a job package"), "{error}");
    assert!(fixture.is_clean(), "nothing is left of refused packages");
}

#[tokio::test]
async fn a_truncated_archive_is_refused() {
    let fixture = fixture();
    let path = fixture.path("package.tar.gz");
    good_archive(&path);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = fixture.import(&path).await.unwrap_err().to_string();
    assert!(error.contains("is not a job package"), "{error}");
}

#[tokio::test]
async fn a_wrong_hash_says_both() {
    let fixture = fixture();
    let path = fixture.path("package.tar.gz");
    good_archive(&path);
    let actual = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
    let expected = "0".repeat(64);
    let error = fixture
        .store
        .import(&path.to_string_lossy(), &expected)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&actual) && error.contains(&expected), "{error}");
    assert!(
        fixture
            .store
            .import(&path.to_string_lossy(), &actual.to_uppercase())
            .await
            .is_ok()
    );
    let error = fixture
        .store
        .import(&path.to_string_lossy(), "abc")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("64 hex digits"), "{error}");
}

#[tokio::test]
async fn a_file_that_changed_since_the_package_was_made_is_named() {
    let fixture = fixture();
    let expected = "0".repeat(64);
    let error = fixture
        .refusal(|directory| {
            let text = format!("{}files:\n  bin/job: \"{expected}\"\n", manifest());
            fs::write(directory.join("job.yaml"), text).unwrap();
        })
        .await;
    assert!(error.contains("bin/job") && error.contains(&expected), "{error}");
}

#[tokio::test]
async fn a_file_that_is_listed_and_not_there_is_named() {
    let fixture = fixture();
    let error = fixture
        .refusal(|directory| {
            let text = format!("{}files:\n  data/model: \"{}\"\n", manifest(), "0".repeat(64));
            fs::write(directory.join("job.yaml"), text).unwrap();
        })
        .await;
    assert!(
        error.contains("has no file data/model") && error.contains("under files"),
        "{error}"
    );
}

#[tokio::test]
async fn a_malformed_manifest_is_located() {
    let fixture = fixture();
    let error = fixture
        .refusal(|directory| fs::write(directory.join("job.yaml"), "name: [x\nentry: 1").unwrap())
        .await;
    assert!(error.contains("job.yaml, line 2, column 6"), "{error}");
}

#[tokio::test]
async fn an_entry_that_can_not_be_run_is_named() {
    let fixture = fixture();
    let error = fixture
        .refusal(|directory| fs::remove_file(directory.join("bin/job")).unwrap())
        .await;
    assert!(
        error.contains("has no file bin/job") && error.contains("entry.path"),
        "{error}"
    );
    let error = fixture
        .refusal(|directory| {
            fs::set_permissions(directory.join("bin/job"), fs::Permissions::from_mode(0o644)).unwrap();
        })
        .await;
    assert!(error.contains("not executable"), "{error}");
}

#[tokio::test]
async fn the_program_of_a_script_that_can_not_be_run_is_named() {
    let fixture = fixture();
    let script = |directory: &Path| {
        fs::write(directory.join("main.sql"), "INSERT INTO a SELECT 1").unwrap();
        let native = "kind: native, path: bin/job";
        let text = manifest().replace(native, "kind: sql, path: main.sql, program: bin/job");
        fs::write(directory.join("job.yaml"), text).unwrap();
    };
    let error = fixture
        .refusal(|directory| {
            script(directory);
            fs::remove_file(directory.join("bin/job")).unwrap();
        })
        .await;
    assert!(
        error.contains("has no file bin/job") && error.contains("entry.program"),
        "{error}"
    );
    let error = fixture
        .refusal(|directory| {
            script(directory);
            fs::set_permissions(directory.join("bin/job"), fs::Permissions::from_mode(0o644)).unwrap();
        })
        .await;
    assert!(
        error.contains("bin/job") && error.contains("not executable"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_is_written_outside_the_package() {
    let fixture = fixture();
    let manifest = manifest();
    let manifest: (&str, EntryType, &[u8]) = ("job.yaml", EntryType::Regular, manifest.as_bytes());
    let refused: [(&str, EntryType); 5] = [
        ("../evil", EntryType::Regular),
        ("/tmp/thalweg-evil", EntryType::Regular),
        ("bin/../../evil", EntryType::Regular),
        ("link", EntryType::Symlink),
        ("link", EntryType::Link),
    ];
    for (name, kind) in refused {
        let path = fixture.path("evil.tar.gz");
        archive(&path, &[manifest, (name, kind, b"")]);
        let error = fixture.import(&path).await.unwrap_err();
        assert!(matches!(error, PackageError::Member { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(!fixture.path("evil").exists() && !fixture.path("store/evil").exists());
    assert!(!Path::new("/tmp/thalweg-evil").exists());
}

#[tokio::test]
async fn a_folder_with_a_link_is_refused() {
    let fixture = fixture();
    let error = fixture
        .refusal(|directory| std::os::unix::fs::symlink("/etc/passwd", directory.join("passwd")).unwrap())
        .await;
    assert!(error.contains("passwd") && error.contains("no links"), "{error}");
}

#[tokio::test]
async fn the_second_of_two_members_of_one_name_does_not_replace_the_first() {
    let fixture = fixture();
    let manifest = manifest();
    let path = fixture.path("twice.tar.gz");
    let first: (&str, EntryType, &[u8]) = ("job.yaml", EntryType::Regular, manifest.as_bytes());
    archive(&path, &[first, ("job.yaml", EntryType::Regular, b"other")]);
    let error = fixture.import(&path).await.unwrap_err().to_string();
    assert!(error.contains("it is there twice"), "{error}");
}

#[tokio::test]
async fn sizes_are_limited_packed_and_unpacked() {
    let fixture = limited(4096, 1 << 20);
    let path = fixture.path("bomb.tar.gz");
    let zeros = vec![0; 1 << 16];
    archive(&path, &[("zeros", EntryType::Regular, &zeros)]);
    assert!(
        fs::metadata(&path).unwrap().len() < 4096,
        "the bomb is small as long as it is packed"
    );
    let error = fixture.import(&path).await.unwrap_err();
    assert!(matches!(error, PackageError::UnpacksTooLarge { .. }), "{error}");
    let large = fixture.path("large.tar");
    fs::write(&large, &zeros).unwrap();
    let error = fixture.import(&large).await.unwrap_err();
    assert!(matches!(error, PackageError::TooLarge { .. }), "{error}");
    let directory = fixture.path("package");
    package_directory(&directory, "#!/bin/sh\n");
    fs::write(directory.join("zeros"), &zeros).unwrap();
    let error = fixture.import(&directory).await.unwrap_err();
    assert!(matches!(error, PackageError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_full_store_takes_no_more_and_says_so() {
    let fixture = limited(1 << 20, 12_000);
    let (a, b) = (fixture.path("a"), fixture.path("b"));
    package_directory(&a, &format!("#!/bin/sh\n{}", "#".repeat(6000)));
    package_directory(&b, &format!("#!/bin/bash\n{}", "#".repeat(6000)));
    let first = fixture.import(&a).await.unwrap();
    let error = fixture.import(&b).await.unwrap_err();
    assert!(matches!(error, PackageError::StoreFull { .. }), "{error}");
    assert_eq!(error.class(), FailureClass::Retryable);
    drop(first);
    fixture.import(&b).await.unwrap();
}

/// Serves one file to whoever asks, `404` under another path.
async fn http_server(body: Vec<u8>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let found = request[..read].starts_with(b"GET /package.tar.gz ");
            let (status, content): (&str, &[u8]) = if found {
                ("200 OK", &body)
            } else {
                ("404 Not Found", b"")
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                content.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(content).await.ok();
        }
    });
    address
}

#[tokio::test]
async fn over_http_a_hash_is_needed_and_checked() {
    let fixture = fixture();
    let path = fixture.path("package.tar.gz");
    good_archive(&path);
    let bytes = fs::read(&path).unwrap();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let address = http_server(bytes).await;
    let uri = format!("http://{address}/package.tar.gz");
    assert!(matches!(
        fixture.store.import(&uri, "").await,
        Err(PackageError::HashRequired { .. })
    ));
    assert!(matches!(
        fixture.store.import(&uri, &"0".repeat(64)).await,
        Err(PackageError::Hash { .. })
    ));
    assert_eq!(fixture.store.import(&uri, &sha256).await.unwrap().sha256, sha256);
    let other = format!("http://{address}/other.tar.gz");
    assert!(matches!(
        fixture.store.import(&other, &sha256).await,
        Err(PackageError::Missing { .. })
    ));
}

#[tokio::test]
async fn a_server_that_is_not_there_can_be_tried_again() {
    let fixture = fixture();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = fixture
        .store
        .import(&format!("http://{address}/x.tar"), &"0".repeat(64))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Retryable);
    assert!(error.to_string().contains("can't be fetched"), "{error}");
}

/// A store that speaks S3 and has one object.
async fn object_server(body: Vec<u8>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..read]).to_lowercase();
            let range = text.split_once("bytes=").and_then(|(_, rest)| {
                let (first, rest) = rest.split_once('-')?;
                let last = rest.split('\r').next()?;
                Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
            });
            let (head, content) = match range.filter(|_| text.starts_with("get /jobs/package.tar.gz")) {
                Some((first, last)) => {
                    let end = (last + 1).min(body.len());
                    let length = body.len();
                    let head = format!(
                        "206 Partial Content\r\ncontent-range: bytes {first}-{}/{length}",
                        end - 1
                    );
                    (head, body[first..end].to_vec())
                }
                None => {
                    let code = if text.starts_with("get /jobs/") {
                        "NoSuchKey"
                    } else {
                        "NoSuchBucket"
                    };
                    let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
                    ("404 Not Found".to_owned(), xml.into_bytes())
                }
            };
            let length = content.len();
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&content).await.ok();
        }
    });
    address
}

#[tokio::test]
async fn a_package_in_an_object_store_is_fetched_part_by_part() {
    let folder = tempfile::tempdir().unwrap();
    // More than one part, and nothing that gzip could make smaller.
    let mut noise = vec![0; 9 << 20];
    rand::fill(&mut noise[..]);
    let manifest = manifest();
    let members: [(&str, EntryType, &[u8]); 3] = [
        (MANIFEST_FILE, EntryType::Regular, manifest.as_bytes()),
        ("bin/job", EntryType::Regular, b"#!/bin/sh\n"),
        ("data", EntryType::Regular, &noise),
    ];
    let path = folder.path().join("package.tar.gz");
    archive(&path, &members);
    let bytes = fs::read(&path).unwrap();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let address = object_server(bytes).await;
    let entries = [
        ("s3.endpoint", format!("http://{address}")),
        ("s3.access-key", "key".to_owned()),
        ("s3.secret-key", "secret".to_owned()),
    ];
    let store = PackageStore::open(PackageStoreConfig {
        directory: folder.path().join("store"),
        max_package_bytes: 32 << 20,
        max_total_bytes: 1 << 30,
        configuration: Configuration::from_map(entries.map(|(key, value)| (key.to_owned(), value))),
    });
    let store = store.unwrap();
    let package = store.import("s3://jobs/package.tar.gz", "").await.unwrap();
    assert_eq!(package.sha256, sha256);
    for (uri, expected) in [
        (
            "s3://jobs/other.tar.gz",
            "there is no package at s3://jobs/other.tar.gz",
        ),
        (
            "s3://none/x",
            "there is no package at s3://none/x: there is no bucket none",
        ),
    ] {
        assert_eq!(store.import(uri, "").await.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_bare_script_is_a_package_and_the_same_script_the_same_one() {
    let fixture = fixture();
    let file = fixture.path("counts.sql");
    fs::write(&file, "INSERT INTO a SELECT 1").unwrap();
    let sha256 = hex::encode(Sha256::digest(b"INSERT INTO a SELECT 1"));
    let package = fixture
        .store
        .import(&file.to_string_lossy(), &sha256)
        .await
        .unwrap();
    assert_eq!(
        (package.manifest.name.as_str(), &package.manifest.entry.kind),
        ("counts", &EntryKind::Sql)
    );
    assert_eq!(fs::read(package.entry()).unwrap(), b"INSERT INTO a SELECT 1");
    let payload = fs::read(package.payload()).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&payload)), package.sha256);
    let again = fixture.import(&file).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&package, &again));

    let wrong = fixture
        .store
        .import(&file.to_string_lossy(), &"0".repeat(64))
        .await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(
        wrong.contains(&sha256),
        "the script's own hash is compared: {wrong}"
    );
    // What the archive holds is what other JobManagers get.
    let archive = fixture.path("counts.tar");
    fs::write(&archive, payload).unwrap();
    let from_archive = fixture.import(&archive).await.unwrap();
    assert_eq!(from_archive.sha256, package.sha256);
}

#[tokio::test]
async fn an_inline_script_is_a_package() {
    let fixture = fixture();
    let package = fixture.store.import_script("(inline script)", "SELECT 1").await;
    let package = package.unwrap();
    assert_eq!(fs::read(package.entry()).unwrap(), b"SELECT 1");
    assert_eq!(package.manifest.name, "job");
    drop(package);
    assert!(fixture.is_clean());
    let small = limited(10, 1 << 30);
    let error = small
        .store
        .import_script("(inline script)", "SELECT 1 + 1 + 1")
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("(inline script) is larger than 10 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_script_package_may_be_a_folder_with_its_settings() {
    let fixture = fixture();
    let folder = fixture.path("counts");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("counts.sql"), "INSERT INTO a SELECT 1").unwrap();
    let manifest = "formatVersion: 1\nname: counts\nentry: {kind: sql, path: counts.sql}\n\
                    arguments: [-D, topic=bids]\nconfiguration: {parallelism.default: 2}\n";
    fs::write(folder.join(MANIFEST_FILE), manifest).unwrap();
    let package = fixture.import(&folder).await.unwrap();
    assert_eq!(package.manifest.arguments, ["-D", "topic=bids"]);
    fs::remove_file(folder.join("counts.sql")).unwrap();
    let missing = fixture.import(&folder).await.unwrap_err().to_string();
    assert!(missing.contains("no file counts.sql"), "{missing}");
}
