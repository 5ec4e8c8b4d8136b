//! `afflux query`: SQL over the lake.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use afflux_query::render::{self, TableOptions};
use afflux_query::{Answer, Lake, Options, QueryError};
use anyhow::Context as _;

use crate::cli::{QueryArgs, QueryFormat};
use crate::output::Misuse;

pub(crate) async fn query(args: QueryArgs) -> anyhow::Result<()> {
    let terminal = args.output.is_none() && io::stdout().is_terminal();
    let format = format(&args, terminal)?;
    let lake = Lake::open(&args.lake, Options::default()).await?;
    let answer = lake.sql(&args.sql).await?;
    match &args.output {
        None => write(answer, format, io::stdout(), terminal).await?,
        Some(file) => to_file(answer, format, file).await?,
    }
    Ok(())
}

/// The format asked for, else that of the file's name, else what suits the reader.
fn format(args: &QueryArgs, terminal: bool) -> Result<QueryFormat, Misuse> {
    let format = match (args.format, &args.output) {
        (Some(format), _) => format,
        (None, Some(file)) => by_extension(file)?,
        (None, None) if terminal => QueryFormat::Table,
        (None, None) => QueryFormat::Json,
    };
    if terminal && format == QueryFormat::Parquet {
        return Err(Misuse("a terminal cannot show Parquet; name a file with -o FILE".into()));
    }
    Ok(format)
}

fn by_extension(file: &Path) -> Result<QueryFormat, Misuse> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => Ok(QueryFormat::Parquet),
        Some("csv") => Ok(QueryFormat::Csv),
        Some("json" | "jsonl" | "ndjson") => Ok(QueryFormat::Json),
        Some("txt") => Ok(QueryFormat::Table),
        _ => Err(Misuse(format!("no format follows from the name {}; say --format", file.display()))),
    }
}

/// Writes a file whole or not at all.
async fn to_file(answer: Answer, format: QueryFormat, file: &Path) -> anyhow::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let out = File::create(part).with_context(|| format!("cannot create {}", part.display()))?;
    let written = write(answer, format, out, false).await.map_err(anyhow::Error::from);
    let done = written.and_then(|()| {
        std::fs::rename(part, file).with_context(|| format!("cannot rename {} to {}", part.display(), file.display()))
    });
    if done.is_err() {
        // The first error is what matters.
        let _ = std::fs::remove_file(part);
    }
    done
}

async fn write(answer: Answer, format: QueryFormat, out: impl Write + Send, terminal: bool) -> Result<(), QueryError> {
    let mut out = BufWriter::new(out);
    match format {
        QueryFormat::Table => {
            let width = terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| usize::from(width.0));
            render::table(answer, &mut out, &TableOptions { width, ..TableOptions::default() }).await?
        }
        QueryFormat::Csv => render::csv(answer, &mut out).await?,
        QueryFormat::Json => render::json_lines(answer, &mut out).await?,
        QueryFormat::Parquet => render::parquet(answer, &mut out).await?,
    };
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(format_option: Option<QueryFormat>, output: Option<&str>, terminal: bool) -> Result<QueryFormat, String> {
        let output = output.map(Into::into);
        let args = QueryArgs { sql: String::new(), lake: String::new(), format: format_option, output };
        format(&args, terminal).map_err(|error| error.to_string())
    }

    #[test]
    fn the_format_follows_option_file_name_and_reader() {
        assert_eq!(chosen(None, None, true), Ok(QueryFormat::Table));
        assert_eq!(chosen(None, None, false), Ok(QueryFormat::Json));
        assert_eq!(chosen(None, Some("x.parquet"), false), Ok(QueryFormat::Parquet));
        assert_eq!(chosen(Some(QueryFormat::Csv), Some("x.parquet"), false), Ok(QueryFormat::Csv));
        assert!(chosen(None, Some("x.doc"), false).expect_err("unknown").contains("--format"));
        assert!(chosen(Some(QueryFormat::Parquet), None, true).expect_err("binary").contains("-o FILE"));
    }
}
