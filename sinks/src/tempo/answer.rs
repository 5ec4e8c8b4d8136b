//! What OTLP receivers answer.

use std::time::Duration;

use afflux_runtime::delivery::Answer;
use afflux_schemas::wire::{Fields, LEN, Reader, VARINT, key};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};

use crate::http::Reply;

/// Attempts after which an error that says nothing of its kind is taken as meant for good, where others are stored
/// meanwhile: some minutes, since one of several servers behind an address may be broken. Where nothing is stored, the
/// backend is down, and that is never taken for good.
const UNCLEAR_ATTEMPTS: u32 = 64;
/// Bytes of gRPC's prefix.
const PREFIX: usize = 5;
/// Type of the detail that says when to come again.
const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// Tempo's words where no tenant is named; its code says that this passes.
const NO_TENANT: &str = "no org id";
/// Beginnings of Tempo's words where a tenant's name is no such name.
const BAD_TENANT: [&str; 2] = ["tenant ID ", "multiple org IDs present"];
/// Words of servers in Go, Java, C and JavaScript, .NET, and Rust that take messages of less bytes only, and of Tempo that takes
/// less bytes at once. Their codes, and Tempo's `RetryInfo`, would have the same sent again for ever.
const TOO_LARGE: [&str; 5] = [
    "larger than max",
    "exceeds maximum size",
    "exceeds the maximum configured message size",
    "message length too large",
    "exceeds ingestion limit",
];
/// Words of servers in Go that cannot read a message, for ids of a wrong length for one; the code is that of a defect.
const UNREADABLE: [&str; 2] = ["error unmarshalling request", "failed to unmarshal"];

/// gRPC's base64 comes with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an answer is an answer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The attempt, from 0.
    pub(super) attempt: u32,
    /// Whether other requests have been stored since the first.
    pub(super) others_stored: bool,
    /// Whether the tenant is one that a record names, rather than the configuration.
    pub(super) tenant_of_record: bool,
}

/// Of a call over gRPC, whose status stands in trailers or headers.
pub(super) fn of_grpc(reply: &Reply, asked: Asked) -> Answer {
    let Some(code) = header(&reply.headers, "grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
        // A proxy or something else that speaks no gRPC.
        return match reply.status.as_u16() {
            200 => {
                let error = "the answer has no gRPC status; check `endpoint` and `protocol`".into();
                Answer::Blocked { reason: "wrong_address", error }
            }
            400 | 415 => wrong_address(reply.to_string()),
            _ => reply.usual(),
        };
    };
    let words = percent_decoded(header(&reply.headers, "grpc-message").unwrap_or_default());
    let error = if words.is_empty() { format!("gRPC status {code}") } else { format!("gRPC status {code}: {words}") };
    let after = header(&reply.headers, "grpc-status-details-bin").and_then(|details| BASE64.decode(details).ok());
    let after = after.and_then(|status| retry_delay(&status));
    if let Some(answer) = of_words(&words, &error, asked) {
        return answer;
    }
    match code {
        0 => of_response(reply.body.get(PREFIX..).unwrap_or_default()),
        1 | 4 | 10 | 11 | 14 | 15 => Answer::Later { reason: "unavailable", error, after },
        8 if after.is_some() || words.starts_with("RATE_LIMITED") => {
            Answer::Later { reason: "rate_limited", error, after }
        }
        7 | 16 => Answer::Blocked { reason: "unauthorized", error: format!("{error}; check `auth` and `tenant`") },
        12 => wrong_address(error),
        2 | 8 | 13 => unclear(error, asked),
        _ => Answer::Refused { reason: "refused", error },
    }
}

/// Of a request over HTTP.
pub(super) fn of_http(reply: &Reply, asked: Asked) -> Answer {
    let status = reply.status.as_u16();
    if reply.status.is_success() {
        return of_response(&reply.body);
    }
    let kind = header(&reply.headers, "content-type").unwrap_or_default();
    let mut reply = reply.clone();
    if kind.starts_with("application/x-protobuf") {
        // A `google.rpc.Status`.
        let after = retry_delay(&reply.body).and_then(|after| HeaderValue::try_from(after.as_secs().to_string()).ok());
        let words = message(&reply.body, 2).unwrap_or_default();
        reply.body = reply.body.slice_ref(words);
        if let Some(after) = after {
            reply.headers.entry(RETRY_AFTER).or_insert(after);
        }
    }
    let error = reply.to_string();
    if let Some(answer) = of_words(&String::from_utf8_lossy(&reply.body), &error, asked) {
        return answer;
    }
    match status {
        500 => unclear(error, asked),
        415 => wrong_address(error),
        400 if reply.is_misdirected() => wrong_address(error),
        _ => reply.usual(),
    }
}

fn wrong_address(error: String) -> Answer {
    Answer::Blocked { reason: "wrong_address", error: format!("{error}; check `endpoint` and `protocol`") }
}

/// What follows from a server's words, where they say more than its code.
fn of_words(words: &str, error: &str, asked: Asked) -> Option<Answer> {
    let error = error.to_owned();
    if words == NO_TENANT {
        return Some(Answer::Blocked { reason: "no_tenant", error: format!("{error}; name one as `tenant`") });
    }
    if BAD_TENANT.iter().any(|beginning| words.starts_with(beginning)) {
        let reason = "bad_tenant";
        return Some(if asked.tenant_of_record {
            Answer::Refused { reason, error }
        } else {
            Answer::Blocked { reason, error: format!("{error}; check `tenant`") }
        });
    }
    let too_large = TOO_LARGE.iter().any(|part| words.contains(part));
    if too_large {
        return Some(Answer::Refused { reason: "too_large", error });
    }
    UNREADABLE.iter().any(|part| words.contains(part)).then_some(Answer::Refused { reason: "refused", error })
}

/// Servers answer so when they have a defect and when they have a bad moment. Nothing is given up for the latter.
fn unclear(error: String, asked: Asked) -> Answer {
    if !asked.others_stored || asked.attempt + 1 < UNCLEAR_ATTEMPTS {
        Answer::Later { reason: "server_error", error, after: None }
    } else {
        Answer::Refused { reason: "server_error", error }
    }
}

/// Of an `ExportTraceServiceResponse`. One that cannot be read says at least that the request was taken.
fn of_response(body: &[u8]) -> Answer {
    match partial_success(body) {
        Some((rejected, error)) if rejected > 0 => Answer::PartlyStored { rejected, error },
        _ => Answer::Stored,
    }
}

fn partial_success(body: &[u8]) -> Option<(u64, String)> {
    let partial = message(body, 1)?;
    let words = message(partial, 2).unwrap_or_default();
    Some((number(partial, 1), String::from_utf8_lossy(words).into_owned()))
}

/// What a `google.rpc.Status` asks to wait.
fn retry_delay(status: &[u8]) -> Option<Duration> {
    let details = Fields::new(status).filter(|field| field.key == key(3, LEN)).map(|field| field.value);
    let is_retry_info = |any: &&[u8]| message(any, 1).is_some_and(|kind| kind.ends_with(RETRY_INFO.as_bytes()));
    let info = details.into_iter().find(is_retry_info)?;
    let delay = message(message(info, 2)?, 1)?;
    // Negative ones have the highest bit.
    let seconds = u64::try_from(number(delay, 1).cast_signed()).unwrap_or_default();
    Some(Duration::new(seconds, u32::try_from(number(delay, 2)).unwrap_or_default().min(999_999_999)))
}

/// A field of a message that is a message, string or bytes.
fn message(bytes: &[u8], field: u32) -> Option<&[u8]> {
    Fields::new(bytes).find(|found| found.key == key(field, LEN)).map(|found| found.value)
}

/// A field of a message that is a number; 0 where it is missing, as protobuf has it.
fn number(bytes: &[u8], field: u32) -> u64 {
    let raw = Fields::new(bytes).find(|found| found.key == key(field, VARINT)).map(|found| found.raw);
    let read = |raw| {
        let mut reader = Reader::new(raw);
        reader.key()?;
        reader.varint()
    };
    raw.and_then(|raw| read(raw).ok()).unwrap_or_default()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// gRPC's messages are percent-encoded.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &behind[2..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
