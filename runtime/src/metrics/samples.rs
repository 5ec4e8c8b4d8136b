//! Values of the metrics, read back from their own exposition.

/// One exposed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name without the prefix `afflux_` and without `_total`.
    pub name: String,
    /// Whether it only ever rises.
    pub counter: bool,
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// The samples in an OpenMetrics text, comments and buckets of histograms left out.
///
/// A family's children cannot be listed otherwise: the client library only looks them up by their labels.
pub(super) fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => parse_labels(inner)?,
        None => (Vec::new(), rest),
    };
    let name = name.strip_prefix("afflux_").unwrap_or(name);
    if name.ends_with("_bucket") {
        return None;
    }
    Some(Sample {
        counter: name.ends_with("_total"),
        name: name.strip_suffix("_total").unwrap_or(name).to_owned(),
        labels,
        value: rest.split_whitespace().next()?.parse().ok()?,
    })
}

/// Labels up to the closing brace, and what follows it.
fn parse_labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()? {
                    (_, 'n') => value.push('\n'),
                    (_, escaped) => value.push(escaped),
                },
                (_, plain) => value.push(plain),
            }
        };
        labels.push((name.trim_start_matches(',').to_owned(), value));
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ComponentLabels, Metrics, PartitionLabels};

    #[test]
    fn what_is_counted_is_read_back() {
        let metrics = Metrics::new();
        let labels = ComponentLabels { component: "sinks.x", signal: "spans" };
        metrics.settled_items.get_or_create(&labels).inc_by(1_234_567_890_123);
        let topic = "a\"b\\c}\n, d=\"".to_owned();
        let place = PartitionLabels { component: "sinks.x", topic: topic.clone(), partition: 7 };
        metrics.lag_records.get_or_create(&place).set(-3);

        let samples = parse(&metrics.encode());
        let settled = samples.iter().find(|s| s.name == "settled_items").expect("counter");
        assert!(settled.counter);
        assert_eq!((settled.label("signal"), settled.value), (Some("spans"), 1_234_567_890_123.0));
        let lag = samples.iter().find(|s| s.name == "lag_records").expect("gauge");
        assert!(!lag.counter);
        assert_eq!((lag.label("topic"), lag.label("partition"), lag.value), (Some(&*topic), Some("7"), -3.0));
        assert_eq!(samples.len(), 2);
    }

    #[test]
    fn lines_that_are_no_samples_are_passed_over() {
        for text in ["", "# EOF", "x", "x{", "x{a=\"", "x{a=\"b\"", "x{a=\"b\"}", "x{a=\"b\\", "x y"] {
            assert_eq!(parse(text), [], "{text}");
        }
    }
}
