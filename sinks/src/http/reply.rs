//! What a server answers, and what usually follows from it.

use std::time::{Duration, SystemTime};

use afflux_runtime::delivery::Answer;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

/// Characters of a server's own words that are passed on.
const WORDS: usize = 500;

/// An answer with a status.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, cut off where it is long.
    pub(crate) body: Bytes,
}

impl Reply {
    /// What follows where a backend has no rules of its own.
    pub(crate) fn usual(&self) -> Answer {
        let error = self.to_string();
        match self.status.as_u16() {
            200..=299 => Answer::Stored,
            408 => Answer::Later { reason: "timeout", error, after: self.retry_after() },
            429 => Answer::Later { reason: "rate_limited", error, after: self.retry_after() },
            500..=599 => Answer::Later { reason: "server_error", error, after: self.retry_after() },
            413 => Answer::Refused { reason: "too_large", error },
            401 | 403 | 407 => {
                Answer::Blocked { reason: "unauthorized", error: format!("{error}; check `auth` and `tenant`") }
            }
            300..=399 | 402 | 404 | 405 | 410 | 411 | 415 | 421 | 426 | 431 | 451 => self.wrong_address(),
            400 if self.is_misdirected() => self.wrong_address(),
            _ => Answer::Refused { reason: "refused", error },
        }
    }

    /// Whether a 400 is about the connection rather than what was sent: no receiver answers with a page, and none is asked
    /// in plain HTTP for what it has with TLS.
    pub(crate) fn is_misdirected(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let words = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        self.status == StatusCode::BAD_REQUEST
            && (kind.starts_with("text/html") || words.contains("http request to an https server"))
    }

    fn wrong_address(&self) -> Answer {
        Answer::Blocked { reason: "wrong_address", error: format!("{self}; check the address and `tls`") }
    }

    /// What the server asks to wait: seconds, or a date.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "answered {}", self.status.as_u16())?;
        let words = String::from_utf8_lossy(&self.body);
        let words = words.trim();
        let end = words.char_indices().nth(WORDS).map_or(words.len(), |(at, _)| at);
        if end > 0 { write!(f, ": {}", &words[..end]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: "why\n".into() }
    }

    #[test]
    fn a_status_says_whether_to_come_again() {
        assert_eq!(reply(204, None).usual(), Answer::Stored);
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(reply(status, None).usual(), Answer::Later { after: None, .. }), "{status}");
        }
        for status in [301, 401, 402, 403, 404, 405, 407, 411, 415, 421, 426, 431, 451] {
            assert!(matches!(reply(status, None).usual(), Answer::Blocked { .. }), "{status}");
        }
        for status in [400, 409, 413, 422] {
            assert!(matches!(reply(status, None).usual(), Answer::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn a_400_about_the_connection_costs_nothing() {
        let html = [(header::CONTENT_TYPE, http::HeaderValue::from_static("text/html"))];
        let page = Reply { headers: html.into_iter().collect(), ..reply(400, None) };
        let body = "Client sent an HTTP request to an HTTPS server.\n".into();
        let plain = Reply { body, ..reply(400, None) };
        for reply in [page, plain] {
            assert!(matches!(reply.usual(), Answer::Blocked { reason: "wrong_address", .. }), "{reply}");
        }
    }

    #[test]
    fn a_server_asks_to_wait_for_seconds_or_until_a_date() {
        assert_eq!(reply(429, Some("7")).retry_after(), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let wait = reply(503, Some(&date)).retry_after().unwrap();
        assert!((95..=100).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(reply(503, Some("Thu, 01 Jan 1970 00:00:00 GMT")).retry_after(), Some(Duration::ZERO));
        assert_eq!(reply(503, Some("soon")).retry_after(), None);
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let long = Reply { body: "ä".repeat(2 * WORDS).into(), ..reply(400, None) };
        assert_eq!(long.to_string(), format!("answered 400: {}", "ä".repeat(WORDS)));
        assert_eq!(Reply { body: " ".into(), ..reply(500, None) }.to_string(), "answered 500");
    }
}
