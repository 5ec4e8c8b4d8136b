//! `GET /metrics/NAME`: what a component has others scrape besides the metrics of the process.

use std::io::{self, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::status::Monitor;

/// How metrics are written for Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// OpenMetrics 1.0, which knows exemplars.
    OpenMetrics,
    /// Prometheus' own text.
    Plain,
}

impl TextFormat {
    /// The `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What a client takes: OpenMetrics where it names that.
    fn accepted(headers: &HeaderMap) -> Self {
        if names(headers, header::ACCEPT, "application/openmetrics-text") { Self::OpenMetrics } else { Self::Plain }
    }
}

/// Metrics that are written anew for each who asks.
pub trait Exposition: Send + Sync {
    /// The text in parts, which are written as they are asked for.
    ///
    /// # Errors
    /// Why there is nothing to show yet.
    fn text(&self, format: TextFormat) -> Result<TextParts, &'static str>;
}

/// A text in parts.
pub type TextParts = Box<dyn Iterator<Item = String> + Send>;

pub(super) fn routes() -> Router<Arc<Monitor>> {
    Router::new().route("/metrics/{name}", get(exposition))
}

async fn exposition(Extract(monitor): Extract<Arc<Monitor>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(exposition) = monitor.health.exposition(&name) else {
        let nothing = "no component shows metrics here; `sinks.scrape` switches /metrics/derived on\n";
        return (StatusCode::NOT_FOUND, nothing).into_response();
    };
    let format = TextFormat::accepted(&headers);
    let parts = match exposition.text(format) {
        Ok(parts) => parts,
        Err(why) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    };
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    if names(&headers, header::ACCEPT_ENCODING, "gzip") {
        let body = Body::from_stream(futures::stream::iter(Zipped::new(parts)));
        return (content_type, [(header::CONTENT_ENCODING, "gzip")], body).into_response();
    }
    let parts = parts.map(Ok::<_, io::Error>);
    (content_type, Body::from_stream(futures::stream::iter(parts))).into_response()
}

/// Whether a header lists that word, whatever stands behind it but a weight of nought.
fn names(headers: &HeaderMap, header: HeaderName, word: &str) -> bool {
    let values = headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(word))
            && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Parts of a text, compressed one by one into one stream.
struct Zipped {
    parts: TextParts,
    /// `None`: the end has been written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Zipped {
    fn new(parts: TextParts) -> Self {
        Self { parts, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl Iterator for Zipped {
    type Item = io::Result<Vec<u8>>;

    /// Bytes that are done; there may be none of a part.
    fn next(&mut self) -> Option<Self::Item> {
        let encoder = self.encoder.as_mut()?;
        if let Some(part) = self.parts.next() {
            let written = encoder.write_all(part.as_bytes());
            return Some(written.map(|()| std::mem::take(encoder.get_mut())));
        }
        self.encoder.take().map(GzEncoder::finish)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::http::HeaderValue;

    use super::*;

    fn headers(accept: &'static str) -> HeaderMap {
        [(header::ACCEPT, HeaderValue::from_static(accept))].into_iter().collect()
    }

    #[test]
    fn open_metrics_is_written_for_who_takes_it() {
        for (accept, format) in [
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
                TextFormat::OpenMetrics,
            ),
            ("text/plain, Application/OpenMetrics-Text ; version=1.0.0", TextFormat::OpenMetrics),
            ("application/openmetrics-text;q=0, */*", TextFormat::Plain),
            ("*/*", TextFormat::Plain),
            ("", TextFormat::Plain),
        ] {
            assert_eq!(TextFormat::accepted(&headers(accept)), format, "{accept}");
        }
        assert_eq!(TextFormat::accepted(&HeaderMap::new()), TextFormat::Plain);
    }

    #[test]
    fn compressed_parts_are_one_text() {
        let parts: Vec<String> = (0..200).map(|i| format!("line {i}\n").repeat(50)).collect();
        let text = parts.concat();
        let bytes: Vec<u8> = Zipped::new(Box::new(parts.into_iter())).flat_map(Result::unwrap).collect();
        assert!(bytes.len() < text.len() / 10);
        let mut read = String::new();
        flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }
}
