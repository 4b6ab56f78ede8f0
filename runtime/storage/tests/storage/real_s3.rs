//! A real S3 server, e.g. that of `e2e/cluster`.

use thalweg_storage::FileSystem;
use thalweg_types::config::Configuration;

/// `THALWEG_TEST_S3` = endpoint, bucket, access key and secret key, separated by blanks.
#[tokio::test]
async fn a_folder_of_a_real_bucket_behaves() {
    let settings = std::env::var("THALWEG_TEST_S3").unwrap_or_default();
    let settings: Vec<&str> = settings.split_whitespace().collect();
    let [endpoint, bucket, access_key, secret_key] = settings[..] else {
        println!("SKIPPED: THALWEG_TEST_S3 (endpoint bucket access-key secret-key) is not set");
        return;
    };
    let keys = [
        ("s3.endpoint", endpoint),
        ("s3.access-key", access_key),
        ("s3.secret-key", secret_key),
        ("s3.path.style.access", "true"),
        ("s3.region", "us-east-1"),
    ];
    let configuration = Configuration::from_map(keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let uri = format!(
        "s3://{bucket}/test-{:016x}/folder with blanks",
        rand::random::<u64>()
    );
    let folder = FileSystem::open(&uri, &configuration).unwrap();
    crate::folder::behaves(&folder).await;
    let missing = FileSystem::open("s3://no-such-bucket-here/x", &configuration).unwrap();
    let error = missing.probe_writable().await.unwrap_err();
    assert!(error.to_string().contains("no-such-bucket-here"), "{error}");
}
