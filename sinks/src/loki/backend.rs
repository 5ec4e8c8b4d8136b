//! The backend: one attempt to hand a request over to Loki.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use afflux_runtime::delivery::{Answer, Backend, Batch, Encoded, Input, Named, Refused};
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::behind::Behind;
use super::config::{LokiConfig, Protocol, is_tenant};
use super::error::LokiError;
use super::limits::Window;
use super::policy::Policy;
use super::request::LokiRequest;
use super::sent::NotStored;
use super::{NAME, answer, encode, otlp, sent};
use crate::http::{ANSWER_BYTES, Endpoint, HttpClient, TENANT};

const NATIVE_PATH: &str = "/loki/api/v1/push";
const OTLP_PATH: &str = "/otlp/v1/logs";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// Makes streams of their own for what is older than Loki takes otherwise.
const SHARD: HeaderName = HeaderName::from_static("x-loki-backfill-shard");

/// How long a request that was made when nothing in it was late stays as it is, nanoseconds.
const SLACK: u64 = 10_000_000_000;

/// The time in nanoseconds since the Unix epoch.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Loki, or another server that takes its push requests.
pub struct Loki {
    client: HttpClient,
    config: LokiConfig,
    policy: Policy,
    inputs: Vec<Input>,
    clock: Clock,
    behind: Behind,
}

impl Loki {
    /// Of a configuration with an address, and the topics to take. Reads the files that the configuration names;
    /// connects to nobody.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: &LokiConfig, inputs: Vec<Input>) -> Result<Self, LokiError> {
        config.validate()?;
        let client = HttpClient::new(&Endpoint {
            key: NAME,
            url_key: "url",
            url: config.address().ok_or(LokiError::Off)?,
            path: match config.protocol {
                Protocol::Native => NATIVE_PATH,
                Protocol::Otlp => OTLP_PATH,
            },
            http2: false,
            auth: &config.auth,
            tls: &config.tls,
            headers: &config.headers,
            proxy: config.proxy.as_deref(),
        })?;
        let policy = Policy::new(&config.labels);
        Ok(Self { client, config: config.clone(), policy, inputs, clock: Arc::new(now), behind: Behind::default() })
    }

    /// The same with another clock, which gives nanoseconds since the Unix epoch. It decides what is too old and what
    /// lies in the future.
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// The tenant of a batch.
    fn tenant<'t>(&'t self, of_records: Option<&'t str>) -> Option<&'t str> {
        self.config.tenant.as_deref().filter(|tenant| !tenant.is_empty()).or(of_records)
    }

    /// Which entries a refusal is about, where Loki says so.
    ///
    /// What is too far behind its stream can be sent as a backfill, once it is known from when on.
    fn refused(&self, request: &LokiRequest, (reason, error): (&'static str, String), words: &[u8]) -> Answer {
        let words = String::from_utf8_lossy(words);
        if self.config.protocol != Protocol::Native || words.len() >= ANSWER_BYTES {
            return Answer::Refused { reason, error };
        }
        if let Some(NotStored { refused, unsure: again }) = sent::not_stored(request, &words) {
            return Answer::StoredExcept { refused, again };
        }
        let may = reason == answer::TOO_FAR_BEHIND && self.config.backfill.enabled && request.shard.is_none();
        if may && self.behind.learn(request.tenant.as_ref(), sent::only_stream(request), &words) {
            return Answer::Otherwise { reason, error };
        }
        Answer::Refused { reason, error }
    }

    /// Whether by now a request has to be another one: what has become late meanwhile may be too far behind.
    fn is_outdated(&self, request: &LokiRequest) -> bool {
        let late_before = Window::late_before(&self.config, (self.clock)().saturating_sub(SLACK));
        request.oldest.is_some_and(|oldest| oldest < late_before)
    }

    fn headers(&self, request: &LokiRequest) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, PROTOBUF)]);
        let tenant = self.tenant(request.tenant.as_deref()).and_then(|tenant| HeaderValue::from_str(tenant).ok());
        headers.extend(tenant.map(|tenant| (TENANT, tenant)));
        let shard = request.shard.as_deref().and_then(|shard| HeaderValue::from_str(shard).ok());
        headers.extend(shard.map(|shard| (SHARD, shard)));
        headers
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// All records of a batch, whose tenant Loki does not take.
fn of_no_tenant(batch: &Batch, tenant: &str) -> Encoded<LokiRequest> {
    let refused = batch.records.iter().enumerate().map(|(record, received)| Refused {
        record,
        value: None,
        items: afflux_runtime::dead_letter::items(&received.headers),
        reason: "invalid_tenant",
        error: format!("`{tenant}` is no name of a tenant for Loki"),
    });
    Encoded { refused: refused.collect(), ..Encoded::default() }
}

#[async_trait]
impl Backend for Loki {
    type Request = LokiRequest;

    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> Vec<Input> {
        self.inputs.clone()
    }

    fn encode(&self, batch: &Batch) -> Encoded<LokiRequest> {
        if let Some(tenant) = self.tenant(batch.tenant.as_deref()).filter(|tenant| !is_tenant(tenant)) {
            return of_no_tenant(batch, tenant);
        }
        match self.config.protocol {
            Protocol::Native => {
                let behind = self.behind.of(batch.tenant.as_ref());
                encode::encode(&self.policy, &self.config, batch, (self.clock)(), behind)
            }
            Protocol::Otlp => otlp::encode(&self.config, batch, (self.clock)()),
        }
    }

    async fn attempt(&self, request: &LokiRequest, _: u32) -> Answer {
        if self.is_outdated(request) {
            return Answer::Otherwise {
                reason: "late",
                error: "entries have become too old to be sent with others".into(),
            };
        }
        match self.client.post(self.headers(request), request.body.clone()).await {
            Ok(reply) => match answer::answer(&reply) {
                Answer::Refused { reason, error } => self.refused(request, (reason, error), &reply.body),
                answer => answer,
            },
            Err(answer) => answer,
        }
    }

    fn locate(&self, batch: &Batch, items: &[Named]) -> Option<Vec<Refused>> {
        sent::locate(&self.policy, &self.config, batch, items)
    }

    fn named(&self, requests: &[LokiRequest]) -> Option<Vec<Named>> {
        if self.config.protocol == Protocol::Native { sent::named(requests) } else { None }
    }
}
