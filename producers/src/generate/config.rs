//! What `producers.generate` and `afflux generate` can be told.

use std::path::PathBuf;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::GenerateError;

/// Spans per second unless configured: some ten traces every few seconds, enough to look alive.
pub const DEFAULT_RATE: u64 = 50;
/// Most spans in one request unless configured, as SDKs and Collectors batch them.
pub const DEFAULT_REQUEST_SPANS: usize = 512;
/// Requests under way at once unless configured.
pub const DEFAULT_CONCURRENCY: usize = 8;
/// Larger requests would pass the size limits that receivers have.
const MAX_REQUEST_SPANS: usize = 16_384;
const MAX_CONCURRENCY: usize = 1_024;

/// How much telemetry of the shop to make, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Spans per second; 0 is as many as the endpoint takes.
    pub rate: u64,
    /// Stop after that time. Without it, and without `spans`, go on until stopped.
    pub duration: Option<Period>,
    /// Stop after that many spans, and the few that complete the last traces.
    pub spans: Option<u64>,
    /// The same seed gives the same ids; without one, every run has ids of its own.
    pub seed: Option<u64>,
    /// Whether the spans' log records are sent too.
    pub logs: bool,
    /// Most spans in one request.
    pub request_spans: usize,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Whether a request that failed for now, or whose answer never came, is sent again. The receiver may then
    /// hold it twice; without resending it holds every span at most once.
    pub resend: bool,
    /// A file to which `TRACE_ID SPAN_ID` is added, in hex, for every span that the endpoint acknowledged.
    pub acked_file: Option<PathBuf>,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self {
            rate: DEFAULT_RATE,
            duration: None,
            spans: None,
            seed: None,
            logs: true,
            request_spans: DEFAULT_REQUEST_SPANS,
            concurrency: DEFAULT_CONCURRENCY,
            resend: true,
            acked_file: None,
        }
    }
}

impl GenerateConfig {
    /// Checks what types cannot.
    pub fn validate(&self) -> Result<(), GenerateError> {
        if !(1..=MAX_REQUEST_SPANS).contains(&self.request_spans) {
            return Err(GenerateError::RequestSpans { given: self.request_spans, max: MAX_REQUEST_SPANS });
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            return Err(GenerateError::Concurrency { given: self.concurrency, max: MAX_CONCURRENCY });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = serde_json::from_str::<GenerateConfig>(r#"{"rates": 3}"#).unwrap_err();
        assert!(error.to_string().contains("rates"), "{error}");
    }

    #[test]
    fn limits_name_the_field_and_the_range() {
        for (config, field) in [
            (GenerateConfig { request_spans: 0, ..Default::default() }, "request_spans 0"),
            (GenerateConfig { request_spans: 20_000, ..Default::default() }, "request_spans 20000"),
            (GenerateConfig { concurrency: 0, ..Default::default() }, "concurrency 0"),
        ] {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains(field) && text.contains("between 1 and"), "{text}");
        }
        GenerateConfig::default().validate().unwrap();
    }
}
