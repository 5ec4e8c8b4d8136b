//! Kubernetes objects: the records of the compacted topic `objects`.
//!
//! The key is `cluster/kind/uid`, the value a small JSON object, absent (a tombstone) once the object is deleted.
//! Neither uids nor kinds hold a slash, so keys are read from their end, and names of clusters may hold any. Fields
//! unknown here are ignored, so that later versions can add some; what is empty is left out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Kinds of objects that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// A namespace.
    Namespace,
    /// A Deployment.
    Deployment,
    /// A ReplicaSet.
    ReplicaSet,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A Job.
    Job,
    /// A CronJob.
    CronJob,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::Node,
        Self::Namespace,
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::CronJob,
    ];

    /// Its name in keys and values, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Deployment => "deployment",
            Self::ReplicaSet => "replicaset",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
            Self::CronJob => "cronjob",
        }
    }

    /// The kind of a name, in lower case or as Kubernetes spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name))
    }
}

/// Key of an object's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey<'a> {
    /// Name of the cluster; may hold slashes.
    pub cluster: &'a str,
    /// What the object is.
    pub kind: Kind,
    /// Its uid, which no other object of the cluster ever has.
    pub uid: &'a str,
}

impl<'a> ObjectKey<'a> {
    /// A key of those parts.
    ///
    /// # Errors
    /// [`ObjectError::Key`] for an empty cluster, and for a uid that is empty or holds a slash.
    pub fn new(cluster: &'a str, kind: Kind, uid: &'a str) -> Result<Self, ObjectError> {
        let key = Self { cluster, kind, uid };
        let fault = |reason| Err(ObjectError::Key { key: key.to_string(), reason });
        match (cluster, uid) {
            ("", _) => fault("the name of the cluster is empty"),
            (_, "") => fault("the uid is empty"),
            _ if uid.contains('/') => fault("the uid holds a slash"),
            _ => Ok(key),
        }
    }

    /// Reads a record's key.
    ///
    /// # Errors
    /// [`ObjectError::Kind`] for a kind that this version does not know, [`ObjectError::Key`] for what is no key.
    pub fn parse(key: &'a [u8]) -> Result<Self, ObjectError> {
        let fault = |reason| ObjectError::Key { key: String::from_utf8_lossy(key).into_owned(), reason };
        let text = std::str::from_utf8(key).map_err(|_| fault("it is not UTF-8"))?;
        let mut parts = text.rsplitn(3, '/');
        let (Some(uid), Some(kind), Some(cluster)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(fault("it has fewer than three parts"));
        };
        let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = known.ok_or_else(|| ObjectError::Kind { key: text.into(), kind: kind.into() })?;
        Self::new(cluster, kind, uid)
    }
}

impl fmt::Display for ObjectKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.kind.as_str(), self.uid)
    }
}

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its namespace; empty for nodes and namespaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its uid, as in the key.
    pub uid: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Those of its annotations that the producer is told to keep.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Addresses of a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// Whether a pod uses the network of its node, whose addresses are then its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub host_network: bool,
    /// Whether all containers of a pod have ended for good (phase `Succeeded` or `Failed`): others may have its
    /// addresses by now.
    #[serde(default, skip_serializing_if = "is_false")]
    pub finished: bool,
    /// Name of a pod's node, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The object that controls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Images of a pod's containers, one for each; those of init containers are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// When it was created, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<i64>,
    /// When the kubelet took a pod on, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// Version of the object, as the API server gives it; not to be compared with that of another object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
}

/// The object that controls another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its kind as Kubernetes spells it, e.g. `ReplicaSet`; any, not only a [`Kind`].
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Object {
    /// An object of which nothing else is known.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>, uid: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            namespace: namespace.into(),
            uid: uid.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ips: Vec::new(),
            host_network: false,
            finished: false,
            node: None,
            owner: None,
            images: Vec::new(),
            created_ms: None,
            started_ms: None,
            resource_version: String::new(),
        }
    }

    /// Its record's value. The same object gives the same bytes.
    ///
    /// # Errors
    /// [`ObjectError::Value`], which no object causes.
    pub fn encode(&self) -> Result<Vec<u8>, ObjectError> {
        serde_json::to_vec(self).map_err(|error| ObjectError::Value { reason: error.to_string() })
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// [`ObjectError::Value`] for what is no JSON, lacks a field that each object has, or has one of another type.
    pub fn decode(value: &[u8]) -> Result<Self, ObjectError> {
        serde_json::from_slice(value).map_err(|error| ObjectError::Value { reason: error.to_string() })
    }

    /// Reads a record's value and checks it against the record's key.
    ///
    /// # Errors
    /// As [`Object::decode`], and [`ObjectError::Mismatch`].
    pub fn decode_for(key: &ObjectKey<'_>, value: &[u8]) -> Result<Self, ObjectError> {
        let object = Self::decode(value)?;
        let fault = |field, found: &str| ObjectError::Mismatch { key: key.to_string(), field, found: found.into() };
        if object.kind != key.kind {
            return Err(fault("kind", object.kind.as_str()));
        }
        if object.uid != key.uid {
            return Err(fault("uid", &object.uid));
        }
        Ok(object)
    }
}

/// Why a record is no object's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// A key of another form.
    #[error("the key `{key}` is not `cluster/kind/uid`: {reason}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A kind that this version does not know: a later one may.
    #[error("the key `{key}` is of kind `{kind}`, which this version does not know")]
    Kind {
        /// The key.
        key: String,
        /// The kind.
        kind: String,
    },
    /// A value of another form.
    #[error("the value is no object: {reason}")]
    Value {
        /// What is wrong with it, and where.
        reason: String,
    },
    /// A value that belongs to another key.
    #[error("the value under the key `{key}` has the {field} `{found}`")]
    Mismatch {
        /// The key.
        key: String,
        /// The field that differs.
        field: &'static str,
        /// What it holds.
        found: String,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
