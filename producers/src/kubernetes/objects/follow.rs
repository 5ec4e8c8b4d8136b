//! One kind of objects: listed, then watched.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::Backoff;
use afflux_schemas::objects::{Kind, Object};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::super::api::{Api, Change, ListQuery, Resource};
use super::super::config::{DEFAULT_PAGE, DEFAULT_WATCH_TIMEOUT, ObjectsConfig};
use super::super::error::ApiError;
use super::super::health::Board;
use super::super::{FIRST_RETRY, LAST_RETRY};
use super::decode::{Names, Seen};
use super::known::Uid;

/// How much longer than asked for a watch may last.
const GRACE: Duration = Duration::from_secs(15);
/// Watches in a row that end early and bring nothing before the kind is listed again.
const MOST_EMPTY: u32 = 3;

/// What has become of objects.
pub(super) enum Update {
    Applied(Box<Object>),
    Deleted {
        kind: Kind,
        uid: Uid,
    },
    /// These are all that there are of a kind.
    Listed {
        kind: Kind,
        uids: HashSet<Uid>,
    },
}

/// Nobody takes updates any more.
struct Over;

/// Why a list or a watch did not come to its end.
enum Trouble {
    Api(ApiError),
    Over,
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Over> for Trouble {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// See the module.
pub(super) struct Follow {
    kind: Kind,
    stream: &'static str,
    resource: Resource,
    labels: Names,
    annotations: Names,
    api: Arc<Api>,
    board: Arc<Board>,
}

/// Name, group, version and plural of a kind.
fn resource(kind: Kind) -> (&'static str, Resource) {
    let (group, plural) = match kind {
        Kind::Pod => ("", "pods"),
        Kind::Node => ("", "nodes"),
        Kind::Namespace => ("", "namespaces"),
        Kind::Deployment => ("apps", "deployments"),
        Kind::ReplicaSet => ("apps", "replicasets"),
        Kind::StatefulSet => ("apps", "statefulsets"),
        Kind::DaemonSet => ("apps", "daemonsets"),
        Kind::Job => ("batch", "jobs"),
        Kind::CronJob => ("batch", "cronjobs"),
    };
    let resource = Resource::new(group, "v1", plural);
    // Of a pod, addresses, node and images are needed as well.
    (plural, if kind == Kind::Pod { resource } else { resource.metadata() })
}

impl Follow {
    pub(super) fn new(kind: Kind, config: &ObjectsConfig, api: Arc<Api>, board: Arc<Board>) -> Self {
        let (stream, resource) = resource(kind);
        let (labels, annotations) = (Names::new(&config.labels), Names::new(&config.annotations));
        Self { kind, stream, resource, labels, annotations, api, board }
    }

    /// Goes on until nobody takes updates any more.
    pub(super) async fn run(self, updates: mpsc::Sender<Update>) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        // List while `None`, else watch from there.
        let mut from = None;
        let mut empty = 0;
        loop {
            let done = match &mut from {
                None => self.list(&updates).await.map(|version| from = Some(version)),
                Some(version) => self.watch(version, &mut empty, &mut backoff, &updates).await,
            };
            match done {
                Ok(()) => {
                    self.board.works(self.stream);
                    if empty >= MOST_EMPTY {
                        (from, empty) = (None, 0);
                    }
                }
                Err(Trouble::Over) => return,
                Err(Trouble::Api(ApiError::Gone)) => {
                    self.board.ended("expired");
                    from = None;
                    backoff.wait(None).await;
                }
                Err(Trouble::Api(error)) => {
                    self.board.ended("failed");
                    self.board.failed(self.stream, &error.to_string());
                    backoff.wait(error.retry_after()).await;
                    if error.is_about_access() {
                        self.api.renew();
                    }
                }
            }
        }
    }

    /// Everything that there is; its resource version.
    async fn list(&self, updates: &mpsc::Sender<Update>) -> Result<String, Trouble> {
        let (mut token, mut uids) = (String::new(), HashSet::new());
        loop {
            let query = ListQuery { limit: DEFAULT_PAGE, token: &token, exactly: "" };
            let page = self.api.list::<Seen>(&self.resource, &query).await?;
            for seen in page.items {
                uids.insert(Uid::new(&seen.metadata.uid));
                self.apply(seen, updates).await?;
            }
            if page.token.is_empty() {
                self.board.ended("listed");
                send(updates, Update::Listed { kind: self.kind, uids }).await?;
                return Ok(page.resource_version);
            }
            token = page.token;
        }
    }

    /// What changes, until the watch ends; `version` is raised with it.
    async fn watch(
        &self,
        version: &mut String,
        empty: &mut u32,
        backoff: &mut Backoff,
        updates: &mpsc::Sender<Update>,
    ) -> Result<(), Trouble> {
        let (begun, mut heard) = (Instant::now(), false);
        let until = begun + DEFAULT_WATCH_TIMEOUT + GRACE;
        let opening = self.api.watch(&self.resource, version, DEFAULT_WATCH_TIMEOUT);
        let late = |_| ApiError::Unreachable("no answer to `watch`".into());
        let mut lines = timeout_at(until, opening).await.map_err(late)??;
        self.board.works(self.stream);
        while let Ok(change) = timeout_at(until, lines.next::<Seen>()).await {
            let Some(change) = change? else { break };
            heard = true;
            backoff.reset();
            match change {
                Change::Applied(seen) => {
                    let reached = seen.metadata.resource_version.clone();
                    self.apply(seen, updates).await?;
                    *version = reached;
                }
                Change::Deleted(seen) => {
                    let (kind, uid) = (self.kind, Uid::new(&seen.metadata.uid));
                    send(updates, Update::Deleted { kind, uid }).await?;
                    *version = seen.metadata.resource_version;
                }
                Change::Bookmark(reached) => *version = reached,
            }
        }
        self.board.ended(if heard { "closed" } else { "empty" });
        let early = begun.elapsed() < DEFAULT_WATCH_TIMEOUT / 2;
        // Bookmarks come even where nothing happens; what says nothing at all for so long may have lost its history.
        *empty = match (heard, early) {
            (true, _) => 0,
            (false, true) => *empty + 1,
            (false, false) => MOST_EMPTY,
        };
        if early {
            backoff.wait(None).await;
        }
        Ok(())
    }

    async fn apply(&self, seen: Seen, updates: &mpsc::Sender<Update>) -> Result<(), Over> {
        if seen.metadata.uid.is_empty() {
            self.board.dropped("malformed");
            return Ok(());
        }
        let object = seen.keep(self.kind, &self.labels, &self.annotations);
        send(updates, Update::Applied(Box::new(object))).await
    }
}

async fn send(updates: &mpsc::Sender<Update>, update: Update) -> Result<(), Over> {
    updates.send(update).await.map_err(|_| Over)
}
