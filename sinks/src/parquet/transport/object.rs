//! Stores behind `object_store`: S3 and what speaks its protocol.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, MultipartId, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
};

use super::{Listed, Store, Upload};
use crate::parquet::config::S3Config;
use crate::parquet::error::{ParquetError, StoreError};

/// How long one request may take: [`super::PART_BYTES`] at 150 kB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Any store of `object_store` with conditional put and multipart uploads.
#[derive(Debug)]
pub struct RemoteStore<T> {
    inner: Arc<T>,
}

impl<T> RemoteStore<T> {
    /// Puts the contract of [`Store`] on top of a store.
    pub fn new(inner: T) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The store underneath.
    pub fn inner(&self) -> &T {
        &self.inner
    }
}

impl RemoteStore<object_store::aws::AmazonS3> {
    /// A bucket, with what the configuration leaves open taken from the `AWS_…` variables of the environment.
    pub fn s3(bucket: &str, config: &S3Config) -> Result<Self, ParquetError> {
        // Retries are the sink's own, where they show in metrics and health; these bridge a lost connection.
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: Duration::from_secs(10) };
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(config.allow_http);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        for (key, value) in [
            (AmazonS3ConfigKey::Endpoint, &config.endpoint),
            (AmazonS3ConfigKey::Region, &config.region),
            (AmazonS3ConfigKey::AccessKeyId, &config.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, &config.secret_access_key),
            (AmazonS3ConfigKey::Token, &config.session_token),
        ] {
            if let Some(value) = value {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(virtual_host) = config.virtual_host {
            builder = builder.with_virtual_hosted_style_request(virtual_host);
        }
        let store = builder.build().map_err(|error| ParquetError::Client { reason: error.to_string() })?;
        Ok(Self::new(store))
    }
}

#[async_trait]
impl<T: ObjectStore + MultipartStore> Store for RemoteStore<T> {
    async fn read(&self, path: &Path) -> Result<Option<Bytes>, StoreError> {
        let failed = |error| classify("read", path, &error);
        match self.inner.get(path).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(error @ Error::NotFound { .. }) => absent("read", path, &error).map(|()| None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StoreError> {
        match self.inner.put_opts(path, PutPayload::from(bytes), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(classify("create", path, &error)),
        }
    }

    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.inner.delete(path).await {
            Ok(()) => Ok(()),
            Err(error @ Error::NotFound { .. }) => absent("remove", path, &error),
            Err(error) => Err(classify("remove", path, &error)),
        }
    }

    async fn list(&self, folder: &Path) -> Result<Vec<Listed>, StoreError> {
        let found = self.inner.list(Some(folder)).try_collect::<Vec<_>>().await;
        let found = found.map_err(|error| classify("list", folder, &error))?;
        let mut listed: Vec<_> = found
            .into_iter()
            .map(|object| Listed { path: object.location, modified_ms: object.last_modified.timestamp_millis() })
            .collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    async fn upload(&self, path: &Path) -> Result<Box<dyn Upload>, StoreError> {
        let id = self.inner.create_multipart(path).await.map_err(|error| classify("begin upload of", path, &error))?;
        Ok(Box::new(RemoteUpload { store: Arc::clone(&self.inner), path: path.clone(), id, parts: Vec::new(), size: 0 }))
    }
}

struct RemoteUpload<T> {
    store: Arc<T>,
    path: Path,
    id: MultipartId,
    parts: Vec<PartId>,
    /// Bytes of the parts.
    size: u64,
}

#[async_trait]
impl<T: ObjectStore + MultipartStore> Upload for RemoteUpload<T> {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let (index, len) = (self.parts.len(), bytes.len() as u64);
        match self.store.put_part(&self.path, &self.id, index, PutPayload::from(bytes)).await {
            Ok(part) => {
                self.parts.push(part);
                self.size += len;
                Ok(())
            }
            Err(Error::NotFound { .. }) => Err(StoreError::UploadGone { path: self.path.clone() }),
            Err(error) => Err(classify("upload part of", &self.path, &error)),
        }
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        let error = match self.store.complete_multipart(&self.path, &self.id, self.parts.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        // It may have happened and its answer got lost; then the upload is gone and the file is there. Whoever
        // completed the file, its rows are those of the range.
        let gone = matches!(error, Error::NotFound { .. });
        match self.store.head(&self.path).await {
            Ok(found) if gone || found.size == self.size => Ok(()),
            Err(Error::NotFound { .. }) if gone => {
                absent("complete", &self.path, &error)?;
                Err(StoreError::UploadGone { path: self.path.clone() })
            }
            _ => Err(classify("complete", &self.path, &error)),
        }
    }

    async fn abort(&mut self) -> Result<(), StoreError> {
        match self.store.abort_multipart(&self.path, &self.id).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(classify("abort upload of", &self.path, &error)),
        }
    }
}

/// Tells an object that does not exist from a bucket that does not.
fn absent(operation: &'static str, path: &Path, error: &Error) -> Result<(), StoreError> {
    if error.to_string().contains("NoSuchBucket") { Err(classify(operation, path, error)) } else { Ok(()) }
}

/// The one table of what a store's errors mean.
fn classify(operation: &'static str, path: &Path, error: &Error) -> StoreError {
    let (path, reason) = (path.clone(), error.to_string());
    match error {
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            StoreError::Unconditional { operation, path, reason }
        }
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotFound { .. }
        | Error::InvalidPath { .. } => StoreError::Refused { operation, path, reason },
        _ => StoreError::Unavailable { operation, path, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(make: impl FnOnce(String, Box<dyn std::error::Error + Send + Sync>) -> Error) -> StoreError {
        classify("read", &Path::from("x"), &make("x".into(), "said so".into()))
    }

    #[test]
    fn rights_and_missing_buckets_are_refusals_and_the_rest_may_pass() {
        for refused in [
            error(|path, source| Error::PermissionDenied { path, source }),
            error(|path, source| Error::Unauthenticated { path, source }),
            error(|path, source| Error::NotFound { path, source }),
        ] {
            assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
            assert!(refused.to_string().contains("check sinks.parquet.url"), "{refused}");
        }
        let passing = error(|_, source| Error::Generic { store: "S3", source });
        assert!(matches!(passing, StoreError::Unavailable { .. }), "{passing}");
    }

    #[test]
    fn a_missing_bucket_is_not_taken_for_a_missing_object() {
        let missing = |what: &str| Error::NotFound { path: "x".into(), source: what.into() };
        assert!(absent("read", &Path::from("x"), &missing("<Code>NoSuchKey</Code>")).is_ok());
        assert!(absent("read", &Path::from("x"), &missing("<Code>NoSuchBucket</Code>")).is_err());
    }
}
