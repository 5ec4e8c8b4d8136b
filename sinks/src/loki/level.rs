//! The level of a log record.

/// What the label `level` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
    Unknown,
}

/// How many there are.
pub(super) const LEVELS: usize = 7;

/// Spellings of levels, in lower case.
const SPELLINGS: &[(&str, Level)] = &[
    ("trace", Level::Trace),
    ("trc", Level::Trace),
    ("finest", Level::Trace),
    ("debug", Level::Debug),
    ("dbg", Level::Debug),
    ("verbose", Level::Debug),
    ("info", Level::Info),
    ("inf", Level::Info),
    ("information", Level::Info),
    ("informational", Level::Info),
    ("notice", Level::Info),
    ("normal", Level::Info),
    ("warn", Level::Warn),
    ("warning", Level::Warn),
    ("wrn", Level::Warn),
    ("error", Level::Error),
    ("err", Level::Error),
    ("severe", Level::Error),
    ("fatal", Level::Fatal),
    ("critical", Level::Fatal),
    ("crit", Level::Fatal),
    ("alert", Level::Fatal),
    ("emerg", Level::Fatal),
    ("emergency", Level::Fatal),
    ("panic", Level::Fatal),
];

impl Level {
    /// Of the severity's number, for want of which of how the source spells it.
    #[inline]
    pub(super) fn of(number: i32, text: &[u8]) -> Self {
        match number {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warn,
            17..=20 => Self::Error,
            21..=24 => Self::Fatal,
            _ => Self::spelled(text),
        }
    }

    fn spelled(text: &[u8]) -> Self {
        let text = text.trim_ascii();
        // OpenTelemetry numbers its short names: `INFO2`.
        let text = text.strip_suffix(b"2").or(text.strip_suffix(b"3")).or(text.strip_suffix(b"4")).unwrap_or(text);
        let known = SPELLINGS.iter().find(|(spelling, _)| text.eq_ignore_ascii_case(spelling.as_bytes()));
        known.map_or(Self::Unknown, |&(_, level)| level)
    }

    /// Whether the number says no more than the level.
    #[inline]
    pub(super) const fn says_all_of(number: i32) -> bool {
        matches!(number, 0 | 1 | 5 | 9 | 13 | 17 | 21)
    }

    /// As in the label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_before_texts_and_texts_in_any_spelling() {
        let numbers = (0..=25).map(|number| Level::of(number, b"").as_str()).collect::<Vec<_>>();
        let expected = ["trace", "debug", "info", "warn", "error", "fatal"].map(|level| [level; 4]);
        assert_eq!(numbers[1..25], *expected.as_flattened());
        assert_eq!((numbers[0], numbers[25], Level::of(-1, b"").as_str()), ("unknown", "unknown", "unknown"));
        for (text, level) in [
            ("WARNING", "warn"),
            (" Err\n", "error"),
            ("INFO3", "info"),
            ("Normal", "info"),
            ("CRITICAL", "fatal"),
            ("TRACE4", "trace"),
            ("loud", "unknown"),
            ("2", "unknown"),
        ] {
            assert_eq!(Level::of(0, text.as_bytes()).as_str(), level, "{text}");
        }
        assert_eq!(Level::of(9, b"ERROR"), Level::Info);
    }
}
