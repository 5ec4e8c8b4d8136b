//! What can go wrong with a query, each with what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use arrow_schema::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;

/// Why a lake could not be opened or a query not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The lake's URL cannot be understood.
    #[error("lake {url:?} cannot be read: {reason}; give a directory, file:///dir or s3://bucket/prefix")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no lake at the URL.
    #[error("no lake at {url:?}: {reason}{}", Hint(hint))]
    NoLake {
        /// As given.
        url: String,
        /// How this was noticed.
        reason: String,
        /// A lake close by, where there is one.
        hint: Option<String>,
    },
    /// The store refused or failed a listing.
    #[error("cannot list {location}; check that it is reachable and that the credentials allow listing")]
    Store {
        /// What was listed.
        location: String,
        /// The store's own error.
        #[source]
        source: Cause,
    },
    /// A folder of a table is none that the lake's layout knows.
    #[error(
        "folder {folder} does not name its {column}; expected cluster_key=NAME/date=YYYY-MM-DD/hour=HH below a table: move what does not belong there"
    )]
    Layout {
        /// Its full name.
        folder: String,
        /// The column that should have been named.
        column: &'static str,
    },
    /// The text is no SQL.
    #[error("not valid SQL: {message}")]
    Syntax {
        /// What was expected and found, with line and column.
        message: String,
    },
    /// A table that the lake does not have.
    #[error("no table {name:?}{}; the lake has {}", Near(near), tables.join(", "))]
    UnknownTable {
        /// As written.
        name: String,
        /// Tables of similar names.
        near: Vec<String>,
        /// All tables.
        tables: Vec<String>,
    },
    /// A column that none of the query's tables has.
    #[error("no column {name:?}{}{}; there are {}", At(position), Near(near), columns.join(", "))]
    UnknownColumn {
        /// As written.
        name: String,
        /// Line and column of the text, where known.
        position: Option<(u64, u64)>,
        /// Columns of similar names.
        near: Vec<String>,
        /// All columns in reach.
        columns: Vec<String>,
    },
    /// The SQL is well-formed but means nothing: wrong types, an unknown function, a grouping error.
    #[error("the query cannot be planned{}", At(position))]
    Plan {
        /// Line and column of the text, where known.
        position: Option<(u64, u64)>,
        /// What DataFusion says.
        #[source]
        source: Cause,
    },
    /// The statement would write or change settings.
    #[error("a query only reads; write a SELECT (or EXPLAIN, DESCRIBE, SHOW)")]
    ReadOnly {
        /// What DataFusion says.
        #[source]
        source: Cause,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(FileError),
    /// The query needs more memory than it may use.
    #[error(
        "the query needs more than its {limit} bytes of memory; narrow it (a time range, fewer columns, LIMIT) or raise the limit"
    )]
    Memory {
        /// The limit, in bytes.
        limit: usize,
        /// Who asked for how much.
        #[source]
        source: Cause,
    },
    /// The query failed on the way: an overflow, a failed cast, a full temporary disk.
    #[error("the query failed")]
    Execution(#[source] Cause),
    /// A result cannot be converted to the output's format.
    #[error("the result cannot be written as {format}")]
    Encode {
        /// The format.
        format: &'static str,
        /// What could not be converted.
        #[source]
        source: Cause,
    },
    /// The output cannot be written to.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
}

impl QueryError {
    /// True where the reader of the output has gone away, as `head` does: no reason to complain.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True where the text or the lake's name is at fault, so that the same call can never succeed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::BadUrl { .. }
                | Self::Syntax { .. }
                | Self::UnknownTable { .. }
                | Self::UnknownColumn { .. }
                | Self::Plan { .. }
                | Self::ReadOnly { .. }
        )
    }

    /// What an error of planning means.
    pub(crate) fn planning(error: DataFusionError) -> Self {
        let start = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| span.start);
        let position = start.filter(|start| start.line > 0).map(|start| (start.line, start.column));
        match inmost(&error) {
            DataFusionError::SQL(parse, _) => return Self::Syntax { message: parser_message(parse) },
            DataFusionError::SchemaError(schema, _) => {
                if let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref() {
                    let columns: Vec<String> = valid_fields.iter().map(|field| field.flat_name()).collect();
                    let near = near(&field.name, valid_fields.iter().map(|field| field.name.as_str()));
                    return Self::UnknownColumn { name: field.flat_name(), position, near, columns };
                }
            }
            _ => {}
        }
        Self::ours(error).unwrap_or_else(|error| Self::Plan { position, source: error.into() })
    }

    /// What an error of running means; `limit` is the memory that the query may use.
    pub(crate) fn running(error: DataFusionError, limit: usize) -> Self {
        match inmost(&error) {
            DataFusionError::ResourcesExhausted(_) => Self::Memory { limit, source: error.into() },
            _ => Self::ours(error).unwrap_or_else(|error| Self::Execution(error.into())),
        }
    }

    /// The error of this crate that went through DataFusion, where it is one.
    fn ours(error: DataFusionError) -> Result<Self, DataFusionError> {
        if let DataFusionError::External(external) = inmost(&error)
            && let Some(file) = external.downcast_ref::<FileError>()
        {
            return Ok(Self::File(file.clone()));
        }
        match error {
            DataFusionError::External(external) => match external.downcast::<Self>() {
                Ok(ours) => Ok(*ours),
                Err(other) => Err(DataFusionError::External(other)),
            },
            other => Err(other),
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A file of the lake that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "cannot read {file}: it is damaged, or was removed while the query ran; move it out of the lake if it stays so"
)]
pub struct FileError {
    /// Its full name.
    pub file: Arc<str>,
    /// What went wrong in it.
    #[source]
    pub source: Cause,
}

impl FileError {
    /// `error` with the file's name, where it is about the file's bytes and not about the query.
    pub(crate) fn name(file: &Arc<str>, error: DataFusionError) -> DataFusionError {
        let of_bytes = match inmost(&error) {
            // Predicates are evaluated while rows are decoded: what they fail on is the query's fault.
            DataFusionError::ParquetError(parquet) => match parquet.as_ref() {
                ParquetError::External(external) => !external.is::<ArrowError>(),
                _ => true,
            },
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => true,
            DataFusionError::ArrowError(arrow, _) => {
                matches!(arrow.as_ref(), ArrowError::ParquetError(_) | ArrowError::IoError(..))
            }
            _ => false,
        };
        if !of_bytes {
            return error;
        }
        DataFusionError::External(Box::new(Self { file: Arc::clone(file), source: Cause::from(error) }))
    }
}

/// An error of a library beneath, in its own words.
///
/// It has no further source, because these libraries write their sources into their own text already.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.downcast_ref::<DataFusionError>() {
            Some(error) => f.write_str(&error.strip_backtrace()),
            None => self.0.fmt(f),
        }
    }
}

impl Error for Cause {}

impl From<DataFusionError> for Cause {
    fn from(error: DataFusionError) -> Self {
        Self(Arc::new(error))
    }
}

impl From<object_store::Error> for Cause {
    fn from(error: object_store::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl From<ArrowError> for Cause {
    fn from(error: ArrowError) -> Self {
        Self(Arc::new(error))
    }
}

impl From<ParquetError> for Cause {
    fn from(error: ParquetError) -> Self {
        Self(Arc::new(error))
    }
}

/// The error within contexts, diagnostics and shared copies.
fn inmost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, within) | DataFusionError::Diagnostic(_, within) => inmost(within),
        DataFusionError::Shared(within) => inmost(within),
        DataFusionError::Collection(several) => several.first().map_or(error, inmost),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::ExternalError(external) => match external.downcast_ref::<DataFusionError>() {
                Some(within) => inmost(within),
                None => error,
            },
            _ => error,
        },
        _ => error,
    }
}

fn parser_message(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => "it is nested too deeply".into(),
    }
}

/// Candidates within a third of `name`'s letters of it, or that hold it or lie in it, nearest first; three at most.
pub(crate) fn near<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = candidates
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&name, &lower);
            let close = distance <= name.chars().count().div_ceil(3);
            let within = name.len() > 2 && (lower.contains(&name) || name.contains(&lower));
            (close || within).then_some((distance, candidate))
        })
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |lake| write!(f, "; there is one at {lake:?}"))
    }
}

struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", did you mean {}", self.0.join(" or ")) }
    }
}

struct At<'a>(&'a Option<(u64, u64)>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(line, column)| write!(f, " at line {line}, column {column}"))
    }
}
