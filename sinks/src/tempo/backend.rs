//! The backend: one attempt over OTLP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use afflux_runtime::delivery::{Answer, Backend, Batch, Encoded, Input, Kind};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderValue, header};

use super::answer::Asked;
use super::config::{Compression, Protocol, TempoConfig, TempoConfigError};
use super::request::Request;
use super::{NAME, answer};
use crate::http::{Endpoint, HttpClient, TENANT};

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";

/// Tempo, or another receiver of OTLP spans.
pub struct Tempo {
    client: HttpClient,
    protocol: Protocol,
    compression: Compression,
    tenant: Option<Arc<str>>,
    topic: Arc<str>,
    /// Requests stored so far.
    stored: AtomicU64,
}

impl Tempo {
    /// Of a configuration with an endpoint. Reads the files that it names; connects to nobody.
    ///
    /// # Errors
    /// [`TempoConfigError`] names the key at fault.
    pub fn new(config: &TempoConfig, topics: &Topics) -> Result<Self, TempoConfigError> {
        config.delivery.validate()?;
        let tenant = config.tenant.as_deref().filter(|tenant| !tenant.is_empty());
        if let Some(tenant) = tenant.filter(|tenant| HeaderValue::from_str(tenant).is_err()) {
            return Err(TempoConfigError::Tenant(tenant.to_owned()));
        }
        let grpc = config.protocol == Protocol::Grpc;
        let client = HttpClient::new(&Endpoint {
            key: NAME,
            url_key: "endpoint",
            url: &config.endpoint,
            path: if grpc { GRPC_PATH } else { HTTP_PATH },
            http2: grpc,
            auth: &config.auth,
            tls: &config.tls,
            headers: &config.headers,
            proxy: config.proxy.as_deref(),
        })?;
        let tenant = tenant.map(Arc::from);
        let (protocol, compression) = (config.protocol, config.compression);
        Ok(Self { client, protocol, compression, tenant, topic: topics.spans().into(), stored: AtomicU64::new(0) })
    }

    /// An error where the tenant, which strangers may name, is no header value.
    fn headers(&self, request: &Request) -> Result<HeaderMap, InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
        match self.protocol {
            Protocol::Grpc => {
                set(header::CONTENT_TYPE, "application/grpc");
                set(header::TE, "trailers");
            }
            Protocol::Http => set(header::CONTENT_TYPE, "application/x-protobuf"),
        }
        match (self.protocol, self.compression) {
            (_, Compression::None) => {}
            (Protocol::Grpc, Compression::Gzip) => set(header::HeaderName::from_static("grpc-encoding"), "gzip"),
            (Protocol::Http, Compression::Gzip) => set(header::CONTENT_ENCODING, "gzip"),
        }
        let tenant = self.tenant.as_deref().or(request.tenant.as_deref());
        headers.extend(tenant.map(HeaderValue::from_str).transpose()?.map(|tenant| (TENANT, tenant)));
        Ok(headers)
    }

    fn asked(&self, request: &Request, attempt: u32) -> Asked {
        let stored = self.stored.load(Ordering::Relaxed);
        if attempt == 0 {
            request.stored_before.store(stored, Ordering::Relaxed);
        }
        let others_stored = stored > request.stored_before.load(Ordering::Relaxed);
        Asked { attempt, others_stored, tenant_of_record: self.tenant.is_none() && request.tenant.is_some() }
    }
}

#[async_trait]
impl Backend for Tempo {
    type Request = Request;

    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input { topic: Arc::clone(&self.topic), kind: Kind::Spans }]
    }

    fn encode(&self, batch: &Batch) -> Encoded<Request> {
        let requests = Request::new(batch, self.protocol, self.compression).into_iter().collect();
        Encoded { requests, ..Encoded::default() }
    }

    async fn attempt(&self, request: &Request, attempt: u32) -> Answer {
        let headers = match self.headers(request) {
            Ok(headers) => headers,
            Err(error) => return Answer::Refused { reason: "bad_tenant", error: format!("the tenant: {error}") },
        };
        let asked = self.asked(request, attempt);
        let answer = match self.client.post(headers, request.body()).await {
            Err(answer) => answer,
            Ok(reply) if self.protocol == Protocol::Grpc => answer::of_grpc(&reply, asked),
            Ok(reply) => answer::of_http(&reply, asked),
        };
        if matches!(answer, Answer::Stored | Answer::PartlyStored { .. }) {
            self.stored.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

#[cfg(test)]
mod tests;
