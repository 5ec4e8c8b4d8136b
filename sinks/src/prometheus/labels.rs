//! The labels of series, encoded once for all series that share them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::ops::Range;

use afflux_schemas::otlp::common::KeyValueView;
use afflux_schemas::otlp::metrics::Labels;
use afflux_schemas::wire::Repeated;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::error::PrometheusError;
use super::names::{is_label_name, label_name};
use super::version::Version;

/// Resource attribute that names the cluster.
const CLUSTER: &str = "k8s.cluster.name";
/// The label of a metric's name.
pub(super) const NAME: &str = "__name__";
/// The label of a bucket's bound.
pub(super) const BOUND: &str = "le";
/// What stands before a label's name whose own name is taken.
const TAKEN: &str = "exported_";
/// Labels that mean something of their own, in series or exemplars.
const RESERVED: [&str; 3] = [NAME, BOUND, "span_id"];

/// Which labels series get besides their own.
#[derive(Clone, Debug, Default)]
pub(super) struct LabelSettings {
    /// Empty: none.
    pub(super) cluster_label: String,
    /// Empty: none.
    pub(super) tenant_label: String,
    pub(super) external: BTreeMap<String, String>,
}

impl LabelSettings {
    /// Checks these names, and that of the label with the trace id. Errors name the key below `section`.
    pub(super) fn check(&self, section: &'static str, trace_id_label: &str) -> Result<(), PrometheusError> {
        let given = |name: &'static str, label| (name, Some(label).filter(|label: &&str| !label.is_empty()));
        let named = [
            given("cluster_label", &*self.cluster_label),
            given("tenant_label", &*self.tenant_label),
            ("trace_id_label", Some(trace_id_label)),
        ];
        let external = self.external.keys().map(|name| ("external_labels", Some(&**name)));
        for (key, name) in named.into_iter().chain(external) {
            if let Some(name) = name.filter(|name| !is_label_name(name) || RESERVED.contains(name)) {
                return Err(PrometheusError::Label { section, key, name: name.to_owned() });
            }
        }
        if !self.tenant_label.is_empty() && self.tenant_label == self.cluster_label {
            return Err(PrometheusError::SameLabel { section, name: self.tenant_label.clone() });
        }
        Ok(())
    }

    /// The labels of a series but for its name and bound: sorted, each once, none empty. Two labels that become one
    /// have their values joined, the first attribute's first.
    pub(super) fn pairs<'a>(
        &'a self,
        resource: &'a [u8],
        labels: &'a Labels,
        tenant: &'a str,
    ) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        let mut attributes = Repeated::<KeyValueView<'a>>::new(resource, 1);
        let cluster = attributes.find(|attribute| attribute.key() == CLUSTER);
        let cluster = cluster.and_then(|attribute| attribute.value().as_str()).unwrap_or_default();
        let given = [(&*self.cluster_label, cluster), (&*self.tenant_label, tenant)];
        let given = given.into_iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let taken = |name: &str| name == BOUND || given.clone().any(|(taken, _)| taken == name);
        let own = labels.pairs().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
            let mut name = label_name(name);
            if taken(&name) {
                name = Cow::Owned(format!("{TAKEN}{name}"));
            }
            (!name.is_empty() && name != NAME).then_some((name, Cow::Borrowed(value)))
        });
        let mut pairs: Vec<_> = own.chain(given.clone().map(|(n, v)| (n.into(), v.into()))).collect();
        for (name, value) in self.external.iter().filter(|(_, value)| !value.is_empty()) {
            if pairs.iter().all(|(known, _)| known != name) {
                pairs.push((name.into(), value.into()));
            }
        }
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(name, value), (first, values)| {
            let same = name == first;
            if same {
                *values = format!("{values};{value}").into();
            }
            same
        });
        pairs
    }
}

/// The encoded labels of a series, with the places of its name and bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set<'s> {
    /// Labels before the name's.
    pub(super) first: &'s [u8],
    /// Labels between the name's and the bound's.
    pub(super) middle: &'s [u8],
    /// Labels behind the bound's.
    pub(super) last: &'s [u8],
}

impl Set<'_> {
    pub(super) const fn len(&self) -> usize {
        self.first.len() + self.middle.len() + self.last.len()
    }
}

/// The sets of labels of a request. The metrics of one set are many, and so are buckets.
#[derive(Debug, Default)]
pub(super) struct Sets {
    bytes: Vec<u8>,
    sets: Vec<Entry>,
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    /// Resource and labels as they came.
    key: (Range<usize>, Range<usize>),
    /// Where the encoded labels begin, where name and bound belong, and where they end.
    encoded: [usize; 4],
}

impl Sets {
    /// The position of a set of labels, all of one tenant.
    pub(super) fn of<V: Version>(
        &mut self,
        version: &mut V,
        settings: &LabelSettings,
        (resource, labels, tenant): (&[u8], &Labels, &str),
    ) -> usize {
        let hash = self.hasher.hash_one((resource, labels.as_bytes()));
        let Self { bytes, sets, known, .. } = self;
        let same = |at: &u32| {
            let Entry { key: (theirs, own), hash: other, .. } = &sets[*at as usize];
            *other == hash && bytes[theirs.clone()] == *resource && bytes[own.clone()] == *labels.as_bytes()
        };
        if let Some(&at) = known.find(hash, same) {
            return at as usize;
        }
        let at = sets.len();
        let start = bytes.len();
        bytes.extend_from_slice(resource);
        let middle = bytes.len();
        bytes.extend_from_slice(labels.as_bytes());
        let mut encoded = [bytes.len(); 4];
        for (name, value) in settings.pairs(resource, labels, tenant) {
            version.label(bytes, &name, &value);
            for (place, limit) in [(1, NAME), (2, BOUND)] {
                if *name < *limit {
                    encoded[place] = bytes.len();
                }
            }
        }
        encoded[3] = bytes.len();
        sets.push(Entry { hash, key: (start..middle, middle..encoded[0]), encoded });
        known.insert_unique(hash, at as u32, |at| sets[*at as usize].hash);
        at
    }

    /// The set at a position.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Set<'_> {
        let [start, name, bound, end] = self.sets[at].encoded;
        Set { first: &self.bytes[start..name], middle: &self.bytes[name..bound], last: &self.bytes[bound..end] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LabelSettings {
        let external = [("region".to_owned(), "eu".to_owned()), ("zone".to_owned(), String::new())].into();
        LabelSettings { cluster_label: "cluster".into(), tenant_label: String::new(), external }
    }

    fn resource(cluster: &str) -> Vec<u8> {
        let labels = Labels::new([("other", "x"), (CLUSTER, cluster)]);
        let mut out = Vec::new();
        labels.messages().for_each(|message| afflux_schemas::wire::put_len_field(&mut out, 1, message));
        out
    }

    fn of(settings: &LabelSettings, cluster: &str, pairs: &[(&str, &str)], tenant: &str) -> Vec<(String, String)> {
        let (resource, labels) = (resource(cluster), Labels::new(pairs.iter().copied()));
        let pairs = settings.pairs(&resource, &labels, tenant).into_iter();
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn labels_are_sorted_and_each_is_there_once_and_none_is_empty() {
        let given = [("span_name", "GET \"/\" ä\n"), ("service.name", "cart"), ("empty", ""), ("Zone", "a")];
        let expected = [("Zone", "a"), ("cluster", "eu-1"), ("region", "eu"), ("service_name", "cart"), given[0]];
        assert_eq!(of(&settings(), "eu-1", &given, "shop"), owned(&expected));
        let clash = [("a.b", "1"), ("a_b", "2"), ("a/b", "3")];
        assert_eq!(of(&settings(), "", &clash, ""), owned(&[("a_b", "1;2;3"), ("region", "eu")]));
    }

    #[test]
    fn labels_that_would_hide_others_are_called_otherwise() {
        let given = [("cluster", "mine"), ("le", "1"), ("__name__", "x"), ("region", "us"), ("tenant", "t")];
        let expected = [
            ("cluster", "eu-1"),
            ("exported_cluster", "mine"),
            ("exported_le", "1"),
            ("region", "us"),
            ("tenant", "t"),
        ];
        assert_eq!(of(&settings(), "eu-1", &given, "shop"), owned(&expected));
        let told = LabelSettings { tenant_label: "tenant".into(), ..settings() };
        let expected = [("exported_tenant", "t"), ("region", "eu"), ("tenant", "shop")];
        assert_eq!(of(&told, "", &given[4..], "shop"), owned(&expected));
    }
}
