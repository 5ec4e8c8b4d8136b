//! One of several replicas leads, as Kubernetes' own controllers elect their leaders: by a Lease.
//!
//! The lease only decides who tries. What makes two leaders harmless is the bus, which fences whoever had a transactional id
//! before: a leader that was stopped and goes on later writes nothing.

use std::time::Duration;

use afflux_runtime::Backoff;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::api::{Api, Resource};
use super::config::LeaderElectionConfig;
use super::error::ApiError;
use super::health::Board;
use super::{FIRST_RETRY, LAST_RETRY};

/// As it stands in the state of the component.
const STREAM: &str = "leader election";

/// A replica's side of the election.
pub(super) struct Election<'a> {
    api: &'a Api,
    board: &'a Board,
    config: &'a LeaderElectionConfig,
    namespace: String,
    /// This replica.
    holder: String,
    /// What the lease said last, and since when it has said so, by our own clock.
    seen: Option<(Terms, Instant)>,
}

/// What changes when a lease is renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Terms {
    holder: String,
    renewed: String,
    lasts: Duration,
}

/// What is done about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is free, or ours.
    Take,
    /// Another one has it.
    Wait,
}

impl<'a> Election<'a> {
    /// Learns in which namespace the lease is.
    pub(super) async fn new(
        api: &'a Api,
        board: &'a Board,
        config: &'a LeaderElectionConfig,
    ) -> Result<Self, ApiError> {
        let namespace = match &config.namespace {
            Some(namespace) => namespace.clone(),
            None => api.namespace().await?,
        };
        let name = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let holder = format!("{}_{:08x}", name.unwrap_or_else(|| "afflux".into()), rand::random::<u32>());
        Ok(Self { api, board, config, namespace, holder, seen: None })
    }

    /// Waits until this replica leads. Cancel safe.
    pub(super) async fn win(&mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            match self.try_to_lead().await {
                Ok(Turn::Take) => {
                    self.board.works(STREAM);
                    tracing::info!(lease = self.config.name, holder = self.holder, "elected: this replica leads");
                    return;
                }
                Ok(Turn::Wait) => {
                    self.board.works(STREAM);
                    backoff.reset();
                    sleep(self.config.retry_period.0).await;
                }
                // Somebody was faster.
                Err(ApiError::Conflict) => sleep(self.config.retry_period.0).await,
                Err(error) => {
                    self.board.failed(STREAM, &error.to_string());
                    backoff.wait(error.retry_after()).await;
                    if error.is_about_access() {
                        self.api.renew();
                    }
                }
            }
        }
    }

    /// Renews the lease; returns when it is lost.
    pub(super) async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.config.retry_period.0).await;
            let left = self.config.renew_deadline.0.saturating_sub(renewed.elapsed());
            let lost = match tokio::time::timeout(left, self.try_to_lead()).await {
                Ok(Ok(Turn::Take)) => {
                    renewed = Instant::now();
                    None
                }
                Ok(Ok(Turn::Wait)) => Some("another replica has the lease".to_owned()),
                Ok(Err(error)) if renewed.elapsed() < self.config.renew_deadline.0 => {
                    if error.is_about_access() {
                        self.api.renew();
                    }
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the API server did not answer in time".to_owned()),
            };
            if let Some(reason) = lost {
                tracing::warn!(lease = self.config.name, holder = self.holder, reason, "this replica leads no more");
                return;
            }
        }
    }

    /// Gives the lease up, so that another replica need not wait for its end.
    pub(super) async fn release(&mut self) {
        let released = async {
            let body = self.api.get(&leases(), &self.namespace, &self.config.name).await?;
            let mut lease = parse(&body)?;
            if terms(&lease).holder != self.holder {
                return Ok(());
            }
            lease["spec"]["holderIdentity"] = "".into();
            lease["spec"]["leaseDurationSeconds"] = 1.into();
            let place = (self.namespace.as_str(), self.config.name.as_str());
            self.api.update(&leases(), place, lease.to_string().into_bytes()).await.map(drop)
        };
        // Whoever waits has to wait a little longer otherwise.
        if let Ok(Err(error)) = tokio::time::timeout(self.config.retry_period.0, released).await {
            tracing::warn!(%error, lease = self.config.name, "the lease is not given up; it ends by itself");
        }
    }

    /// Takes or renews the lease where that is allowed.
    async fn try_to_lead(&mut self) -> Result<Turn, ApiError> {
        let body = match self.api.get(&leases(), &self.namespace, &self.config.name).await {
            Ok(body) => body,
            Err(ApiError::NotFound(_)) => {
                let mut lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": self.config.name, "namespace": self.namespace}, "spec": {}});
                self.sign(&mut lease, true);
                self.api.create(&leases(), &self.namespace, lease.to_string().into_bytes()).await?;
                return Ok(Turn::Take);
            }
            Err(error) => return Err(error),
        };
        let mut lease = parse(&body)?;
        let found = terms(&lease);
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != found) {
            self.seen = Some((found.clone(), Instant::now()));
        }
        let unheard_for = self.seen.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
        if turn(&self.holder, &found, unheard_for) == Turn::Wait {
            return Ok(Turn::Wait);
        }
        self.sign(&mut lease, found.holder != self.holder);
        // Refused where somebody else has changed it meanwhile.
        let place = (self.namespace.as_str(), self.config.name.as_str());
        self.api.update(&leases(), place, lease.to_string().into_bytes()).await?;
        Ok(Turn::Take)
    }

    /// Puts this replica's name into a lease.
    fn sign(&self, lease: &mut Value, anew: bool) {
        let now = format!("{:.6}", Timestamp::now());
        let spec = &mut lease["spec"];
        if anew {
            let before = spec["leaseTransitions"].as_i64().unwrap_or(-1);
            spec["leaseTransitions"] = (before + 1).into();
            spec["acquireTime"] = now.clone().into();
        }
        spec["holderIdentity"] = self.holder.clone().into();
        spec["leaseDurationSeconds"] = self.config.lease_duration.0.as_secs().max(1).into();
        spec["renewTime"] = now.into();
    }
}

fn leases() -> Resource {
    Resource::new("coordination.k8s.io", "v1", "leases")
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::Protocol(format!("a lease: {error}")))
}

fn terms(lease: &Value) -> Terms {
    let spec = &lease["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let lasts = Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or_default());
    Terms { holder: text("holderIdentity"), renewed: text("renewTime"), lasts }
}

/// A lease is taken that is ours, that nobody has, or whose holder was not heard of for as long as it lasts. Clocks of
/// others are not looked at.
fn turn(holder: &str, found: &Terms, unheard_for: Duration) -> Turn {
    let free = found.holder.is_empty() || found.holder == holder || unheard_for >= found.lasts;
    if free { Turn::Take } else { Turn::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lease_that_is_free_ours_or_over_is_taken() {
        let lasts = Duration::from_secs(15);
        let of = |holder: &str, unheard_for| {
            let found = Terms { holder: holder.into(), renewed: String::new(), lasts };
            turn("me", &found, Duration::from_secs(unheard_for))
        };
        assert_eq!(of("", 0), Turn::Take);
        assert_eq!(of("me", 0), Turn::Take);
        assert_eq!(of("other", 14), Turn::Wait);
        assert_eq!(of("other", 15), Turn::Take);
    }
}
