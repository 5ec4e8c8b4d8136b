//! What is on the topic: for each object a hash of its value.

use std::collections::{HashMap, HashSet};
use std::fmt;

use afflux_schemas::objects::Kind;

/// A uid in few bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Uid {
    /// In the usual form.
    Uuid(u128),
    /// In any other.
    Text(Box<str>),
}

impl Uid {
    pub(super) fn new(text: &str) -> Self {
        let digits: String = text.split('-').collect();
        let number = if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None };
        match number.map(Self::Uuid) {
            Some(uid) if uid.to_string() == text => uid,
            _ => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Uuid(number) => {
                let part = |shift: u32, digits: u32| (number >> shift) & ((1 << (4 * digits)) - 1);
                let (a, b, c, d, e) = (part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12));
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
            }
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    values: HashMap<Kind, HashMap<Uid, u64>>,
}

impl Known {
    /// Takes an object in; says whether that is news.
    pub(super) fn insert(&mut self, kind: Kind, uid: Uid, value: u64) -> bool {
        self.values.entry(kind).or_default().insert(uid, value) != Some(value)
    }

    /// Forgets an object; says whether it was known.
    pub(super) fn remove(&mut self, kind: Kind, uid: &Uid) -> bool {
        self.values.get_mut(&kind).is_some_and(|values| values.remove(uid).is_some())
    }

    /// Those that a list does not show.
    pub(super) fn missing(&self, kind: Kind, listed: &HashSet<Uid>) -> Vec<Uid> {
        let values = self.values.get(&kind).into_iter().flatten();
        values.map(|(uid, _)| uid).filter(|uid| !listed.contains(*uid)).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.values.values().map(HashMap::len).sum()
    }
}

/// FNV-1a, 64 bits.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uid_is_written_as_it_was_read() {
        let usual = "0f6a1c8e-5b1d-4f0e-9a64-6d0f7b9d2a11";
        assert!(matches!(Uid::new(usual), Uid::Uuid(_)));
        let upper = usual.to_uppercase();
        for text in
            [usual, &upper, "", "node-1", "0f6a1c8e5b1d4f0e9a646d0f7b9d2a11", "00000000-0000-0000-0000-000000000000"]
        {
            assert_eq!(Uid::new(text).to_string(), text);
        }
    }

    #[test]
    fn only_what_differs_is_news_and_what_is_not_listed_is_missing() {
        let (mut known, one, two) = (Known::default(), Uid::new("one"), Uid::new("two"));
        assert!(known.insert(Kind::Pod, one.clone(), 1));
        assert!(!known.insert(Kind::Pod, one.clone(), 1));
        assert!(known.insert(Kind::Pod, one.clone(), 2));
        assert!(known.insert(Kind::Node, one.clone(), 2));
        assert!(known.insert(Kind::Pod, two.clone(), 2));
        assert_eq!(known.missing(Kind::Pod, &HashSet::from([one])), std::slice::from_ref(&two));
        assert!(known.remove(Kind::Pod, &two) && !known.remove(Kind::Pod, &two));
        assert_eq!(known.len(), 2);
    }

    /// Figure: what the producer keeps of 100,000 pods.
    #[test]
    fn a_hundred_thousand_pods_are_known_in_ten_megabytes() {
        let mut known = Known::default();
        for n in 0..100_000_u128 {
            known.insert(Kind::Pod, Uid::Uuid(n), 1);
        }
        let capacity = known.values[&Kind::Pod].capacity();
        let bytes = capacity * (size_of::<(Uid, u64)>() + 1) * 8 / 7;
        assert!(bytes < 10 << 20, "{bytes} bytes");
    }
}
