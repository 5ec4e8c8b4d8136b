//! The metrics as a table for the documentation.

use super::Metrics;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Name as registered, without prefix and suffix.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its Rust type, from which kind and labels follow.
    pub rust_type: &'static str,
}

impl Described {
    /// Name as exposed.
    fn exposed(&self) -> String {
        let suffix = if self.kind() == "counter" { "_total" } else { "" };
        format!("afflux_{}{suffix}", self.name)
    }

    fn kind(&self) -> &'static str {
        match self.rust_type {
            ty if ty.contains("Counter") => "counter",
            ty if ty.contains("Ages") => "histogram",
            _ => "gauge",
        }
    }

    fn labels(&self) -> &'static str {
        match self.rust_type {
            ty if ty.contains("ComponentLabels") => "component, signal",
            ty if ty.contains("StepReasonLabels") => "component, signal, step, reason",
            ty if ty.contains("StepLabels") => "component, signal, step",
            ty if ty.contains("ReasonLabels") => "component, reason",
            ty if ty.contains("OutcomeLabels") => "component, outcome",
            ty if ty.contains("SourceLabels") => "component, source",
            ty if ty.contains("PartitionLabels") => "component, topic, partition",
            _ => "",
        }
    }
}

/// The rows of a table in Markdown.
pub fn markdown() -> String {
    let mut table = String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in Metrics::REFERENCE {
        let (name, kind, labels) = (metric.exposed(), metric.kind(), metric.labels());
        table += &format!("| `{name}` | {kind} | {labels} | {} |\n", metric.help.trim());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_metric() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let text = std::fs::read_to_string(file).unwrap();
        let table = markdown();
        assert!(text.contains(&table), "docs/metrics.md should hold this table:\n{table}");
        assert!(Metrics::REFERENCE.iter().all(|metric| !metric.labels().is_empty()));
    }
}
