use std::fmt::Write;

use super::*;

/// A schema as text: one line for each column, nested fields below it.
fn describe(schema: &Schema) -> String {
    fn line(out: &mut String, field: &Field, depth: usize) {
        let kind = match field.data_type() {
            DataType::List(_) => "list".into(),
            DataType::Map(_, sorted) => format!("map sorted={sorted}"),
            DataType::Struct(_) => "struct".into(),
            DataType::Timestamp(unit, zone) => format!("timestamp {unit:?} {}", zone.as_deref().unwrap_or("-")),
            plain => plain.to_string(),
        };
        let null = if field.is_nullable() { "null" } else { "not null" };
        writeln!(out, "{:indent$}{} {kind} {null}", "", field.name(), indent = 2 * depth).unwrap();
        match field.data_type() {
            DataType::List(inner) | DataType::Map(inner, _) => line(out, inner, depth + 1),
            DataType::Struct(fields) => fields.iter().for_each(|field| line(out, field, depth + 1)),
            _ => {}
        }
    }
    let mut out = String::new();
    schema.fields().iter().for_each(|field| line(&mut out, field, 0));
    out
}

/// Column lines of a golden file; nested lines belong to the column above them.
fn columns_of(golden: &str) -> Vec<String> {
    golden.lines().fold(Vec::new(), |mut columns: Vec<String>, line| {
        match columns.last_mut() {
            Some(last) if line.starts_with(' ') => *last = format!("{last}\n{line}"),
            _ => columns.push(line.to_owned()),
        }
        columns
    })
}

/// Files that a release has written stay readable: the current columns are those of the golden file of their
/// version, and a new version begins with all columns of the one before.
fn check(schema: &Schema, version: u32, goldens: &[&str]) {
    assert_eq!(version as usize, goldens.len(), "add a golden file for a new version");
    assert_eq!(describe(schema), *goldens.last().unwrap(), "a released version never changes: add a version");
    for pair in goldens.windows(2) {
        let (old, new) = (columns_of(pair[0]), columns_of(pair[1]));
        assert!(new.starts_with(&old), "columns are only ever added, at the end");
    }
}

#[test]
fn spans_have_the_columns_of_their_golden_file() {
    check(&spans(), SPANS_VERSION, &[include_str!("tests/spans.v1.txt")]);
}

#[test]
fn logs_have_the_columns_of_their_golden_file() {
    check(&logs(), LOGS_VERSION, &[include_str!("tests/logs.v1.txt")]);
}

#[test]
fn every_column_says_what_it_holds() {
    assert!(SPANS.iter().chain(LOGS).all(|column| !column.doc.is_empty()));
}

/// The tables of `docs/tables.md`.
fn documented() -> String {
    let kind = |kind: Kind| match kind {
        Text => "text",
        Int32 => "32-bit integer",
        Int64 => "64-bit integer",
        UInt32 => "unsigned 32-bit integer",
        Time => "timestamp, ns, UTC",
        Attributes => "map of text to text",
        Events => "list of structs: `time`, `name`, `attributes`, `dropped_attributes_count`",
        Links => {
            "list of structs: `trace_id`, `span_id`, `trace_state`, `flags`, `attributes`, `dropped_attributes_count`"
        }
    };
    let mut out = String::new();
    for (table, columns) in [("spans", SPANS), ("logs", LOGS)] {
        writeln!(out, "## {table}\n\n| column | type | null | |\n| --- | --- | --- | --- |").unwrap();
        for Column { name, kind: of, nullable, doc } in columns {
            let null = if *nullable { "yes" } else { "no" };
            writeln!(out, "| `{name}` | {} | {null} | {} |", kind(*of), doc.replace('|', "\\|")).unwrap();
        }
        out.push('\n');
    }
    out.trim_end().to_owned() + "\n"
}

#[test]
fn the_documentation_lists_the_columns_as_they_are() {
    let page = include_str!("../../../docs/tables.md");
    // Events have the columns of log records.
    let tables = page.split_once("## spans").and_then(|(_, tables)| tables.split_once("\n## events"));
    let tables = tables.map(|(tables, _)| format!("## spans{tables}"));
    assert_eq!(tables.as_deref(), Some(&*documented()), "docs/tables.md should have this:\n{}", documented());
}
