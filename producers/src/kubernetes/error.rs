//! What can be wrong with the configuration, and what an API server may say.

use std::time::Duration;

/// What is wrong with `producers.kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKubernetes {
    /// A text that must be there.
    #[error("`producers.kubernetes.{key}` is empty; write a name")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A number that must not be zero.
    #[error("`producers.kubernetes.{key}` is too small; leave it out, or write at least 1 (of a time: 1s)")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// Times that cannot work together.
    #[error(
        "`producers.kubernetes.leader_election` needs retry_period < renew_deadline < lease_duration, so that a leader \
         stops before another one starts"
    )]
    Election,
    /// A pattern of label names that cannot be meant.
    #[error(
        "`producers.kubernetes.objects.{key}` has `{name}`, which is no name of a label or annotation: write its name, \
         or the beginning of one and `*`"
    )]
    Name {
        /// The list.
        key: &'static str,
        /// What stands there.
        name: String,
    },
    /// Neither events nor objects.
    #[error(
        "`producers.kubernetes` has both `events.enabled` and `objects.enabled` off; write `producers.kubernetes: false`"
    )]
    Nothing,
    /// A regular expression that is none.
    #[error("`producers.kubernetes.events.{list}.{at}.{field}` is no regular expression: {reason}")]
    Expression {
        /// `drop` or `match`.
        list: &'static str,
        /// Position in the list, from 0.
        at: usize,
        /// The field, such as `reason` or `labels.app`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule that says nothing.
    #[error("`producers.kubernetes.events.{list}.{at}` is empty and would fit every event; write what it is to fit")]
    Rule {
        /// `drop` or `match`.
        list: &'static str,
        /// Position in the list, from 0.
        at: usize,
    },
}

/// Why a request to the API server did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// How the API server is reached cannot be learnt.
    #[error("{0}")]
    Config(String),
    /// 410: the history that was asked for is gone.
    #[error("the history that was asked for is gone (410)")]
    Gone,
    /// 401.
    #[error("the API server does not accept the credentials (401): {0}")]
    Unauthorized(String),
    /// 403.
    #[error(
        "no permission to {verb} {resource}{}; grant the verb `{verb}` on the resource `{resource}` of the API group \
         `{group}` (docs/kubernetes.md has the role): {said}",
        in_group(group)
    )]
    Forbidden {
        /// The verb that is missing.
        verb: &'static str,
        /// The resource, such as `events`.
        resource: String,
        /// Its API group; empty for the core group.
        group: String,
        /// What the server said.
        said: String,
    },
    /// 404.
    #[error("{0} does not exist (404)")]
    NotFound(String),
    /// 409.
    #[error("somebody else has changed it (409)")]
    Conflict,
    /// Any other answer.
    #[error("the API server answers {code}: {said}")]
    Status {
        /// The HTTP status, or that of a status object.
        code: u16,
        /// What it said.
        said: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// An answer that makes no sense.
    #[error("the API server's answer makes no sense: {0}")]
    Protocol(String),
}

impl ApiError {
    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether what was asked for lies in the future of the server's history.
    pub(super) fn is_future(&self) -> bool {
        matches!(self, Self::Status { code: 500..=599, said, .. } if said.contains("Too large resource version"))
    }

    /// Whether credentials, or how the server is reached, may have changed meanwhile.
    pub(super) fn is_about_access(&self) -> bool {
        matches!(self, Self::Unauthorized(_) | Self::Unreachable(_) | Self::Config(_))
    }
}

fn in_group(group: &str) -> String {
    if group.is_empty() { String::new() } else { format!(" in {group}") }
}

/// The innermost causes of an error, after its own text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
