//! Logs go to standard error: JSON lines for services, plain text for people; `RUST_LOG` filters.

use tracing_subscriber::EnvFilter;

/// Starts logging. Commands stay quiet unless `RUST_LOG` says otherwise.
pub fn start(service: bool) {
    let default = if service { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if service {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_target(false).init();
    }
}
