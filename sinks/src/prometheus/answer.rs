//! What a server's answer means.
//!
//! Samples that are older than what is there, or differ from it at the same time, are refused with words alone: the
//! status is that of any other refusal. The words of Prometheus, Mimir and Thanos are known here.

use afflux_runtime::delivery::Answer;
use http::HeaderMap;

use super::request::{Protocol, WriteRequest};
use crate::http::Reply;

/// What servers of remote write 2.0 say that they have written.
const WRITTEN: [&str; 2] =
    ["x-prometheus-remote-write-samples-written", "x-prometheus-remote-write-histograms-written"];

/// Whether a server has understood a request of 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Understood {
    Yes,
    /// It says so, or says nothing of what it has written.
    No,
    /// It refuses the request, which one that does not understand it might do as well.
    Perhaps,
}

/// Whether a request of 2.0 was understood, by the answer to it.
pub(super) fn understood(reply: &Reply) -> Understood {
    match reply.status.as_u16() {
        _ if written(&reply.headers).is_some() => Understood::Yes,
        200..=299 | 415 => Understood::No,
        400 | 422 => Understood::Perhaps,
        _ => Understood::Yes,
    }
}

/// Samples and histograms that were written; `None` where the server does not say.
fn written(headers: &HeaderMap) -> Option<u64> {
    let number = |name| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let [samples, histograms] = WRITTEN.map(number);
    Some(samples?.saturating_add(histograms.unwrap_or_default()))
}

/// What follows from an answer to a request that was understood.
pub(super) fn meaning(reply: &Reply, request: &WriteRequest) -> Answer {
    let status = reply.status.as_u16();
    let lost = written(&reply.headers).and_then(|written| request.counts.all().checked_sub(written));
    match (status, lost) {
        (400.., _) if says(reply, &["native histograms are disabled"]) => {
            let error = format!("{reply}; start the server with --enable-feature=native-histograms, or send none");
            Answer::Blocked { reason: "native_histograms_off", error }
        }
        (200..=299, Some(lost @ 1..)) => Answer::PartlyStored {
            rejected: lost,
            error: format!("{lost} of {} samples were not written, and it {reply}", request.counts.all()),
        },
        (415, _) => unknown_version(reply, request),
        (400 | 409 | 422, _) => match conflict(reply, status) {
            Some(reason) => conflicting(reply, request, reason),
            None => reply.usual(),
        },
        _ => reply.usual(),
    }
}

/// The server speaks no version that the configuration allows.
pub(super) fn unknown_version(reply: &Reply, request: &WriteRequest) -> Answer {
    let version = request.protocol.version();
    let error = format!("does not take remote write {version} (it {reply}); check `url` and `protocol`");
    Answer::Blocked { reason: "wrong_protocol", error }
}

/// Whether any of those words is in the answer.
fn says(reply: &Reply, parts: &[&str]) -> bool {
    let words = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
    parts.iter().any(|part| words.contains(part))
}

/// Why a sample does not fit what is there; `None` where it was refused for something else.
fn conflict(reply: &Reply, status: u16) -> Option<&'static str> {
    let says = |parts: &[&str]| says(reply, parts);
    // Too old is no conflict: nothing of its time can be there.
    if says(&["too old", "too-old", "out of bounds", "out-of-bounds"]) {
        None
    } else if says(&["duplicate sample", "duplicate-timestamp"]) {
        Some("duplicate_sample")
    } else if says(&["out of order", "out-of-order"]) || status == 409 {
        Some("out_of_order")
    } else {
        None
    }
}

/// A request that holds one record tells what its samples meet. In a larger one it may be any of them. Of zeros, 2.0 stores
/// those that are new, while 1.0 stores none; whatever else is wrong with a series shows with its values.
fn conflicting(reply: &Reply, request: &WriteRequest, reason: &'static str) -> Answer {
    match request.records.len() {
        _ if request.zeros && request.protocol == Protocol::V2 => Answer::Known { reason: "already_stored" },
        1 if request.zeros => Answer::Known { reason: "already_stored" },
        1 => Answer::Known { reason },
        _ => Answer::Refused { reason, error: reply.to_string() },
    }
}
