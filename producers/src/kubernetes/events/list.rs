//! What there is.

use std::time::Duration;

use afflux_runtime::dead_letter::now_ms;
use serde_json::Value;

use super::super::api::ListQuery;
use super::super::encode::Gap;
use super::super::error::ApiError;
use super::super::event::Observation;
use super::super::progress::{Verdict, decimal, uid_hash};
use super::super::select::Selection;
use super::batch::Batch;
use super::session::{Session, Step, Trouble, Why};
use super::watch::{GRACE, MOST_EMPTY};

/// How often a list is begun again because it took longer than its pages are kept; each time with larger pages.
const TRIES: u32 = 4;
/// Factor by which pages grow.
const LARGER: usize = 8;

impl Why {
    /// The word in gaps and metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::Cut => "cut",
            Self::RolledBack => "rolled_back",
        }
    }
}

impl Session<'_> {
    /// Publishes what a list brings that is not published, in the order in which it happened.
    ///
    /// Watch, or List(Cut) where it was more than is held.
    pub(super) async fn list(&mut self, why: Why) -> Result<Step, Trouble> {
        let begun_ms = now_ms();
        // Nothing but what a list that failed could not read.
        self.batch = Batch::default();
        let (version, selection) = self.collect().await?;
        self.of.board.ended("listed");
        let before = self.progress.floor().map(str::to_owned);
        if let (Some(before), Some(now)) = (before.as_deref().and_then(decimal), decimal(&version))
            && now < before
        {
            tracing::warn!(before, now, "the cluster's history has begun anew; everything that there is is published");
            self.progress.forget();
            return Ok(Step::List(Why::RolledBack));
        }
        let quiet_ms = begun_ms.saturating_sub(self.progress.since_ms());
        let explained = u128::try_from(quiet_ms).is_ok_and(|quiet| quiet < self.explained().as_millis());
        if is_gap(why, before.as_deref(), &version, !selection.any_new && explained) {
            // Whatever the list does not show happened before it was read.
            self.gap(why, before, now_ms(), &version);
        }
        let cut = selection.is_cut();
        for event in selection.into_events() {
            if decimal(&event.resource_version).is_some() {
                let event_ms = i64::try_from(event.time / 1_000_000).unwrap_or_default().min(begun_ms);
                self.progress.rest_at(&event.resource_version, event_ms);
            }
            self.publish(event);
            if self.batch.is_full() {
                self.flush().await?;
            }
        }
        if cut {
            self.flush().await?;
            return Ok(Step::List(Why::Cut));
        }
        self.progress.reached(&version, begun_ms);
        self.flush().await?;
        Ok(Step::Watch)
    }

    /// For how long nothing may have come of a cluster in which nothing happens: watches that brought nothing have to have
    /// been open all that time. Of what came and went before that a list shows nothing.
    fn explained(&self) -> Duration {
        (self.of.config.watch_timeout.0 + GRACE) * (MOST_EMPTY + 1)
    }

    fn gap(&mut self, why: Why, before: Option<String>, to_ms: i64, version: &str) {
        let gap = Gap {
            from_ms: self.progress.since_ms(),
            to_ms,
            after: before.unwrap_or_default(),
            until: version.to_owned(),
            reason: why.as_str(),
        };
        tracing::warn!(cluster = &*self.of.cluster.name, ?gap, "events may be missing");
        self.of.board.ended("gap");
        let record = self.target.gap(&gap, now_ms());
        self.batch.push_record(record);
    }

    /// Every page of a list, and its resource version.
    async fn collect(&mut self) -> Result<(String, Selection), ApiError> {
        let mut limit = self.of.config.page;
        for _ in 1..TRIES {
            match self.pages(limit).await {
                // It took longer than a list is kept.
                Err(ApiError::Gone) => limit = limit.saturating_mul(LARGER),
                done => return done,
            }
        }
        self.pages(0).await
    }

    async fn pages(&mut self, limit: usize) -> Result<(String, Selection), ApiError> {
        let mut selection = Selection::new(self.of.config.list_bytes.as_usize());
        let mut token = String::new();
        loop {
            let query = ListQuery { limit, token: &token, exactly: "" };
            let page = self.of.api.list::<Value>(&self.of.resource, &query).await?;
            for object in page.items {
                match Observation::read(object) {
                    Ok(event) => self.consider(event, &mut selection).await?,
                    Err((object, reason)) => self.refuse(&object, reason),
                }
            }
            if page.token.is_empty() {
                return Ok((page.resource_version, selection));
            }
            token = page.token;
        }
    }

    async fn consider(&mut self, event: Observation, selection: &mut Selection) -> Result<(), ApiError> {
        let verdict = self.progress.verdict(uid_hash(&event.uid), &event.resource_version);
        if verdict == Verdict::Published {
            return Ok(());
        }
        if verdict == Verdict::Uncomparable {
            self.of.board.ended("uncomparable");
        }
        selection.any_new = true;
        if self.passes(&event).await? {
            selection.insert(event);
        }
        Ok(())
    }

    /// Counts of the events that there were at that resource version.
    pub(super) async fn restore_counts(&mut self, version: &str) -> Result<(), ApiError> {
        if self.of.filter.needs_metadata() {
            // What the labels were then is not known.
            return Ok(());
        }
        let mut token = String::new();
        loop {
            let query = ListQuery { limit: self.of.config.page, token: &token, exactly: version };
            let page = self.of.api.list::<Value>(&self.of.resource, &query).await?;
            for event in page.items.into_iter().filter_map(|object| Observation::read(object).ok()) {
                if self.of.filter.passes(&event, &Default::default()) {
                    self.counts.restore(uid_hash(&event.uid), event.count);
                }
            }
            if page.token.is_empty() {
                self.counts.completed();
                return Ok(());
            }
            token = page.token;
        }
    }
}

/// Whether something may be missing between the last event that was published and a list.
fn is_gap(why: Why, before: Option<&str>, version: &str, nothing_new: bool) -> bool {
    match why {
        Why::First => false,
        // Nothing at all has happened in between.
        Why::Expired | Why::Stale if before == Some(version) => false,
        Why::Expired | Why::Cut | Why::RolledBack => true,
        // What was updated in between shows in what is new, unless it is long ago.
        Why::Stale => !nothing_new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_where_loss_cannot_be_excluded() {
        let of = |why, before, nothing_new| is_gap(why, before, "9", nothing_new);
        assert!(!of(Why::First, None, false), "nothing was promised");
        assert!(of(Why::Expired, Some("7"), true), "it may have come and gone");
        assert!(!of(Why::Expired, Some("9"), true), "nothing has happened");
        assert!(of(Why::Stale, Some("7"), false));
        assert!(!of(Why::Stale, Some("7"), true), "a quiet cluster");
        assert!(of(Why::Cut, Some("7"), true));
        assert!(of(Why::RolledBack, None, true));
    }
}
