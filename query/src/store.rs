//! Where a lake lies: the object store behind its URL, and how its files are named in messages.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use crate::error::QueryError;
use crate::lake::TABLES;

/// Longest that one request to an object store may be retried; a reader at a terminal wants an answer.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests are tried this many times again.
const MAX_RETRIES: usize = 4;

/// A store, the prefix in it under which the tables lie, and the URL that says both.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) base: Path,
    pub(crate) url: Arc<str>,
}

impl Place {
    /// Resolves a directory, `file://` or `s3://` URL. Reads nothing of an object store yet.
    ///
    /// S3 takes endpoint, region and credentials from the usual variables (`AWS_ENDPOINT_URL`,
    /// `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …).
    pub(crate) fn resolve(url: &str) -> Result<Self, QueryError> {
        match url.split_once("://") {
            None => Self::directory(url, PathBuf::from(url)),
            Some(("file", path)) => Self::directory(url, file_path(url, path)?),
            Some(("s3" | "s3a", rest)) => Self::bucket(url, rest),
            Some((scheme, _)) => {
                Err(QueryError::BadUrl { url: url.into(), reason: format!("scheme {scheme:?} is not supported") })
            }
        }
    }

    fn directory(url: &str, dir: PathBuf) -> Result<Self, QueryError> {
        if !dir.is_dir() {
            let reason = if dir.exists() { "it is a file" } else { "the directory does not exist" };
            return Err(QueryError::NoLake { url: url.into(), reason: reason.into(), hint: lake_nearby(&dir) });
        }
        let has = |name: &str| dir.join(name).is_dir();
        if has("lake") && !has("_afflux") && !TABLES.iter().any(|table| has(table.name)) {
            let reason = "the directory holds no table".into();
            return Err(QueryError::NoLake { url: url.into(), reason, hint: lake_nearby(&dir) });
        }
        let store = LocalFileSystem::new_with_prefix(&dir)
            .map_err(|error| QueryError::Store { location: url.into(), source: error.into() })?;
        Ok(Self { store: Arc::new(store), base: Path::default(), url: trimmed(url) })
    }

    fn bucket(url: &str, rest: &str) -> Result<Self, QueryError> {
        let bad = |reason: String| QueryError::BadUrl { url: url.into(), reason };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad("the bucket's name is missing".into()));
        }
        let base = Path::parse(prefix.trim_matches('/')).map_err(|error| bad(error.to_string()))?;
        let retry = RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        let plain = builder
            .get_config_value(&AmazonS3ConfigKey::Endpoint)
            .is_some_and(|endpoint| endpoint.starts_with("http://"));
        let builder = if plain { builder.with_allow_http(true) } else { builder };
        let store =
            builder.build().map_err(|error| QueryError::Store { location: url.into(), source: error.into() })?;
        Ok(Self { store: Arc::new(store), base, url: trimmed(url) })
    }

    /// The full name of an object, as a person would open it.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        let relative = match path.prefix_match(&self.base) {
            Some(parts) => parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
            None => path.to_string(),
        };
        format!("{}/{relative}", self.url)
    }

    /// Fails where an object store holds nothing under the prefix: most likely a misspelt URL.
    pub(crate) async fn must_exist(&self) -> Result<(), QueryError> {
        let listed = self
            .store
            .list_with_delimiter(Some(&self.base))
            .await
            .map_err(|error| QueryError::Store { location: self.url.to_string(), source: error.into() })?;
        if listed.common_prefixes.is_empty() && listed.objects.is_empty() && self.is_remote() {
            return Err(QueryError::NoLake {
                url: self.url.to_string(),
                reason: "nothing is stored under this prefix".into(),
                hint: None,
            });
        }
        Ok(())
    }

    fn is_remote(&self) -> bool {
        self.url.starts_with("s3")
    }
}

/// The path of a `file://` URL: percent-encoding undone, a host other than localhost refused.
fn file_path(url: &str, rest: &str) -> Result<PathBuf, QueryError> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        let reason = "a file URL names an absolute path, as in file:///var/lib/afflux/lake";
        return Err(QueryError::BadUrl { url: url.into(), reason: reason.into() });
    }
    match decode_percent(path) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(QueryError::BadUrl { url: url.into(), reason: "its percent-encoding is broken".into() }),
    }
}

/// The lake that was meant where its data directory, or a neighbour of it, was given.
fn lake_nearby(dir: &FsPath) -> Option<String> {
    let here = |ancestor: &FsPath| if ancestor.as_os_str().is_empty() { ".".into() } else { ancestor.to_owned() };
    let lake = dir.ancestors().map(here).find(|ancestor| ancestor.is_dir())?.join("lake");
    lake.is_dir().then(|| lake.display().to_string())
}

fn trimmed(url: &str) -> Arc<str> {
    match url.trim_end_matches('/') {
        "" => "/".into(),
        trimmed => trimmed.into(),
    }
}

/// Undoes percent-encoding; `None` where a `%` is not followed by two hex digits or the result is no UTF-8.
pub(crate) fn decode_percent(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests;
