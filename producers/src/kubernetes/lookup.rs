//! Labels and annotations of the objects that events are about, for the rules that ask for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde::Deserialize;

use super::api::{Api, Resource};
use super::error::ApiError;
use super::event::Reference;
use super::filter::Metadata;

/// Objects that are remembered; all are asked for again when there are more.
const MOST: usize = 1024;

/// What has been looked up.
#[derive(Default)]
pub(super) struct Lookup {
    /// By API version and kind; `None` where the server knows none.
    resources: HashMap<(String, String), Option<Resource>>,
    objects: HashMap<String, Arc<Metadata>>,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Known>,
}

#[derive(Deserialize)]
struct Known {
    name: String,
    kind: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: ObjectMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectMeta {
    uid: String,
    labels: std::collections::BTreeMap<String, String>,
    annotations: std::collections::BTreeMap<String, String>,
}

impl Lookup {
    /// Those of an object; none where it does not exist any more or is not to be seen.
    ///
    /// # Errors
    /// The server does not answer, or cannot.
    pub(super) async fn metadata(&mut self, api: &Api, object: &Reference) -> Result<Arc<Metadata>, ApiError> {
        // Whoever writes an event chooses these, and they become a path.
        let group = object.api_version.split('/').all(|part| part.is_empty() || is_name(part));
        let names = [&object.namespace, &object.name].into_iter().all(|name| name.is_empty() || is_name(name));
        if object.uid.is_empty() || object.kind.is_empty() || object.name.is_empty() || !group || !names {
            return Ok(Arc::default());
        }
        if let Some(known) = self.objects.get(&object.uid) {
            return Ok(Arc::clone(known));
        }
        let found = match self.ask(api, object).await {
            Ok(found) => found,
            Err(ApiError::NotFound(_)) => Metadata::default(),
            Err(error) if error.is_about_access() => return Err(error),
            // Of an aggregated API that is down, say: one object must not hold up the cluster.
            Err(error) => {
                tracing::warn!(%error, "labels of an object cannot be looked up; rules take it to have none");
                Metadata::default()
            }
        };
        if self.objects.len() >= MOST {
            self.objects.clear();
        }
        if self.resources.len() >= MOST {
            self.resources.clear();
        }
        let found = Arc::new(found);
        self.objects.insert(object.uid.clone(), Arc::clone(&found));
        Ok(found)
    }

    async fn ask(&mut self, api: &Api, object: &Reference) -> Result<Metadata, ApiError> {
        let Some(resource) = self.resource(api, object).await? else { return Ok(Metadata::default()) };
        let body = api.get(&resource, &object.namespace, &object.name).await?;
        let wrong = |error: serde_json::Error| ApiError::Protocol(format!("an object: {error}"));
        let ObjectMeta { uid, labels, annotations } = serde_json::from_slice::<Object>(&body).map_err(wrong)?.metadata;
        // Another one may have its name by now.
        Ok(if uid == object.uid { Metadata { labels, annotations } } else { Metadata::default() })
    }

    /// The resource of a kind.
    async fn resource(&mut self, api: &Api, object: &Reference) -> Result<Option<Resource>, ApiError> {
        let key = (object.api_version.clone(), object.kind.clone());
        let Entry::Vacant(entry) = self.resources.entry(key) else {
            return Ok(self.resources.get(&(object.api_version.clone(), object.kind.clone())).cloned().flatten());
        };
        let version = if object.api_version.is_empty() { "v1" } else { &object.api_version };
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let wrong = |error: serde_json::Error| ApiError::Protocol(format!("a list of resources: {error}"));
        let known: Resources = serde_json::from_slice(&api.discover(&path).await?).map_err(wrong)?;
        let named = known.resources.iter().find(|known| known.kind == object.kind && !known.name.contains('/'));
        let found = named.map(|known| Resource::new(group, version, &known.name).metadata());
        Ok(entry.insert(found).clone())
    }
}

/// Whether a text may be a name of an object, a namespace, a group or a version.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    !["", ".", ".."].contains(&text) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_are_no_paths() {
        for name in ["web-1", "a.b:c_d", "V1"] {
            assert!(is_name(name), "{name}");
        }
        for text in ["", ".", "..", "a/b", "?watch=1", "a b", "a%2f", "ä", "a\n", "#"] {
            assert!(!is_name(text), "{text}");
        }
    }
}
