//! Names of structured metadata, each sanitised once per batch.

use afflux_schemas::wire::put_len_field;
use hashbrown::HashMap;

use super::labels::EXTRACTED;
use super::policy::{Policy, Source};

/// A name of structured metadata, by number.
pub(super) type NameId = u32;

/// What entries have by themselves; the numbers of their names are those of this list.
pub(super) const OWN: [&str; 8] = [
    "trace_id",
    "span_id",
    "severity_text",
    "severity_number",
    "event_name",
    "flags",
    "dropped_attributes_count",
    "level",
];

/// Numbers of [`OWN`].
pub(super) mod own {
    use super::NameId;

    pub(crate) const TRACE_ID: NameId = 0;
    pub(crate) const SPAN_ID: NameId = 1;
    pub(crate) const SEVERITY_TEXT: NameId = 2;
    pub(crate) const SEVERITY_NUMBER: NameId = 3;
    pub(crate) const EVENT_NAME: NameId = 4;
    pub(crate) const FLAGS: NameId = 5;
    pub(crate) const DROPPED_ATTRIBUTES_COUNT: NameId = 6;
    pub(crate) const LEVEL: NameId = 7;
}

/// The name of a key that has neither letters nor digits.
const NAMELESS: &str = "key";

/// Attributes by which a line is known to come from a file.
const OF_FILES: [&[u8]; 3] = [b"log.file.path", b"log.file.name", b"log.iostream"];

/// Keys of attributes and the names that they get.
#[derive(Debug)]
pub(super) struct Names<'a> {
    policy: &'a Policy,
    by_key: HashMap<&'a [u8], u32>,
    keys: Vec<Key<'a>>,
    by_name: HashMap<Box<str>, NameId>,
    names: Vec<Name>,
    /// The key that stood in each place last: records of one source look alike.
    places: Vec<u32>,
}

/// Key of an attribute.
#[derive(Debug)]
pub(super) struct Key<'a> {
    key: &'a [u8],
    /// The name that it gets.
    pub(super) name: NameId,
    /// The labels that it may be the value of.
    pub(super) sources: &'a [Source],
    /// Whether it tells that a line comes from a file.
    pub(super) of_file: bool,
    /// The entry in which it was seen last.
    pub(super) seen: u32,
}

/// A name.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: Box<str>,
    /// As the first field of a pair.
    pub(super) field: Box<[u8]>,
    /// The entry in which it was seen last.
    pub(super) seen: u32,
    /// The scope in which it was seen last.
    pub(super) shared: u32,
}

impl<'a> Names<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        let mut names = Self {
            policy,
            by_key: HashMap::new(),
            keys: Vec::new(),
            by_name: HashMap::new(),
            names: Vec::new(),
            places: Vec::new(),
        };
        for own in OWN {
            names.of_key(own.as_bytes());
        }
        names
    }

    /// The key of the attribute in a place, by number.
    #[inline]
    pub(super) fn key(&mut self, place: usize, key: &'a [u8]) -> usize {
        if let Some(&last) = self.places.get(place)
            && self.keys[last as usize].key == key
        {
            return last as usize;
        }
        self.find(place, key)
    }

    fn find(&mut self, place: usize, key: &'a [u8]) -> usize {
        let found = match self.by_key.get(key) {
            Some(&known) => known,
            None => {
                let entry = Key {
                    key,
                    name: self.of_key(key),
                    sources: self.policy.sources(key),
                    of_file: OF_FILES.contains(&key),
                    seen: 0,
                };
                self.keys.push(entry);
                let added = self.keys.len() as u32 - 1;
                self.by_key.insert(key, added);
                added
            }
        };
        if self.places.len() <= place {
            self.places.resize(place + 1, found);
        }
        self.places[place] = found;
        found as usize
    }

    /// A key by its number.
    #[inline]
    pub(super) fn known(&mut self, key: usize) -> &mut Key<'a> {
        &mut self.keys[key]
    }

    /// A name by its number.
    #[inline]
    pub(super) fn name(&mut self, name: NameId) -> &mut Name {
        &mut self.names[name as usize]
    }

    /// The name that a key of an attribute gets: that of a label is told from it as Loki does in queries.
    pub(super) fn of_key(&mut self, key: &[u8]) -> NameId {
        let mut text = sanitized(key);
        if self.policy.has(&text) {
            text = with_suffix(&text, EXTRACTED);
        }
        self.of_text(&text)
    }

    /// The number of a name as it stands.
    pub(super) fn of_text(&mut self, text: &str) -> NameId {
        if let Some(&known) = self.by_name.get(text) {
            return known;
        }
        let mut field = Vec::with_capacity(text.len() + 2);
        put_len_field(&mut field, 1, text.as_bytes());
        let added = self.names.len() as NameId;
        self.names.push(Name { text: text.into(), field: field.into(), seen: 0, shared: 0 });
        self.by_name.insert(text.into(), added);
        added
    }
}

/// A key as a name that Loki leaves as it is: letters, digits and single underscores, no digit in front.
///
/// Loki would join underscores itself, so that names collide that did not before, and answers to a name of nothing else
/// with an error that looks like one of the server.
pub(super) fn sanitized(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !name.ends_with('_') {
            name.push(c);
        }
    }
    match name.as_bytes() {
        [] | [b'_'] => NAMELESS.into(),
        [b'0'..=b'9', ..] => format!("key_{name}"),
        _ => name,
    }
}

/// A name with something behind it.
pub(super) fn with_suffix(name: &str, suffix: &str) -> String {
    format!("{}_{suffix}", name.trim_end_matches('_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loki::config::LabelsConfig;

    #[test]
    fn keys_become_names_that_loki_takes() {
        for (key, name) in [
            ("http.request.method", "http_request_method"),
            ("already_fine_9", "already_fine_9"),
            ("k8s.pod.label.app.kubernetes.io/name", "k8s_pod_label_app_kubernetes_io_name"),
            ("9lives", "key_9lives"),
            ("", "key"),
            ("_", "key"),
            ("..-", "key"),
            ("__name__", "_name_"),
            ("..a", "_a"),
            ("_a", "_a"),
            ("größe-東京 x", "gr_e_x"),
        ] {
            assert_eq!(sanitized(key.as_bytes()), name, "{key}");
        }
    }

    #[test]
    fn names_of_labels_are_told_from_them() {
        let policy = Policy::new(&LabelsConfig::default());
        let mut names = Names::new(&policy);
        for (i, own) in OWN.iter().enumerate() {
            let expected = if *own == "level" { "level_extracted" } else { own };
            assert_eq!(&*names.name(i as NameId).text, expected);
        }
        let app = names.of_key(b"app");
        assert_eq!(&*names.name(app).text, "app_extracted");
        let pod = names.of_key(b"pod");
        assert_eq!(&*names.name(pod).text, "pod");
    }

    #[test]
    fn a_key_is_found_wherever_it_stands() {
        let policy = Policy::new(&LabelsConfig::default());
        let mut names = Names::new(&policy);
        let (a, b) = (names.key(0, b"a.x"), names.key(3, b"log.iostream"));
        assert_eq!([names.key(0, b"a.x"), names.key(3, b"a.x"), names.key(0, b"log.iostream")], [a, a, b]);
        assert!(names.known(b).of_file && !names.known(a).of_file);
        let same = names.key(7, b"a_x");
        assert_ne!(same, a);
        let name = names.known(a).name;
        assert_eq!(names.known(same).name, name);
    }
}
