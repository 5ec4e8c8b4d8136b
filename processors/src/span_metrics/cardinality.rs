//! Bounds on series: how many label sets a tenant may have, and how many values a label.
//!
//! A value beyond its label's limit becomes [`OVERFLOW_VALUE`]; a label set beyond the tenant's limit counts in the
//! tenant's one overflow series, whose only label is [`OVERFLOW_LABEL`]. So every item counts somewhere, and totals are
//! right whatever the limits are. Whoever has a series first keeps it until it is idle.
//!
//! # Memory
//! Labels are told apart by hashes of 128 bits, so their length does not matter. A label set takes some 150 bytes and 4
//! for each label, a distinct value some 100, and a tenant up to 600 KiB for what [`Governor::report`] estimates. What is
//! beyond the limits takes nothing here. With `dry_run` nothing is limited, memory included.
//!
//! Whoever keeps tickets beside label sets as they came has to bound that by itself, as there can be any number of those
//! for one series. A ticket may be dropped at any time: admitting the label set again gives the same.

mod limiter;
mod report;
mod sketch;

use std::time::Duration;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::fold;
use limiter::{Handle, Limiter, Limits};
pub use report::{FoldedName, LabelReport, Report, TenantReport};

/// Stands for the values of a label that are beyond its limit, as in Tempo.
pub const OVERFLOW_VALUE: &str = "__cardinality_overflow__";
/// The only label of the overflow series, as in Tempo.
pub const OVERFLOW_LABEL: (&str, &str) = ("metric_overflow", "true");

/// `cardinality`: bounds on series. 0 means no limit everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CardinalityConfig {
    /// Only report what the limits would do.
    pub dry_run: bool,
    /// Label sets that a tenant may have at a time. What is beyond counts in one series, `metric_overflow="true"`.
    pub max_series: u64,
    /// Distinct values that a label may have at a time, for each tenant. What is beyond becomes
    /// `__cardinality_overflow__`.
    pub max_values_per_label: u64,
    /// Bytes of a label's name; the rest is cut off.
    pub max_label_name_length: u64,
    /// Bytes of a label's value; the rest is cut off.
    pub max_label_value_length: u64,
    /// Whether ids and numbers in span names become placeholders, as in `/users/{id}`.
    pub fold_names: bool,
    /// A label set with no items for this long is forgotten, and makes room. 0s: never.
    pub idle: Period,
}

impl Default for CardinalityConfig {
    fn default() -> Self {
        Self {
            dry_run: false,
            max_series: 100_000,
            max_values_per_label: 10_000,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            fold_names: true,
            idle: Period(Duration::from_secs(15 * 60)),
        }
    }
}

/// Names a series as long as it is not forgotten; afterwards, nothing has this name again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    slot: u32,
    generation: u32,
}

/// What a label set as it came is admitted to. To be kept beside it, for [`Governor::touch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    handle: Handle,
    /// What the limits would do, with `dry_run`.
    shadow: Option<Handle>,
}

impl Ticket {
    /// The series that items of the label set belong to. Label sets that become the same have the same.
    pub fn series(&self) -> Series {
        self.handle.series
    }
}

/// Where the items of a label set belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Into the series of the labels as they stand now.
    Own(Ticket),
    /// Into the overflow series of the tenant; the labels count no longer.
    Overflow(Ticket),
}

impl Verdict {
    /// The ticket.
    pub fn ticket(&self) -> Ticket {
        match self {
            Self::Own(ticket) | Self::Overflow(ticket) => *ticket,
        }
    }
}

/// What limits have made of a label set, as a word that items are counted by: `overflow`, `capped`, or nothing.
pub fn limited(verdict: &Verdict, labels: &[(usize, String)]) -> Option<&'static str> {
    match verdict {
        Verdict::Overflow(_) => Some("overflow"),
        Verdict::Own(_) => labels.iter().any(|(_, value)| value == OVERFLOW_VALUE).then_some("capped"),
    }
}

/// Decides which label sets are series. Its clock is the greatest time that it was given, and nothing else; the same
/// calls have the same answers.
#[derive(Debug)]
pub struct Governor {
    config: CardinalityConfig,
    labels: Vec<String>,
    /// Position of the label that holds the name of the span.
    name: Option<usize>,
    limiter: Limiter,
    shadow: Option<Limiter>,
}

impl Governor {
    /// No label sets yet. `labels` are the names that positions in label sets stand for; the one at `name` holds the
    /// name of the span, which is folded.
    pub fn new<S: Into<String>>(
        config: CardinalityConfig,
        labels: impl IntoIterator<Item = S>,
        name: Option<usize>,
    ) -> Self {
        let max = if config.dry_run { 0 } else { config.max_label_name_length };
        let mut labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        labels.iter_mut().for_each(|label| truncate(label, max));
        let idle_ms = i64::try_from(config.idle.0.as_millis()).unwrap_or(i64::MAX);
        let limits = Limits { series: config.max_series, values: config.max_values_per_label };
        let limiter = |limits| Limiter::new(limits, idle_ms, labels.len());
        let (limiter, shadow) = if config.dry_run {
            (limiter(Limits { series: 0, values: 0 }), Some(limiter(limits)))
        } else {
            (limiter(limits), None)
        };
        Self { config, labels, name, limiter, shadow }
    }

    /// Names of the labels, as they are to be written.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Decides about a label set: positions of labels, each at most once and always in the same order, and their
    /// values. Values are changed to what is to be written; empty ones are as good as absent.
    ///
    /// It is to be called when a label set comes for the first time, and when [`touch`](Self::touch) says so. It counts
    /// no items. `now_ms` is in milliseconds.
    pub fn admit(&mut self, tenant: &str, labels: &mut [(usize, String)], now_ms: i64) -> Verdict {
        let Some(shadow) = &mut self.shadow else {
            let folded = prepare(&self.config, self.name, labels);
            let (handle, overflow) = self.limiter.admit(tenant, labels, folded, now_ms);
            let ticket = Ticket { handle, shadow: None };
            return if overflow { Verdict::Overflow(ticket) } else { Verdict::Own(ticket) };
        };
        let (handle, _) = self.limiter.admit(tenant, labels, None, now_ms);
        let mut limited = labels.to_vec();
        let folded = prepare(&self.config, self.name, &mut limited);
        let (shadow, _) = shadow.admit(tenant, &mut limited, folded, now_ms);
        Verdict::Own(Ticket { handle, shadow: Some(shadow) })
    }

    /// Counts items of a label set that was admitted.
    ///
    /// Where it answers false, nothing was counted, and the label set is to be admitted anew: its series has been
    /// forgotten, or a limit held it back and there is room now.
    #[must_use]
    pub fn touch(&mut self, ticket: Ticket, items: u64, now_ms: i64) -> bool {
        let mut limiters = [Some((&mut self.limiter, ticket.handle)), self.shadow.as_mut().zip(ticket.shadow)];
        if !limiters.iter().flatten().all(|(limiter, handle)| limiter.is_valid(*handle)) {
            return false;
        }
        limiters.iter_mut().flatten().for_each(|(limiter, handle)| limiter.touch(*handle, items, now_ms));
        true
    }

    /// Forgets series that have been idle for too long, and names them, in no order of meaning.
    ///
    /// All are looked at once in a quarter of `idle`, but not more often than once a second nor more rarely than once a
    /// minute; calls in between cost nothing. A series may stay that much longer than `idle`.
    pub fn expire(&mut self, now_ms: i64) -> Vec<Series> {
        if let Some(shadow) = &mut self.shadow {
            shadow.expire(now_ms);
        }
        self.limiter.expire(now_ms)
    }

    /// What there is and what the limits do, or would do with `dry_run`.
    pub fn report(&self) -> Report {
        let judge = self.shadow.as_ref().unwrap_or(&self.limiter);
        let mut tenants: Vec<_> = judge.tenants().map(|tenant| tenant.report(&self.config, &self.labels)).collect();
        for tenant in &mut tenants {
            tenant.series = self.limiter.series(&tenant.tenant);
        }
        tenants.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Report { dry_run: self.config.dry_run, tenants }
    }
}

/// A span's name that was folded, and its template.
struct Folded {
    name: String,
    template: String,
}

/// Folds and cuts values.
fn prepare(config: &CardinalityConfig, name: Option<usize>, labels: &mut [(usize, String)]) -> Option<Folded> {
    let mut folded = None;
    for (label, value) in labels {
        if config.fold_names
            && Some(*label) == name
            && let Some(template) = fold(value)
        {
            folded = Some(Folded { name: std::mem::replace(value, template.clone()), template });
        }
        truncate(value, config.max_label_value_length);
    }
    folded
}

/// Cuts a text after that many bytes, at the boundary of a character; 0 means no limit.
fn truncate(text: &mut String, max: u64) {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    if max > 0 && text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

#[cfg(test)]
mod tests;
