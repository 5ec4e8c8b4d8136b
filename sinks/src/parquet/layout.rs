//! Where things lie under the base: data files, intents and floors.
//!
//! ```text
//! {base}/{table}/cluster_key={c}/date=YYYY-MM-DD/hour=HH/{topic}-{partition:05}-{first:020}.parquet
//! {base}/_afflux/intents/{topic}/{partition:05}/{first:020}.json
//! {base}/_afflux/floors/{topic}/{partition:05}/{floor:020}.json
//! ```
//!
//! A topic, and a cluster, stand in a path with every byte outside `A-Z a-z 0-9 . _ -` percent-encoded, as
//! Hive does. An epoch other than 0 follows the topic as `~{epoch}`; no topic name contains a `~`.

use std::fmt::Write as _;
use std::sync::Arc;

use afflux_bus::PartitionId;
use object_store::path::Path;

use super::table::Table;

/// Version of the paths, and of which row lies under which. An intent names the version under which its files are
/// named, since whoever writes the range again must put the same rows under the same names.
///
/// Version 1 was that of development versions: the folder of a cluster was `cluster=…`.
pub(crate) const LAYOUT_VERSION: u32 = 2;

/// Longest cluster in a path, in bytes: file systems allow 255 in a name.
const MAX_CLUSTER: usize = 200;

/// Nanoseconds in an hour.
const HOUR: i64 = 3_600_000_000_000;

/// The hour that an event falls into, in hours since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hour(u32);

impl Hour {
    /// The hour of a time in nanoseconds since the Unix epoch, from 0 to `i64::MAX`.
    pub(crate) fn of(nanos: i64) -> Self {
        // Fits: `i64::MAX` nanoseconds are 2.6 million hours.
        Self((nanos / HOUR) as u32)
    }

    fn write(self, out: &mut String) {
        let (year, month, day) = civil(i64::from(self.0 / 24));
        // Writing to a String cannot fail.
        let _ = write!(out, "date={year:04}-{month:02}-{day:02}/hour={:02}", self.0 % 24);
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// One output directory of a range: which cluster, which hour.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The cluster as the telemetry names it.
    pub(crate) cluster: Arc<str>,
    /// The events' own hour.
    pub(crate) hour: Hour,
}

/// Names everything that belongs to one partition of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    base: Path,
    table: Table,
    source: String,
    partition: u32,
}

impl Layout {
    /// Names for one partition under a base.
    pub(crate) fn new(base: Path, table: Table, partition: &PartitionId, epoch: u32) -> Self {
        let mut source = encoded(&partition.topic);
        if epoch != 0 {
            let _ = write!(source, "~{epoch}");
        }
        Self { base, table, source, partition: partition.partition }
    }

    /// The data file of a place, for the range that begins at `first`.
    pub(crate) fn data(&self, place: &Place, first: u64) -> Path {
        let mut path = format!("{}/cluster_key={}/", self.table.name(), cluster(&place.cluster));
        place.hour.write(&mut path);
        let _ = write!(path, "/{}-{:05}-{first:020}.parquet", self.source, self.partition);
        self.under_base(&path)
    }

    /// Where this partition's intents lie.
    pub(crate) fn intents(&self) -> Path {
        self.under_base(&format!("_afflux/intents/{}/{:05}", self.source, self.partition))
    }

    /// The intent of the range that begins at `first`.
    pub(crate) fn intent(&self, first: u64) -> Path {
        self.numbered(&self.intents(), first)
    }

    /// Where this partition's floors lie.
    pub(crate) fn floors(&self) -> Path {
        self.under_base(&format!("_afflux/floors/{}/{:05}", self.source, self.partition))
    }

    /// The object that raises the floor to an offset.
    pub(crate) fn floor(&self, floor: u64) -> Path {
        self.numbered(&self.floors(), floor)
    }

    fn numbered(&self, folder: &Path, number: u64) -> Path {
        folder.clone().join(format!("{number:020}.json"))
    }

    fn under_base(&self, rest: &str) -> Path {
        // Not joined part by part, which would encode the escapes once more.
        Path::parse(format!("{}/{rest}", self.base)).expect("no part is empty, dots alone or a control character")
    }
}

/// The offset that an intent's or a floor's name holds; `None` for any other file.
pub(crate) fn offset_of(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// A cluster as it stands in a path: encoded, and where that is too long, cut and told apart by a checksum.
fn cluster(name: &str) -> String {
    let whole = encoded(name);
    if whole.len() <= MAX_CLUSTER {
        return whole;
    }
    let mut end = MAX_CLUSTER - 9;
    // An escape is three bytes long and is not cut.
    while whole.as_bytes()[end - 2..end].contains(&b'%') {
        end -= 1;
    }
    format!("{}~{:08x}", &whole[..end], crc32c::crc32c(name.as_bytes()))
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(topic: &str, epoch: u32) -> Layout {
        Layout::new(Path::from("lake"), Table::Spans, &PartitionId::new(topic, 7), epoch)
    }

    fn place(cluster: &str, nanos: i64) -> Place {
        Place { cluster: cluster.into(), hour: Hour::of(nanos) }
    }

    #[test]
    fn paths_are_those_of_the_design() {
        let layout = layout("afflux.spans", 0);
        assert_eq!(
            layout.data(&place("eu-1", 1_700_000_000_123_456_789), 42).as_ref(),
            "lake/spans/cluster_key=eu-1/date=2023-11-14/hour=22/afflux.spans-00007-00000000000000000042.parquet"
        );
        assert_eq!(layout.intent(42).as_ref(), "lake/_afflux/intents/afflux.spans/00007/00000000000000000042.json");
        assert_eq!(layout.floor(9).as_ref(), "lake/_afflux/floors/afflux.spans/00007/00000000000000000009.json");
        assert_eq!(offset_of(&layout.intent(42)), Some(42));
        assert_eq!(offset_of(&Path::from("a/b.json")), None);
    }

    #[test]
    fn an_empty_base_adds_nothing() {
        let layout = Layout::new(Path::default(), Table::Logs, &PartitionId::new("t", 0), 0);
        assert_eq!(layout.intents().as_ref(), "_afflux/intents/t/00000");
        assert!(layout.data(&place("c", 0), 0).as_ref().starts_with("logs/cluster_key=c/date=1970-01-01/hour=00/"));
    }

    #[test]
    fn an_epoch_separates_names_of_a_recreated_topic() {
        assert_eq!(layout("t", 3).intents().as_ref(), "lake/_afflux/intents/t~3/00007");
        assert_eq!(layout("..", 0).intents().as_ref(), "lake/_afflux/intents/%2E%2E/00007");
        assert!(layout("t", 3).data(&place("c", 0), 0).as_ref().ends_with("/t~3-00007-00000000000000000000.parquet"));
    }

    #[test]
    fn clusters_cannot_leave_their_directory() {
        for (name, path) in [
            ("../../etc", "cluster_key=..%2F..%2Fetc/"),
            ("..", "cluster_key=%2E%2E/"),
            ("a=b c", "cluster_key=a%3Db%20c/"),
            ("zürich", "cluster_key=z%C3%BCrich/"),
            ("50%", "cluster_key=50%25/"),
        ] {
            let file = layout("t", 0).data(&place(name, 0), 0);
            assert!(file.as_ref().starts_with(&format!("lake/spans/{path}date=")), "{file}");
            assert_eq!(file.parts().count(), 6, "{file}");
        }
    }

    #[test]
    fn long_clusters_are_cut_between_escapes_and_stay_distinct() {
        let (a, b) = ("ü".repeat(300) + "a", "ü".repeat(300) + "b");
        let (a, b) = (cluster(&a), cluster(&b));
        assert_ne!(a, b);
        assert!(a.len() <= MAX_CLUSTER, "{}", a.len());
        let stem = a.split('~').next().unwrap();
        assert_eq!(stem.len() % 3, 0, "{stem}");
    }

    #[test]
    fn hours_are_utc_through_leap_days_and_centuries() {
        for (seconds, expected) in [
            (0, "date=1970-01-01/hour=00"),
            (951_782_400, "date=2000-02-29/hour=00"),
            (951_868_799, "date=2000-02-29/hour=23"),
            (951_868_800, "date=2000-03-01/hour=00"),
            (1_735_689_599, "date=2024-12-31/hour=23"),
            (4_107_542_400, "date=2100-03-01/hour=00"),
            (9_223_372_036, "date=2262-04-11/hour=23"),
        ] {
            let mut text = String::new();
            Hour::of(seconds * 1_000_000_000).write(&mut text);
            assert_eq!(text, expected);
        }
        assert_eq!(Hour::of(i64::MAX), Hour(2_562_047));
    }
}
