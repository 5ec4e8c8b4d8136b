//! The lines of a watch.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ApiError, Status, chain};

/// Bytes of one line at most; etcd keeps objects of 1.5 MB.
const MOST_LINE: usize = 8 << 20;

/// What a watch brings.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Change<T> {
    /// An object was added or changed.
    Applied(T),
    /// An object is gone; this is what it was.
    Deleted(T),
    /// Everything up to that resource version has come.
    Bookmark(String),
}

/// A watch that is open.
pub(in super::super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// No line ends before that.
    searched: usize,
    over: bool,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Line<T> {
    object: T,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0, over: false }
    }

    /// The next change; `None` once the watch is at its end. Cancel safe.
    ///
    /// # Errors
    /// Of the connection, and what the server has to say; the watch is over then.
    pub(in super::super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Change<T>>, ApiError> {
        loop {
            while let Some(line) = self.line()? {
                if !line.trim_ascii().is_empty() {
                    return change(&line).map(Some);
                }
            }
            if self.over {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                }
                Some(Err(error)) => return Err(ApiError::Unreachable(chain(&error))),
                None => self.over = true,
            }
        }
    }

    /// The next whole line of what has come. What follows the last line end was cut off.
    fn line(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            if self.buffer.len() > MOST_LINE {
                return Err(ApiError::Protocol(format!("a line of a watch has more than {MOST_LINE} bytes")));
            }
            return Ok(None);
        };
        let line = self.buffer.split_to(self.searched + at).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Ok(Some(line))
    }
}

fn change<T: DeserializeOwned>(line: &[u8]) -> Result<Change<T>, ApiError> {
    match read::<Kind>(line)?.kind.as_str() {
        "ADDED" | "MODIFIED" => Ok(Change::Applied(read::<Line<T>>(line)?.object)),
        "DELETED" => Ok(Change::Deleted(read::<Line<T>>(line)?.object)),
        "BOOKMARK" => {
            let Line { object } = read::<Line<Value>>(line)?;
            let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
            if version.is_empty() {
                return Err(ApiError::Protocol("a bookmark has no resourceVersion".into()));
            }
            Ok(Change::Bookmark(version.to_owned()))
        }
        "ERROR" => {
            let Status { code, message } = read::<Line<Status>>(line)?.object;
            Err(match code {
                410 => ApiError::Gone,
                401 => ApiError::Unauthorized(message),
                code => ApiError::Status { code, said: message, retry_after: None },
            })
        }
        other => Err(ApiError::Protocol(format!("a change of type `{other}`"))),
    }
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(line).map_err(|error| ApiError::Protocol(format!("a line of a watch: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(body: &str) -> Vec<Result<Option<Change<Value>>, ApiError>> {
        let mut lines = Lines::new(Body::from(body.as_bytes().to_vec()));
        let mut found = Vec::new();
        loop {
            let next = lines.next().await;
            let over = !matches!(next, Ok(Some(_)));
            found.push(next);
            if over {
                return found;
            }
        }
    }

    #[tokio::test]
    async fn lines_become_changes_and_what_is_cut_off_is_none() {
        let body = concat!(
            r#"{"type":"ADDED","object":{"a":1}}"#,
            "\n\n",
            r#"{"type":"MODIFIED","object":{"a":2}}"#,
            "\r\n",
            r#"{"type":"DELETED","object":{"a":3}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
            "\n",
            r#"{"type":"ADDED","obj"#
        );
        let expected = [
            Ok(Some(Change::Applied(serde_json::json!({"a": 1})))),
            Ok(Some(Change::Applied(serde_json::json!({"a": 2})))),
            Ok(Some(Change::Deleted(serde_json::json!({"a": 3})))),
            Ok(Some(Change::Bookmark("9".into()))),
            Ok(None),
        ];
        assert_eq!(all(body).await, expected);
    }

    #[tokio::test]
    async fn an_error_object_is_an_error_by_its_code() {
        let of = async |object: &str| all(&format!("{{\"type\":\"ERROR\",\"object\":{object}}}\n")).await.remove(0);
        assert_eq!(of(r#"{"code":410,"reason":"Expired","message":"too old"}"#).await, Err(ApiError::Gone));
        assert_eq!(of(r#"{"code":401,"message":"x"}"#).await, Err(ApiError::Unauthorized("x".into())));
        let broken = ApiError::Status { code: 500, said: "etcd".into(), retry_after: None };
        assert_eq!(of(r#"{"code":500,"message":"etcd"}"#).await, Err(broken));
        assert!(matches!(all("{\"type\":\"NEW\",\"object\":{}}\n").await[0], Err(ApiError::Protocol(_))));
    }
}
