//! Streams as Loki's words name them.

/// Labels that Loki adds to a stream itself, the last two to those of a backfill.
const ADDED: [&str; 4] = ["service_name", "__stream_shard__", "__backfill__", "__backfill_shard__"];

/// A name for a stream that does not depend on who has written its labels: without those that Loki may have added, and
/// without escapes. `None` where the labels are cut off.
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
        let start = name.len();
        name.extend([key, "="]);
        rest = unquote(value, &mut name)?;
        // No label has it in it.
        name.push('\0');
        if ADDED.contains(&key) {
            name.truncate(start);
        }
    }
}

/// Appends a text as Go quotes it, up to its quotes, and gives what comes behind them.
fn unquote<'t>(text: &'t str, out: &mut String) -> Option<&'t str> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some(&text[at + 1..]),
            '\\' => {
                let (_, escaped) = chars.next()?;
                let digits = match escaped {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                match escaped {
                    'a' => out.push('\u{7}'),
                    'b' => out.push('\u{8}'),
                    'f' => out.push('\u{c}'),
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    'v' => out.push('\u{b}'),
                    'x' | 'u' | 'U' => {
                        let mut code = 0;
                        for _ in 0..digits {
                            code = code * 16 + chars.next()?.1.to_digit(16)?;
                        }
                        out.push(char::from_u32(code)?);
                    }
                    other => out.push(other),
                }
            }
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::quote::quote;
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_own_labels_and_ends_where_they_end() {
        let theirs = r#"{__backfill__="true", app="a", service_name="a, b", x="say \"{hi}\" \\"}' has"#;
        assert_eq!(split(theirs), Some(("app=a\0x=say \"{hi}\" \\\0".into(), "' has")));
        assert_eq!(split("{}"), Some(("".into(), "")));
        for cut in [r#"{app="a", x="b"#, r#"{app="a", "#, "app", ""] {
            assert_eq!(split(cut), None, "{cut}");
        }
    }

    /// Go and Rust do not agree on what can be printed, and neither do their versions.
    #[test]
    fn however_a_value_is_quoted_its_name_is_the_same() {
        for value in ["e\u{301}", "❤\u{fe0f}", "\u{fffd}", "\u{1f980}\t\u{7f}", "\"\\"] {
            let mut ours = String::from("{app=");
            quote(&mut ours, value);
            ours.push('}');
            let raw = value.replace('\\', "\\\\").replace('"', "\\\"");
            let escaped: String = value.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
            let expected = Some(format!("app={value}\0").into_boxed_str());
            for theirs in [ours, format!("{{app=\"{raw}\"}}"), format!("{{app=\"{escaped}\"}}")] {
                assert_eq!(name(&theirs), expected, "{theirs}");
            }
        }
    }
}
