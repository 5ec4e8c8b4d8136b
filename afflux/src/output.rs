//! What the user sees: text on standard output, errors on standard error, exit codes.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use afflux_query::QueryError;
use afflux_runtime::config::ConfigError;
use afflux_runtime::logging::LogError;

/// Wrong usage that the arguments' parser cannot see: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) String);

/// Exit code of a result, its error printed.
///
/// A reader that closed the pipe early (`afflux query … | head`) is no failure.
pub(crate) fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    // Nothing is left to tell where standard error is closed.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    let usage = error.is::<ConfigError>() || error.is::<LogError>() || error.is::<Misuse>();
    let usage = usage || error.downcast_ref::<QueryError>().is_some_and(QueryError::is_usage);
    ExitCode::from(if usage { 2 } else { 1 })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    // Standard output's own error. A pipe to elsewhere that broke, such as a store's connection, is a failure.
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
        || error.downcast_ref::<QueryError>().is_some_and(QueryError::is_closed_pipe)
}

/// Writes to standard output; a closed pipe is an error, not a panic.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A count, in a form that fits a column: `950`, `12,345`, `1.2M`.
pub(crate) fn count(n: f64) -> String {
    // The sum of nothing is -0.
    match n + 0.0 {
        n if n >= 1e12 => format!("{:.1}T", n / 1e12),
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e3 => format!("{},{:03}", (n as u64) / 1000, (n as u64) % 1000),
        n if n > 0.0 && n < 9.95 && n.fract() != 0.0 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

/// Bytes: `512 B`, `5.4 MB`.
pub(crate) fn bytes(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        n => format!("{n:.0} B"),
    }
}

/// A time: `42s`, `3m 12s`, `2h 5m`, `4d 3h`.
pub(crate) fn period(seconds: f64) -> String {
    let s = seconds as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// A text of others as a terminal may have it: without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Rows as columns; those of numbers stand to the right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]], numbers: std::ops::Range<usize>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if numbers.contains(&column) {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let counts = [0.0, 0.3, 9.0, 950.4, 12_345.0, 1_234_567.0, 2.5e9, 1e13];
        assert_eq!(counts.map(count).join(" "), "0 0.3 9 950 12,345 1.2M 2.5G 10.0T");
        assert_eq!([512.0, 5_400_000.0, 1e3].map(bytes).join(" "), "512 B 5.4 MB 1.0 kB");
        assert_eq!([42.0, 192.0, 7500.0, 356_400.0].map(period).join(", "), "42s, 3m 12s, 2h 5m, 4d 3h");
    }
}
