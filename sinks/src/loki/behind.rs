//! Streams whose newest entries are ahead of what is still to be sent.
//!
//! Streams are fed from several partitions. Where one of them lags behind the others by more than Loki's window, as when
//! Loki comes back after hours, Loki refuses what is too far behind the stream's newest entry, and says from when on it
//! takes entries. What is older than that is then sent as a backfill, which takes any age.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use super::stream_name::name;

/// What Loki's words have before the oldest time that it takes, and before the stream.
const OLDEST: &str = "oldest acceptable timestamp is: ";
const STREAM: &str = "for stream: ";
/// Streams that are remembered. Whoever is forgotten is refused once more.
const MAX_STREAMS: usize = 10_000;

/// By stream, the oldest time that Loki takes, in nanoseconds since the Unix epoch.
pub(super) type Oldest = HashMap<Box<str>, u64>;

/// What is known of streams of all tenants.
#[derive(Debug, Default)]
pub(super) struct Behind {
    of: Mutex<HashMap<Option<Arc<str>>, Oldest>>,
}

impl Behind {
    /// Takes note of a refusal; whether it says anything new. `stream` is the only one of the request, if there is just one:
    /// Loki may have written its labels in another way.
    pub(super) fn learn(&self, tenant: Option<&Arc<str>>, stream: Option<Box<str>>, words: &str) -> bool {
        let Some((named, oldest)) = read(words) else { return false };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.values().map(HashMap::len).sum::<usize>() >= MAX_STREAMS {
            of.clear();
        }
        let known = of.entry(tenant.cloned()).or_default().entry(stream.unwrap_or(named)).or_default();
        let news = oldest > *known;
        *known = oldest.max(*known);
        news
    }

    /// What is known of a tenant's streams, by [`name`].
    pub(super) fn of(&self, tenant: Option<&Arc<str>>) -> Oldest {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(&tenant.cloned()).cloned().unwrap_or_default()
    }
}

/// The stream and the time that a refusal names. The stream comes last, and its labels may hold anything.
fn read(words: &str) -> Option<(Box<str>, u64)> {
    let (before, stream) = words.split_once(STREAM)?;
    let (_, oldest) = before.rsplit_once(OLDEST)?;
    let time = humantime::parse_rfc3339(oldest.split(['\'', ',']).next()?.trim()).ok()?;
    // Loki says whole seconds, and means a time within the one that it names.
    let oldest = time.duration_since(UNIX_EPOCH).ok()? + Duration::from_secs(1);
    Some((name(stream)?, u64::try_from(oldest.as_nanos()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &str = r#"{app="a", level="info", namespace="x, \"y\" = {z}"}"#;
    const SECOND: u64 = 1_000_000_000;

    fn words(stream: &str, oldest: &str) -> String {
        let entry = |at: &str| {
            format!(
                "entry with timestamp {at} ignored, reason: 'entry too far behind, entry timestamp is: {at}, oldest \
                 acceptable timestamp is: {oldest}',\n"
            )
        };
        let (first, second) = (entry("1970-01-01T00:00:01Z"), entry("1970-01-01T00:00:02Z"));
        format!("answered 400: {first}{second}user 'fake', total ignored: 2 out of 5 for stream: {stream}")
    }

    #[test]
    fn a_refusal_names_stream_and_time() {
        let behind = Behind::default();
        let theirs = LABELS.replace("namespace", r#"service_name="a, b", namespace"#);
        assert!(behind.learn(None, None, &words(&theirs, "1970-01-01T01:00:00Z")));
        let known = behind.of(None);
        assert_eq!(known.get(&name(LABELS).unwrap()), Some(&(3601 * SECOND)));
        assert_eq!(behind.of(Some(&"another".into())), Oldest::new());
        assert!(behind.learn(None, Some("mine".into()), &words(LABELS, "1970-01-01T01:00:00Z")));
        assert_eq!(behind.of(None).get("mine"), Some(&(3601 * SECOND)));
    }

    #[test]
    fn only_a_later_time_is_news() {
        let behind = Behind::default();
        for (oldest, news) in
            [("1970-01-01T01:00:00Z", true), ("1970-01-01T01:00:00Z", false), ("1970-01-01T00:59:59Z", false)]
        {
            assert_eq!(behind.learn(None, None, &words(LABELS, oldest)), news, "{oldest}");
        }
        assert!(behind.learn(None, None, &words(LABELS, "1970-01-01T01:00:01Z")));
        assert_eq!(behind.of(None).into_values().collect::<Vec<_>>(), [3602 * SECOND]);
    }

    #[test]
    fn labels_that_read_like_words_are_labels() {
        let behind = Behind::default();
        let odd = r#"{app="oldest acceptable timestamp is: 2099-01-01T00:00:00Z' for stream: {}"}"#;
        assert!(behind.learn(None, None, &words(odd, "1970-01-01T01:00:00Z")));
        assert_eq!(behind.of(None).into_iter().collect::<Vec<_>>(), [(name(odd).unwrap(), 3601 * SECOND)]);
    }

    #[test]
    fn other_words_say_nothing() {
        let behind = Behind::default();
        let cut = words(LABELS, "1970-01-01T01:00:00Z");
        for words in ["entry out of order", &cut[..cut.len() - 3], &words(LABELS, "soon"), ""] {
            assert!(!behind.learn(None, None, words), "{words}");
        }
    }
}
