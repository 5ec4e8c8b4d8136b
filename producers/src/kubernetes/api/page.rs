//! Pages of lists.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ApiError;

/// What a list is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct ListQuery<'q> {
    /// Items of a page; 0 is all of them.
    pub(in super::super) limit: usize,
    /// What the page before has said; empty for the first one.
    pub(in super::super) token: &'q str,
    /// The list as it was at that resource version; empty: as it is.
    pub(in super::super) exactly: &'q str,
}

impl fmt::Display for ListQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit={}", self.limit)?;
        // The token names the version.
        if !self.token.is_empty() {
            return write!(f, "&continue={}", escaped(self.token));
        }
        if !self.exactly.is_empty() {
            write!(f, "&resourceVersion={}&resourceVersionMatch=Exact", escaped(self.exactly))?;
        }
        Ok(())
    }
}

/// One page.
#[derive(Debug)]
pub(in super::super) struct Page<T> {
    /// That of the whole list.
    pub(in super::super) resource_version: String,
    /// What the next page is asked with; empty: there is none.
    pub(in super::super) token: String,
    pub(in super::super) items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct List<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    token: String,
}

impl<T: DeserializeOwned> Page<T> {
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let list: List<T> =
            serde_json::from_slice(body).map_err(|error| ApiError::Protocol(format!("a list: {error}")))?;
        let ListMeta { resource_version, token } = list.metadata;
        if resource_version.is_empty() {
            return Err(ApiError::Protocol("a list has no resourceVersion".into()));
        }
        Ok(Self { resource_version, token, items: list.items.unwrap_or_default() })
    }
}

/// The text as it may stand in a query.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_after_the_first_is_asked_for_by_its_token_alone() {
        let exactly = ListQuery { limit: 5, token: "", exactly: "77" };
        assert_eq!(exactly.to_string(), "limit=5&resourceVersion=77&resourceVersionMatch=Exact");
        assert_eq!(ListQuery { token: "a+/=", ..exactly }.to_string(), "limit=5&continue=a%2B%2F%3D");
    }

    #[test]
    fn a_list_without_items_is_empty_and_one_without_a_version_is_none() {
        let page =
            Page::<serde_json::Value>::read(br#"{"metadata": {"resourceVersion": "7"}, "items": null}"#).unwrap();
        assert_eq!((page.resource_version.as_str(), page.token.as_str(), page.items.len()), ("7", "", 0));
        for wrong in [&b"{}"[..], b"[", br#"{"metadata": {}, "items": []}"#] {
            assert!(matches!(Page::<serde_json::Value>::read(wrong), Err(ApiError::Protocol(_))));
        }
    }
}
