//! What Loki answers.

use afflux_runtime::delivery::Answer;

use crate::http::Reply;

/// The status of a tenant whose ingestion is blocked by policy.
const BLOCKED: u16 = 260;

/// Of entries that are older than their stream's newest one by more than Loki's window.
pub(super) const TOO_FAR_BEHIND: &str = "too_far_behind";

/// What Loki's texts have in them, in lower case, since versions differ in that, and Loki's own word for it.
const REFUSALS: &[(&str, &str)] = &[
    ("max entry size", "line_too_long"),
    ("has timestamp too old", "greater_than_max_sample_age"),
    ("has timestamp too new", "too_far_in_future"),
    ("entry too far behind", TOO_FAR_BEHIND),
    ("entry out of order", "out_of_order"),
    ("label names; limit", "max_label_names_per_series"),
    ("has label name too long", "label_name_too_long"),
    ("has label value too long", "label_value_too_long"),
    ("has duplicate label name", "duplicate_label_names"),
    ("structured metadata too large", "structured_metadata_too_large"),
    ("too many structured metadata labels", "structured_metadata_too_many"),
    ("missing required labels", "missing_enforced_labels"),
    ("at least one label pair is required", "missing_labels"),
    ("error parsing labels", "invalid_labels"),
];

/// What a 429 has in it, and Loki's own word for it.
const LIMITS: &[(&str, &str)] = &[
    ("per stream rate limit exceeded", "per_stream_rate_limit"),
    ("maximum active stream limit exceeded", "stream_limit"),
];

/// What follows from an answer.
pub(super) fn answer(reply: &Reply) -> Answer {
    let words = String::from_utf8_lossy(&reply.body).to_lowercase();
    let known = |table: &[(&str, &'static str)], other| {
        table.iter().find(|(part, _)| words.contains(part)).map_or(other, |&(_, word)| word)
    };
    let error = reply.to_string();
    match reply.status.as_u16() {
        BLOCKED => Answer::Blocked {
            reason: "ingestion_blocked",
            error: format!("{error}; Loki's `block_ingestion_until` or a policy blocks the tenant"),
        },
        // Would be the same for every entry.
        400 if words.contains("includes structured metadata, but this feature is disallowed") => Answer::Blocked {
            reason: "disallowed_structured_metadata",
            error: format!("{error}; set `allow_structured_metadata` in Loki"),
        },
        400 if reply.is_misdirected() => reply.usual(),
        400 => Answer::Refused { reason: known(REFUSALS, "refused"), error },
        429 => Answer::Later { reason: known(LIMITS, "rate_limited"), error, after: reply.retry_after() },
        _ => reply.usual(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn of(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        answer(&Reply { status, headers: HeaderMap::new(), body: body.to_owned().into() })
    }

    fn refused(body: &str) -> &'static str {
        match of(400, body) {
            Answer::Refused { reason, error } if error == format!("answered 400: {body}") => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_is_known_by_lokis_words() {
        let behind = "entry with timestamp 2026-01-01 ignored, reason: 'entry too far behind, entry timestamp is: …'";
        for (body, reason) in [
            ("max entry size '262144' bytes exceeded for stream '{a=\"b\"}' while adding …", "line_too_long"),
            ("entry for stream '{a=\"b\"}' has timestamp too old: 2020-…", "greater_than_max_sample_age"),
            ("entry for stream '{a=\"b\"}' has timestamp too new: 2030-…", "too_far_in_future"),
            (behind, "too_far_behind"),
            ("entry for stream '{…}' has 16 label names; limit 15", "max_label_names_per_series"),
            ("stream '{…}' has label value too long: 'x'", "label_value_too_long"),
            ("stream '{…}' has structured metadata too large: '70000' bytes, …", "structured_metadata_too_large"),
            ("stream '{…}' has too many structured metadata labels: '129', …", "structured_metadata_too_many"),
            ("error at least one label pair is required per stream", "missing_labels"),
            ("Error parsing labels '{' with error: …", "invalid_labels"),
            ("something new", "refused"),
        ] {
            assert_eq!(refused(body), reason, "{body}");
        }
    }

    #[test]
    fn a_status_says_what_becomes_of_a_request() {
        assert_eq!(of(204, ""), Answer::Stored);
        assert_eq!(of(200, ""), Answer::Stored);
        let blocked = |status, body| matches!(of(status, body), Answer::Blocked { .. });
        assert!(blocked(260, "ingestion blocked for user a"));
        assert!(blocked(401, "no org id") && blocked(404, "") && blocked(302, ""));
        assert!(blocked(400, "stream '{…}' includes structured metadata, but this feature is disallowed. Please …"));
        let later = |status, body| match of(status, body) {
            Answer::Later { reason, after: None, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(later(429, "Ingestion rate limit exceeded for user a"), "rate_limited");
        assert_eq!(later(429, "Per stream rate limit exceeded (limit: 3MB/sec)"), "per_stream_rate_limit");
        assert_eq!(later(429, "Maximum active stream limit exceeded when …"), "stream_limit");
        assert_eq!((later(500, ""), later(503, "")), ("server_error", "server_error"));
        assert!(matches!(of(413, ""), Answer::Refused { reason: "too_large", .. }));
    }
}
