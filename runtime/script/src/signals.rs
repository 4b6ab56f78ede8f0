//! The signals that end a process.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when the process is asked to end (SIGTERM by the kubelet, SIGINT by a person).
pub async fn shutdown() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
