//! What a line of a file is: the parts that container runtimes write around what a container says.

use super::json::{self, Entries, Value};
use super::timestamp;

/// How the lines of a file are wrapped. Each file's own is told from its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `TIME stdout|stderr TAGS CONTENT`, as containerd and CRI-O write.
    Cri,
    /// `{"log":"…\n","stream":"stdout","time":"…"}`, as Docker's json-file driver writes.
    Docker,
    /// Lines are what they are.
    Plain,
}

/// What the container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iostream {
    Stdout,
    Stderr,
}

impl Iostream {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// A line without its wrapping: a whole log line, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Nanoseconds since the Unix epoch, where the runtime says so.
    pub(super) time: Option<u64>,
    pub(super) iostream: Option<Iostream>,
    /// Whether the next line of the same stream goes on with it.
    pub(super) partial: bool,
    pub(super) content: &'a [u8],
}

impl Format {
    /// The format of a file that begins with that line.
    ///
    /// An object that is no line of Docker's is somebody's own JSON.
    pub(super) fn of(line: &[u8]) -> Self {
        if cri(line).is_some() {
            Self::Cri
        } else if line.first() == Some(&b'{') && docker(line, &mut Vec::new()).is_some() {
            Self::Docker
        } else {
            Self::Plain
        }
    }

    /// Takes the wrapping off a line. `None` where it has another one.
    pub(super) fn part<'a>(self, line: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<Part<'a>> {
        match self {
            Self::Cri => cri(line),
            Self::Docker => docker(line, scratch),
            Self::Plain => Some(plain(line)),
        }
    }
}

/// A line that is what it is, without the carriage return of other systems.
pub(super) fn plain(line: &[u8]) -> Part<'_> {
    let content = line.strip_suffix(b"\r").unwrap_or(line);
    Part { time: None, iostream: None, partial: false, content }
}

fn cri(line: &[u8]) -> Option<Part<'_>> {
    let (time, end) = timestamp::leading(line)?;
    let rest = line[end..].strip_prefix(b" ")?;
    let (name, rest) = rest.split_at_checked(6)?;
    let iostream = Iostream::of(name)?;
    let rest = rest.strip_prefix(b" ")?;
    // Of several tags, apart by colons, only the first has a meaning.
    let partial = match rest.first()? {
        b'P' => true,
        b'F' => false,
        _ => return None,
    };
    let content = match &rest[1..] {
        [b' ', content @ ..] => content,
        [] => &[],
        [b':', more @ ..] => &more[memchr::memchr(b' ', more)? + 1..],
        _ => return None,
    };
    Some(Part { time: Some(time), iostream: Some(iostream), partial, content })
}

fn docker<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<Part<'a>> {
    let (mut log, mut iostream, mut time) = (None, None, None);
    let mut entries = Entries::new(line);
    for (key, value) in entries.by_ref() {
        match (key, value) {
            (b"log", Value::Text(raw)) => log = Some(raw),
            (b"stream", Value::Text(raw)) => iostream = Iostream::of(raw),
            (b"time", Value::Text(raw)) => {
                time = timestamp::leading(raw).filter(|(_, end)| *end == raw.len()).map(|(time, _)| time);
            }
            _ => {}
        }
    }
    let (log, Some(time), true) = (log?, time, entries.closed()) else { return None };
    scratch.clear();
    json::unescape(log, scratch);
    let (content, partial) = match scratch.strip_suffix(b"\n") {
        Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), false),
        None => (&scratch[..], true),
    };
    Some(Part { time: Some(time), iostream, partial, content })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: u64 = 1_709_210_096_000_000_001;

    fn part<'a>(format: Format, line: &'a str, scratch: &'a mut Vec<u8>) -> Option<(u64, &'static str, bool, &'a str)> {
        let part = format.part(line.as_bytes(), scratch)?;
        let content = std::str::from_utf8(part.content).unwrap();
        Some((part.time.unwrap_or_default(), part.iostream.map_or("", Iostream::as_str), part.partial, content))
    }

    #[test]
    fn lines_of_containerd_and_cri_o_are_read() {
        let scratch = &mut Vec::new();
        for (line, expected) in [
            ("2024-02-29T12:34:56.000000001Z stdout F hello  world", (TIME, "stdout", false, "hello  world")),
            ("2024-02-29T13:34:56.000000001+01:00 stderr P hel", (TIME, "stderr", true, "hel")),
            ("2024-02-29T12:34:56.000000001Z stdout P:X:F x", (TIME, "stdout", true, "x")),
            ("2024-02-29T12:34:56.000000001Z stdout F ", (TIME, "stdout", false, "")),
            ("2024-02-29T12:34:56.000000001Z stdout F", (TIME, "stdout", false, "")),
        ] {
            assert_eq!(Format::of(line.as_bytes()), Format::Cri, "{line}");
            assert_eq!(part(Format::Cri, line, scratch), Some(expected), "{line}");
        }
        for line in [
            "2024-02-29T12:34:56.000000001Z stdin F x",
            "2024-02-29T12:34:56.000000001Z stdout X x",
            "2024-02-29T12:34:56.000000001Z stdout Fx",
            "2024-02-29T12:34:56.000000001Z INFO stdout F x",
        ] {
            assert_eq!(
                (Format::of(line.as_bytes()), part(Format::Cri, line, scratch)),
                (Format::Plain, None),
                "{line}"
            );
        }
    }

    #[test]
    fn lines_of_docker_are_read_in_whatever_order_their_keys_stand() {
        let scratch = &mut Vec::new();
        for (line, expected) in [
            (
                r#"{"log":"a\tb\n","stream":"stdout","time":"2024-02-29T12:34:56.000000001Z"}"#,
                (TIME, "stdout", false, "a\tb"),
            ),
            (
                r#"{"time":"2024-02-29T12:34:56.000000001Z","attrs":{"log":"x"},"stream":"stderr","log":"par"}"#,
                (TIME, "stderr", true, "par"),
            ),
            (r#"{"log":"a\r\n","stream":"","time":"2024-02-29T12:34:56.000000001Z"}"#, (TIME, "", false, "a")),
        ] {
            assert_eq!(Format::of(line.as_bytes()), Format::Docker, "{line}");
            assert_eq!(part(Format::Docker, line, scratch), Some(expected), "{line}");
        }
        for line in [
            r#"{"log":"a\n","stream":"stdout"}"#,
            r#"{"log":"a\n","stream":"stdout","time":"now"}"#,
            r#"{"log":"a\n","stream":"stdout","time":"2024-02-29T12:34:56.000000001Z""#,
            r#"{"level":"info","msg":"log"}"#,
        ] {
            assert_eq!(Format::of(line.as_bytes()), Format::Plain, "{line}");
        }
    }

    #[test]
    fn plain_lines_lose_the_carriage_return_only() {
        let scratch = &mut Vec::new();
        assert_eq!(part(Format::Plain, " a \r", scratch), Some((0, "", false, " a ")));
        assert_eq!(Format::of(b""), Format::Plain);
    }

    proptest! {
        #[test]
        fn what_docker_escapes_comes_back(text in any::<String>()) {
            let line = serde_json::to_string(&serde_json::json!({
                "log": format!("{text}\n"), "stream": "stdout", "time": "2024-02-29T12:34:56.000000001Z"
            })).unwrap();
            let mut scratch = Vec::new();
            let part = Format::Docker.part(line.as_bytes(), &mut scratch).unwrap();
            let expected = text.strip_suffix('\r').unwrap_or(&text);
            prop_assert_eq!((part.content, part.partial), (expected.as_bytes(), false));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), head in any::<bool>()) {
            let line = if head { [&b"2024-02-29T12:34:56.1Z "[..], &bytes].concat() } else { bytes };
            for format in [Format::Cri, Format::Docker, Format::Plain, Format::of(&line)] {
                format.part(&line, &mut Vec::new());
            }
        }
    }
}
