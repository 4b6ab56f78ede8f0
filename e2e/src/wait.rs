//! Waiting for a condition, never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a condition may take on a busy machine before the test fails; so many times as long as `THALWEG_TEST_SLOWNESS` says,
/// for machines that are emulated.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

/// Asks until there is an answer. `Err` of the probe means "not yet": the newest one is told when patience ends.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let slowness = std::env::var("THALWEG_TEST_SLOWNESS")
        .ok()
        .and_then(|times| times.parse().ok());
    let patience = PATIENCE * slowness.unwrap_or(1);
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() > patience => bail!("waited {patience:?} for {what}: {reason:#}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
