//! Answers as a table for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, Schema};
use futures::StreamExt;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::error::QueryError;
use crate::lake::Answer;

/// Rows shown unless told otherwise; nobody reads more of them on a terminal.
pub const DEFAULT_MAX_ROWS: usize = 1000;
/// Columns are not cut narrower than this; where they would be, each row becomes a block of its own.
const MIN_COLUMN: usize = 12;
/// Lines of a terminal that one value of such a block may take.
const BLOCK_LINES: usize = 8;
/// What stands for a null.
const NULL: &str = "NULL";

/// How a table is fitted to the reader.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// Columns of the terminal; without one nothing is cut.
    pub width: Option<usize>,
    /// Rows shown; the query ends when there are more.
    pub max_rows: usize,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self { width: None, max_rows: DEFAULT_MAX_ROWS }
    }
}

/// Writes a table with a header and a count of rows, and returns the number of rows shown.
///
/// Where the terminal is too narrow, long values are cut with an ellipsis; where that would leave little of them,
/// each row is written as a block of `column │ value` lines. Control characters are escaped, so that no value can
/// steer the terminal. Answers of more than [`TableOptions::max_rows`] rows end with a note that says so.
pub async fn table(answer: Answer, out: &mut impl Write, options: &TableOptions) -> Result<u64, QueryError> {
    let mut batches = answer.batches;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut more = false;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let room = options.max_rows - rows.len();
        more = batch.num_rows() > room;
        let shown = batch.slice(0, room.min(batch.num_rows()));
        rows.extend(
            cells(&shown)
                .map_err(|error: ArrowError| QueryError::Encode { format: "a table", source: error.into() })?,
        );
        if more {
            break;
        }
    }
    drop(batches);
    let mut text = String::new();
    draw(&mut text, &answer.schema, &rows, options.width);
    let count = rows.len();
    let plural = if count == 1 { "" } else { "s" };
    let note = if more { "first " } else { "" };
    let advice = if more { "; more follow: narrow the query, or write it as csv, json or parquet" } else { "" };
    let _ = writeln!(text, "({note}{count} row{plural}{advice})");
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(count as u64)
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_null(NULL).with_display_error(true);
    let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
    let cell = |formatter: &ArrayFormatter<'_>, row| escaped(&formatter.value(row).to_string()).into_owned();
    Ok((0..batch.num_rows()).map(|row| formatters.iter().map(|formatter| cell(formatter, row)).collect()).collect())
}

fn draw(text: &mut String, schema: &Schema, rows: &[Vec<String>], width: Option<usize>) {
    let names: Vec<Cow<'_, str>> = schema.fields().iter().map(|field| escaped(field.name())).collect();
    let mut widths: Vec<usize> = names.iter().map(|name| name.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    match fit(&widths, width) {
        Some(cap) => {
            widths.iter_mut().for_each(|width| *width = (*width).min(cap));
            draw_grid(text, schema, &names, rows, &widths);
        }
        None => draw_blocks(text, &names, rows, width.unwrap_or(usize::MAX)),
    }
}

/// The greatest width of a column with which all fit; `None` where that would be too narrow.
fn fit(widths: &[usize], terminal: Option<usize>) -> Option<usize> {
    let widest = widths.iter().copied().max().unwrap_or(0);
    let Some(terminal) = terminal else { return Some(widest) };
    let total = |cap: usize| widths.iter().map(|width| (*width).min(cap) + 3).sum::<usize>().saturating_sub(1);
    (MIN_COLUMN.min(widest)..=widest).rev().find(|cap| total(*cap) <= terminal)
}

fn draw_grid(text: &mut String, schema: &Schema, names: &[Cow<'_, str>], rows: &[Vec<String>], widths: &[usize]) {
    let right: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (at, (cell, width)) in cells.zip(widths).enumerate() {
            let cell = cut(cell, *width);
            let pad = " ".repeat(width - cell.width());
            let rule = if at == 0 { "" } else { "│" };
            let _ = if right[at] { write!(line, "{rule} {pad}{cell} ") } else { write!(line, "{rule} {cell}{pad} ") };
        }
        line.truncate(line.trim_end_matches(' ').len());
        line.push('\n');
        line
    };
    text.push_str(&line(&mut names.iter().map(AsRef::as_ref)));
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
    text.push_str(&rules.join("┼"));
    text.push('\n');
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
}

fn draw_blocks(text: &mut String, names: &[Cow<'_, str>], rows: &[Vec<String>], terminal: usize) {
    let widest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let room = terminal.saturating_mul(BLOCK_LINES).saturating_sub(widest + 3).max(MIN_COLUMN);
    for (at, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "── row {} {}", at + 1, "─".repeat(widest));
        for (name, cell) in names.iter().zip(row) {
            let pad = " ".repeat(widest - name.width());
            let _ = writeln!(text, "{name}{pad} │ {}", cut(cell, room));
        }
    }
}

/// `text` in at most `width` columns, with an ellipsis where something is missing.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= width
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    Cow::Owned(short)
}

/// `text` with control characters escaped: line breaks would break the table, and escapes steer the terminal.
fn escaped(text: &str) -> Cow<'_, str> {
    let hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.chars().any(hidden) {
        return Cow::Borrowed(text);
    }
    let escape = |letter: char| if hidden(letter) { letter.escape_default().to_string() } else { letter.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}
