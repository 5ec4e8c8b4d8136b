//! Streams as Loki's words name them.

/// Labels that Loki adds to a stream itself.
const ADDED: [&str; 2] = ["service_name", "__stream_shard__"];

/// A stream's labels without those that Loki may have added; `None` where they are cut off.
pub(super) fn name(labels: &str) -> Option<Box<str>> {
    split(labels).map(|(name, _)| name)
}

/// The same, and what comes behind the labels.
pub(super) fn split(text: &str) -> Option<(Box<str>, &str)> {
    let mut rest = text.trim_start().strip_prefix('{')?;
    let mut name = String::with_capacity(text.len().min(512));
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((name.into(), behind));
        }
        let (key, value) = rest.split_once("=\"")?;
        let end = end_of_quoted(value)?;
        if !ADDED.contains(&key) {
            name.extend([key, "=\"", &value[..=end], ","]);
        }
        rest = &value[end + 1..];
    }
}

/// Where the quotes close.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_own_labels_and_ends_where_they_end() {
        let theirs = r#"{app="a", service_name="a, b", x="say \"{hi}\" \\"}' has"#;
        assert_eq!(split(theirs), Some((r#"app="a",x="say \"{hi}\" \\","#.into(), "' has")));
        assert_eq!(split("{}"), Some(("".into(), "")));
        for cut in [r#"{app="a", x="b"#, r#"{app="a", "#, "app", ""] {
            assert_eq!(split(cut), None, "{cut}");
        }
    }
}
