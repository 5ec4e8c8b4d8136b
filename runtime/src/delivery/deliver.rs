//! One batch, until every item of it is stored or on the dead-letter topic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afflux_bus::{BusError, ErrorClass, Producer, Received, Record};
use afflux_schemas::topics::HEADER_ITEMS;
use futures::future::try_join_all;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::timeout;

use super::backend::{Answer, Backend, Batch, Encoded, Kind, Named, Refused};
use super::config::DeliveryConfig;
use super::trouble::{Trouble, Troubles};
use crate::backoff::Backoff;
use crate::dead_letter::{self, Refusal, now_ms};
use crate::metrics::{ComponentLabels, Metrics, ReasonLabels};

/// The longest pause while a backend refuses everything.
const BLOCKED: Duration = Duration::from_secs(30);

/// Hands batches over to one backend.
pub(super) struct Deliverer<B> {
    pub(super) backend: B,
    pub(super) config: DeliveryConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) producer: Arc<dyn Producer>,
    /// Name of the dead-letter topic.
    pub(super) dead_letters: Arc<str>,
    pub(super) troubles: Arc<Troubles>,
    /// By kind, the time of the newest record that the backend has acknowledged, milliseconds since the Unix epoch.
    pub(super) newest: Mutex<BTreeMap<Kind, Arc<AtomicI64>>>,
    /// Dead letters so far.
    pub(super) refused: AtomicU64,
    /// Items so far that the backend did not take, for good and without dead letters.
    pub(super) passed_over: AtomicU64,
}

/// What has come of the requests of a batch.
#[derive(Default)]
struct Outcome {
    /// Items of requests that are dealt with: refused for good.
    refused: Vec<Refused>,
    /// Items of those that are to be encoded anew.
    again: Vec<Refused>,
    /// The first request that is not dealt with, and with it those behind it.
    stopped: Option<(usize, Stopped)>,
}

/// What is to be done about a request that cannot be stored as it is.
enum Stopped {
    /// It is to be encoded anew.
    Anew,
    /// Parts of it may be taken.
    Split { reason: &'static str, error: String },
}

/// Items that an answer names and that are not found in the batch.
fn not_found(items: &[Named]) -> Stopped {
    let (reason, error) =
        items.first().map_or(("refused", String::new()), |item| (item.reason, item.error.to_string()));
    Stopped::Split { reason, error }
}

impl<B: Backend> Deliverer<B> {
    /// Delivers the batches side by side, for as long as it takes.
    ///
    /// # Errors
    /// The bus takes no dead letters, and never will.
    pub(super) async fn deliver_all(&self, batches: Vec<Batch>) -> Result<(), BusError> {
        let parts = batches.into_iter().flat_map(|batch| self.backend.divide(batch));
        try_join_all(parts.map(|part| self.deliver(part))).await.map(|_| ())
    }

    async fn deliver(&self, batch: Batch) -> Result<(), BusError> {
        let trouble = self.troubles.begin();
        // Those before a part that is taken apart are dealt with before those behind it.
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            let encoded = self.backend.encode(&batch);
            let Outcome { refused, again, stopped } = self.hand_over(&batch, &encoded, &trouble).await;
            let again = |batch: &Batch| (!again.is_empty()).then(|| batch.only(&again));
            let Some((at, stopped)) = stopped else {
                self.settled(&batch, &encoded, &refused, &trouble).await?;
                if !encoded.requests.is_empty() {
                    self.note_ages(&batch);
                }
                left.extend(again(&batch));
                continue;
            };
            let rest = match self.not_sent(&batch, &encoded, at) {
                Some(rest) => {
                    self.settled(&batch, &encoded, &refused, &trouble).await?;
                    left.extend(again(&batch));
                    rest
                }
                None => batch,
            };
            left.extend(self.parts(rest, stopped, &trouble).await?);
        }
        Ok(())
    }

    /// What the requests from the `at`-th on hold, where others are stored and it can be told from them.
    fn not_sent(&self, batch: &Batch, encoded: &Encoded<B::Request>, at: usize) -> Option<Batch> {
        let named = (at > 0).then(|| self.backend.named(&encoded.requests[at..])).flatten()?;
        self.backend.locate(batch, &named).map(|items| batch.only(&items))
    }

    /// What is sent instead of a batch that cannot be stored as it is, the last first. A single item becomes a dead letter.
    async fn parts(&self, batch: Batch, stopped: Stopped, trouble: &Trouble) -> Result<Vec<Batch>, BusError> {
        let Stopped::Split { reason, error } = stopped else { return Ok(vec![batch]) };
        if let Some([first, second]) = batch.split() {
            return Ok(vec![second, first]);
        }
        let refused = Refused { record: 0, value: None, items: batch.items(), reason, error };
        self.refuse(&batch, &[refused], trouble).await?;
        Ok(Vec::new())
    }

    /// Attempts until the backend has said what becomes of each request.
    async fn hand_over(&self, batch: &Batch, encoded: &Encoded<B::Request>, trouble: &Trouble) -> Outcome {
        let mut outcome = Outcome::default();
        for (at, request) in encoded.requests.iter().enumerate() {
            let stopped = |outcome, stopped| Outcome { stopped: Some((at, stopped)), ..outcome };
            let mut pace = Backoff::new(self.config.retry.initial.0, self.config.retry.max.0);
            let mut blocked = Backoff::new(self.config.retry.initial.0, BLOCKED);
            for attempt in 0.. {
                let pause = match self.attempt(request, attempt).await {
                    Answer::Stored => {
                        trouble.stored();
                        break;
                    }
                    Answer::StoredExcept { refused, again } => {
                        let located = [&refused, &again].map(|items| self.backend.locate(batch, items));
                        let [Some(for_good), Some(once_more)] = located else {
                            return stopped(outcome, not_found(&refused));
                        };
                        outcome.refused.extend(for_good);
                        outcome.again.extend(once_more);
                        trouble.stored();
                        break;
                    }
                    Answer::Known { reason } => {
                        self.pass_over(reason, 1);
                        break;
                    }
                    Answer::PartlyStored { rejected, error } => {
                        tracing::warn!(component = self.backend.name(), rejected, error, "the backend rejected items");
                        self.pass_over("rejected", rejected);
                        break;
                    }
                    Answer::Refused { reason, error } => return stopped(outcome, Stopped::Split { reason, error }),
                    Answer::Otherwise { reason, error } => {
                        self.failed(trouble, (reason, &error), None);
                        return stopped(outcome, Stopped::Anew);
                    }
                    Answer::Later { reason, error, after } => {
                        self.failed(trouble, (reason, &error), None);
                        pace.next(after)
                    }
                    Answer::Blocked { reason, error } => {
                        self.failed(trouble, (reason, &error), Some(reason));
                        blocked.next(None)
                    }
                };
                tokio::time::sleep(pause).await;
            }
            trouble.over();
        }
        outcome
    }

    fn pass_over(&self, reason: &'static str, items: u64) {
        self.count(&self.metrics.dropped_items, reason, items);
        self.passed_over.fetch_add(items, Ordering::Relaxed);
    }

    async fn attempt(&self, request: &B::Request, attempt: u32) -> Answer {
        let limit = self.config.timeout.0;
        timeout(limit, self.backend.attempt(request, attempt)).await.unwrap_or_else(|_| Answer::Later {
            reason: "timeout",
            error: format!("no answer within {limit:?}"),
            after: None,
        })
    }

    fn failed(&self, trouble: &Trouble, (reason, error): (&'static str, &str), blocked: Option<&'static str>) {
        let component = self.backend.name();
        tracing::debug!(component, reason, error, "an attempt failed");
        self.metrics.retries.get_or_create(&ReasonLabels { component, reason }).inc();
        trouble.failed(error, blocked);
    }

    /// All that could be stored of a batch is, or of it the requests that have been sent; these items of them are refused.
    async fn settled(
        &self,
        batch: &Batch,
        encoded: &Encoded<B::Request>,
        refused: &[Refused],
        trouble: &Trouble,
    ) -> Result<(), BusError> {
        self.refuse(batch, refused, trouble).await?;
        self.refuse(batch, &encoded.refused, trouble).await?;
        encoded.dropped.iter().for_each(|(reason, items)| self.count(&self.metrics.dropped_items, reason, *items));
        encoded.changed.iter().for_each(|(change, items)| self.count(&self.metrics.changed_items, change, *items));
        Ok(())
    }

    fn note_ages(&self, batch: &Batch) {
        let labels = ComponentLabels { component: self.backend.name(), signal: batch.kind.as_str() };
        let ages = self.metrics.delivery_age_seconds.get_or_create_owned(&labels);
        let now_ms = now_ms();
        for record in &batch.records {
            ages.observe(now_ms.saturating_sub(record.timestamp_ms).max(0) as f64 / 1000.0);
        }
        let newest_ms = batch.records.iter().map(|record| record.timestamp_ms).max().unwrap_or_default();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.entry(batch.kind).or_default().fetch_max(newest_ms, Ordering::Relaxed);
    }

    fn count(&self, family: &Family<ReasonLabels, Counter>, reason: &'static str, items: u64) {
        family.get_or_create(&ReasonLabels { component: self.backend.name(), reason }).inc_by(items);
    }

    /// Publishes dead letters, for as long as it takes.
    async fn refuse(&self, batch: &Batch, refused: &[Refused], trouble: &Trouble) -> Result<(), BusError> {
        let mut pace = Backoff::new(self.config.retry.initial.0, BLOCKED);
        for refused in refused {
            let Some(record) = batch.records.get(refused.record) else { continue };
            let value = refused.value.clone().or_else(|| record.value.clone());
            let record = Received { value, ..record.clone() };
            let mut short = false;
            loop {
                match self.publish(&record, refused, short).await {
                    Ok(()) => break,
                    Err(BusError::TooLarge { .. }) if !short => short = true,
                    Err(error) => match error.class() {
                        ErrorClass::Fatal => return Err(error),
                        class => {
                            let asked = if let ErrorClass::Transient(asked) = class { asked } else { None };
                            self.failed(trouble, ("dead_letter", &error.to_string()), None);
                            tokio::time::sleep(pace.next(asked)).await;
                        }
                    },
                }
            }
            self.count(&self.metrics.dead_letters, refused.reason, 1);
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        trouble.over();
        Ok(())
    }

    /// One attempt. The topic may have been made anew since the last one, with another number of partitions.
    async fn publish(&self, record: &Received, refused: &Refused, short: bool) -> Result<(), BusError> {
        let partitions = self.producer.partitions(&self.dead_letters).await?.max(1);
        let Refused { reason, error, items, .. } = refused;
        let refusal = Refusal { component: self.backend.name(), reason, error, time_ms: now_ms() };
        let mut letter: Record = dead_letter::dead_letter(record, Arc::clone(&self.dead_letters), partitions, refusal);
        letter.headers.set(HEADER_ITEMS, items.to_string());
        if short {
            dead_letter::shorten(&mut letter);
        }
        self.producer.send(vec![letter]).await
    }
}
