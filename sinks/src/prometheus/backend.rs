//! The sink: what it sends, in which version, and to whom.

use std::sync::atomic::{AtomicBool, Ordering};

use afflux_runtime::delivery::{Answer, Backend, Batch, Encoded, Input, Kind, Order};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::Url;

use super::answer::{Understood, meaning, understood, unknown_version};
use super::config::{PrometheusConfig, ProtocolConfig};
use super::encode::{Made, Owner, Settings, encode};
use super::error::PrometheusError;
use super::request::{Protocol, WriteRequest};
use super::version::{V1, V2};
use crate::http::{Endpoint, HttpClient, Reply, TENANT};

/// Where Prometheus takes remote write.
const PATH: &str = "/api/v1/write";
/// Records of a shard at least: smaller requests are not worth a shard of their own.
const SHARD_RECORDS: usize = 200;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const RETRY: HeaderName = HeaderName::from_static("retry-attempt");

/// Sends series by remote write.
#[derive(Debug)]
pub struct PrometheusSink {
    client: HttpClient,
    /// As configured.
    url: String,
    settings: Settings,
    input: Input,
    tenant: Option<HeaderValue>,
    shards: u32,
    protocol: ProtocolConfig,
    /// Whether the server has shown that it understands 2.0.
    confirmed: AtomicBool,
    /// Whether the server has turned out not to understand 2.0.
    fallen_back: AtomicBool,
}

impl PrometheusSink {
    /// From the series topic to the configured address. Reads the files that the configuration names; connects to
    /// nobody.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: &PrometheusConfig, topics: &Topics) -> Result<Self, PrometheusError> {
        config.validate()?;
        let bare = Url::parse(&config.url).is_ok_and(|url| url.path().trim_end_matches('/').is_empty());
        let client = HttpClient::new(&Endpoint {
            key: super::NAME,
            url_key: "url",
            url: &config.url,
            path: if bare { PATH } else { "" },
            http2: false,
            auth: &config.auth,
            tls: &config.tls,
            headers: &config.headers,
            proxy: config.proxy.as_deref(),
        })?;
        let tenant = match config.tenant.as_deref().filter(|tenant| !tenant.is_empty()) {
            Some(tenant) => {
                Some(HeaderValue::try_from(tenant).map_err(|_| PrometheusError::Tenant { tenant: tenant.to_owned() })?)
            }
            None => None,
        };
        Ok(Self {
            client,
            url: config.url.clone(),
            settings: Settings::of(config),
            input: Input { topic: topics.series().into(), kind: Kind::Series },
            tenant,
            shards: config.shards,
            protocol: config.protocol,
            confirmed: AtomicBool::new(false),
            fallen_back: AtomicBool::new(false),
        })
    }

    /// The version that is spoken now.
    fn spoken(&self) -> Protocol {
        match self.protocol {
            ProtocolConfig::V1 => Protocol::V1,
            ProtocolConfig::Auto if self.fallen_back.load(Ordering::Relaxed) => Protocol::V1,
            ProtocolConfig::Auto | ProtocolConfig::V2 => Protocol::V2,
        }
    }

    fn make<'r>(
        &self,
        protocol: Protocol,
        owner: Owner<'_>,
        records: impl Iterator<Item = (usize, &'r Bytes)>,
    ) -> Made {
        match protocol {
            Protocol::V1 => encode::<V1>(&self.settings, owner, records),
            Protocol::V2 => encode::<V2>(&self.settings, owner, records),
        }
    }

    /// The same samples in 1.0.
    pub(super) fn in_v1(&self, request: &WriteRequest) -> Option<WriteRequest> {
        let owner = Owner { header: request.tenant.as_ref(), tenant: request.owner.as_ref() };
        let made = self.make(Protocol::V1, owner, request.records.iter().enumerate());
        // Of records with a zero, the other part is another request's.
        made.requests.into_iter().find(|made| made.zeros == request.zeros)
    }

    async fn post(&self, request: &WriteRequest, attempt: u32) -> Result<Reply, Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(request.protocol.content_type()));
        headers.insert(VERSION, HeaderValue::from_static(request.protocol.version()));
        headers.extend((attempt > 0).then(|| (RETRY, HeaderValue::from(attempt))));
        headers.extend(request.tenant.clone().map(|tenant| (TENANT, tenant)));
        self.client.post(headers, request.body.clone()).await
    }

    /// Sends in 2.0; where that is not understood, in 1.0, from then on.
    async fn negotiate(&self, request: &WriteRequest, attempt: u32) -> Result<Answer, Answer> {
        let reply = self.post(request, attempt).await?;
        let understood = understood(&reply);
        self.confirmed.fetch_or(understood == Understood::Yes && reply.status.is_success(), Ordering::Relaxed);
        let confirmed = self.confirmed.load(Ordering::Relaxed);
        let sure = self.protocol == ProtocolConfig::V2 || confirmed;
        if understood == Understood::Yes || (understood == Understood::Perhaps && sure) {
            return Ok(meaning(&reply, request));
        }
        let (ProtocolConfig::Auto, Some(older)) = (self.protocol, self.in_v1(request)) else {
            return Ok(unknown_version(&reply, request));
        };
        let again = self.post(&older, attempt).await?;
        // Whoever has understood 2.0 before has been answered for by somebody else.
        let by_another = confirmed && reply.status.is_success();
        if !by_another && (understood == Understood::No || again.status.is_success()) {
            tracing::info!(url = self.url, "the server does not speak remote write 2.0; sending 1.0");
            self.fallen_back.store(true, Ordering::Relaxed);
        }
        Ok(meaning(&again, &older))
    }
}

#[async_trait]
impl Backend for PrometheusSink {
    type Request = WriteRequest;

    fn name(&self) -> &'static str {
        super::NAME
    }

    fn inputs(&self) -> Vec<Input> {
        vec![self.input.clone()]
    }

    fn order(&self) -> Order {
        Order::ByKey
    }

    /// By the hash of the series, so that each always goes the same way.
    fn divide(&self, batch: Batch) -> Vec<Batch> {
        let shards = (batch.records.len() / SHARD_RECORDS).clamp(1, self.shards as usize);
        if shards == 1 {
            return vec![batch];
        }
        let Batch { kind, tenant, replay, records } = batch;
        let mut parts = vec![Vec::with_capacity(records.len() * 2 / shards); shards];
        for record in records {
            let hash = crc32c::crc32c(record.key.as_deref().unwrap_or_default());
            parts[hash as usize % shards].push(record);
        }
        parts.retain(|records| !records.is_empty());
        parts.into_iter().map(|records| Batch { kind, tenant: tenant.clone(), replay, records }).collect()
    }

    fn encode(&self, batch: &Batch) -> Encoded<WriteRequest> {
        let of_records = batch.tenant.as_deref().filter(|tenant| !tenant.is_empty());
        // A tenant that no header can hold is none.
        let of_records = of_records.and_then(|tenant| HeaderValue::try_from(tenant).ok());
        let owner = Owner { header: self.tenant.as_ref().or(of_records.as_ref()), tenant: batch.tenant.as_ref() };
        let values = batch.records.iter().enumerate().filter_map(|(at, record)| Some((at, record.value.as_ref()?)));
        let Made { requests, refused } = self.make(self.spoken(), owner, values);
        Encoded { requests, refused, ..Encoded::default() }
    }

    async fn attempt(&self, request: &WriteRequest, attempt: u32) -> Answer {
        let older = match (request.protocol, self.spoken()) {
            (Protocol::V2, Protocol::V2) => {
                return self.negotiate(request, attempt).await.unwrap_or_else(|answer| answer);
            }
            (Protocol::V2, Protocol::V1) => self.in_v1(request),
            (Protocol::V1, _) => None,
        };
        let request = older.as_ref().unwrap_or(request);
        self.post(request, attempt).await.map_or_else(|answer| answer, |reply| meaning(&reply, request))
    }
}
