//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels. A second one ends the process at once, with exit code 1.
///
/// Must be called within a runtime. An error is the operating system's refusal to install the handlers.
pub fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = next().await;
        tracing::info!(signal = first, "stopping; a second signal stops at once");
        cancelled.cancel();
        let second = next().await;
        tracing::warn!(signal = second, "stopped without draining");
        std::process::exit(1);
    });
    Ok(stop)
}
