//! Asking the admin port of a running instance.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::output;

/// Where an instance listens unless configured.
pub(crate) const DEFAULT: &str = "127.0.0.1:9464";

const CONNECT: Duration = Duration::from_secs(5);

/// A client without limit to how long an answer may take.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    // A proxy cannot know a loopback address.
    reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build()
}

/// The answer to a request, if it is one of success.
pub(crate) async fn answered(request: reqwest::RequestBuilder, url: &str) -> anyhow::Result<reqwest::Response> {
    checked(request.send().await.with_context(|| away(url))?, url).await
}

/// Gives every line of an answer as it comes.
pub(crate) async fn each_line(
    mut answer: reqwest::Response,
    url: &str,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(more) = answer.chunk().await.with_context(|| format!("{url} broke off"))? {
        rest.extend_from_slice(&more);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            take(&line)?;
        }
    }
    Ok(())
}

/// What is said where nobody answers.
pub(crate) fn away(url: &str) -> String {
    format!("no instance answers at {url}; is it running, and is this its `admin.listen`? See --admin and -c")
}

/// An answer, if it is one of success.
pub(crate) async fn checked(answer: reqwest::Response, url: &str) -> anyhow::Result<reqwest::Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == reqwest::StatusCode::NOT_FOUND {
        return Err(output::Misuse(format!("{url} is unknown there; is this the admin port of an instance?")).into());
    }
    bail!("{url} answers {status}: {}", answer.text().await.unwrap_or_default().trim());
}
