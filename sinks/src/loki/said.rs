//! Which entries Loki's words are about.
//!
//! Loki stores the valid entries of a request and names all others, each with its stream and with what is wrong about it;
//! the same words that are due several times are said once, with their number. So do Loki 2.9 to 3.7, which have these
//! templates.

use std::time::UNIX_EPOCH;

use super::stream_name;

/// Before words, with their number, unless they are the only ones.
const LIKE: &str = " errors like: ";
/// Between words.
const NEXT: &str = "; ";

/// What entries of a stream are known by, in the order in which Loki checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// All entries of the stream.
    All,
    /// Their time, in whole seconds since the Unix epoch.
    Second(u64),
    /// Bytes of their line.
    Line(usize),
    /// Bytes of their structured metadata.
    MetadataBytes(usize),
    /// Pairs of their structured metadata.
    MetadataPairs(usize),
}

/// Words about entries of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said<'w> {
    /// The stream, as [`stream_name::name`] has it.
    pub(super) stream: Box<str>,
    /// Which of its entries.
    pub(super) mark: Mark,
    /// How many they are; a whole stream is told of once.
    pub(super) count: usize,
    /// Loki's own word for why.
    pub(super) reason: &'static str,
    /// In full.
    pub(super) words: &'w str,
}

/// All that an answer says, by what is checked first; `None` where it says anything else.
pub(super) fn read(answer: &str) -> Option<Vec<Said<'_>>> {
    let mut rest = answer.trim();
    let mut all = Vec::new();
    loop {
        let next = rest.match_indices(NEXT).find(|(at, _)| counted(&rest[at + NEXT.len()..]).is_some());
        let piece = next.map_or(rest, |(at, _)| &rest[..at]);
        let (count, words) = counted(piece).unwrap_or((1, piece));
        let (stream, mark, reason) = TEMPLATES.iter().find_map(|template| template(Cursor(words)))?;
        all.push(Said { stream, mark, count, reason, words });
        match next {
            Some((at, _)) => rest = &rest[at + NEXT.len()..],
            None => break,
        }
    }
    all.sort_by_key(|said| said.mark);
    Some(all)
}

/// The number in front of words, and the words.
fn counted(text: &str) -> Option<(usize, &str)> {
    let (count, words) = text.split_once(LIKE)?;
    Some((count.parse().ok()?, words))
}

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
struct Cursor<'w>(&'w str);

impl Cursor<'_> {
    /// Goes behind words, in whatever case, as versions differ in that.
    fn words(&mut self, words: &str) -> Option<()> {
        let head = self.0.get(..words.len()).filter(|head| head.eq_ignore_ascii_case(words))?;
        self.0 = &self.0[head.len()..];
        Some(())
    }

    fn stream(&mut self) -> Option<Box<str>> {
        let (stream, behind) = stream_name::split(self.0)?;
        self.0 = behind;
        Some(stream)
    }

    fn number(&mut self) -> Option<usize> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let number = self.0[..end].parse().ok()?;
        self.0 = &self.0[end..];
        Some(number)
    }

    fn second(&mut self) -> Option<u64> {
        let end = self.0.find([',', ' ']).unwrap_or(self.0.len());
        let time = humantime::parse_rfc3339(&self.0[..end]).ok()?;
        self.0 = &self.0[end..];
        Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
    }
}

type Template = fn(Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)>;

const TEMPLATES: &[Template] = &[too_old, too_new, line_too_long, metadata, label_names, label_length, missing_labels];

fn too_old(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    rest.words("entry for stream '")?;
    let stream = rest.stream()?;
    rest.words("' has timestamp too old: ")?;
    let second = rest.second()?;
    rest.words(", oldest acceptable timestamp is: ")?;
    Some((stream, Mark::Second(second), "greater_than_max_sample_age"))
}

fn too_new(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    rest.words("entry for stream '")?;
    let stream = rest.stream()?;
    rest.words("' has timestamp too new: ")?;
    Some((stream, Mark::Second(rest.second()?), "too_far_in_future"))
}

fn line_too_long(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    rest.words("max entry size '")?;
    rest.number()?;
    rest.words("' bytes exceeded for stream '")?;
    let stream = rest.stream()?;
    rest.words("' while adding an entry with length '")?;
    let length = rest.number()?;
    rest.words("' bytes")?;
    Some((stream, Mark::Line(length), "line_too_long"))
}

fn metadata(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    rest.words("stream '")?;
    let stream = rest.stream()?;
    if rest.words("' has structured metadata too large: '").is_some() {
        let bytes = rest.number()?;
        rest.words("' bytes, limit: '")?;
        return Some((stream, Mark::MetadataBytes(bytes), "structured_metadata_too_large"));
    }
    rest.words("' has too many structured metadata labels: '")?;
    let pairs = rest.number()?;
    rest.words("', limit: '")?;
    Some((stream, Mark::MetadataPairs(pairs), "structured_metadata_too_many"))
}

fn label_names(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    rest.words("entry for stream '")?;
    let stream = rest.stream()?;
    rest.words("' has ")?;
    rest.number()?;
    rest.words(" label names; limit ")?;
    Some((stream, Mark::All, "max_label_names_per_series"))
}

fn label_length(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    rest.words("stream '")?;
    let stream = rest.stream()?;
    let too_long = [
        ("' has label name too long: '", "label_name_too_long"),
        ("' has label value too long: '", "label_value_too_long"),
    ];
    let reason = too_long.into_iter().find_map(|(words, reason)| rest.words(words).map(|()| reason))?;
    Some((stream, Mark::All, reason))
}

fn missing_labels(mut rest: Cursor<'_>) -> Option<(Box<str>, Mark, &'static str)> {
    const STREAM: &str = "' for stream '";
    rest.words("missing required labels '")?;
    rest.0 = &rest.0[rest.0.find(STREAM)? + STREAM.len()..];
    let stream = rest.stream()?;
    rest.words("' (policy: '")?;
    Some((stream, Mark::All, "missing_enforced_labels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = r#"{app="a; 2 errors", service_name="unknown_service"}"#;
    const NAME: &str = "app=a; 2 errors\0";

    fn one(words: &str) -> Option<(Mark, &'static str)> {
        let said = read(words)?;
        let [Said { stream, mark, count: 1, reason, words: in_full }] = &said[..] else { panic!("{said:?}") };
        assert_eq!((&**stream, *in_full), (NAME, words.trim()));
        Some((*mark, reason))
    }

    #[test]
    fn words_say_which_stream_and_which_of_its_entries() {
        let limits = "Please see `limits_config` or contact your Loki administrator to increase it";
        for (words, mark, reason) in [
            (
                format!(
                    "entry for stream '{STREAM}' has timestamp too old: 1970-01-01T00:01:40Z, oldest acceptable timestamp is: 2026-01-01T02:00:00+01:00"
                ),
                Mark::Second(100),
                "greater_than_max_sample_age",
            ),
            (
                format!("entry for stream '{STREAM}' has timestamp too new: 1970-01-01T00:01:40Z\n"),
                Mark::Second(100),
                "too_far_in_future",
            ),
            (
                format!(
                    "Max entry size '262144' bytes exceeded for stream '{STREAM}' while adding an entry with length '300000' bytes"
                ),
                Mark::Line(300_000),
                "line_too_long",
            ),
            (
                format!(
                    "stream '{STREAM}' has structured metadata too large: '70000' bytes, limit: '65536' bytes. {limits}"
                ),
                Mark::MetadataBytes(70_000),
                "structured_metadata_too_large",
            ),
            (
                format!("stream '{STREAM}' has too many structured metadata labels: '129', limit: '128'. {limits}"),
                Mark::MetadataPairs(129),
                "structured_metadata_too_many",
            ),
            (
                format!("entry for stream '{STREAM}' has 16 label names; limit 15"),
                Mark::All,
                "max_label_names_per_series",
            ),
            (format!("stream '{STREAM}' has label value too long: 'a; b'"), Mark::All, "label_value_too_long"),
            (format!("stream '{STREAM}' has label name too long: 'a'"), Mark::All, "label_name_too_long"),
            (
                format!("missing required labels 'team' for user 'fake' for stream '{STREAM}' (policy: '')"),
                Mark::All,
                "missing_enforced_labels",
            ),
        ] {
            assert_eq!(one(&words), Some((mark, reason)), "{words}");
        }
    }

    #[test]
    fn several_words_come_with_their_numbers_in_the_order_of_the_checks() {
        let long = format!(
            "Max entry size '10' bytes exceeded for stream '{STREAM}' while adding an entry with length '11' bytes"
        );
        let new =
            |second: u32| format!("entry for stream '{STREAM}' has timestamp too new: 1970-01-01T00:00:{second}Z");
        let said = format!("2 errors like: {long}; 1 errors like: {}; 30 errors like: {}\n", new(50), new(49));
        let said = read(&said).unwrap();
        let read: Vec<_> = said.iter().map(|said| (said.mark, said.count, said.words.to_owned())).collect();
        assert_eq!(read, [(Mark::Second(49), 30, new(49)), (Mark::Second(50), 1, new(50)), (Mark::Line(11), 2, long)]);
    }

    #[test]
    fn where_anything_else_is_said_nothing_is_read() {
        let new = format!("entry for stream '{STREAM}' has timestamp too new: 1970-01-01T00:00:50Z");
        for words in [
            "",
            "something new",
            &format!("1 errors like: {new}; 1 errors like: something new"),
            &format!("1 errors like: something new; 1 errors like: {new}"),
            &format!("1 errors like: {new}; 1 errors like: {}", &new[..30]),
            &new.replace("1970-01-01T00:00:50Z", "soon"),
        ] {
            assert_eq!(read(words), None, "{words}");
        }
    }
}
