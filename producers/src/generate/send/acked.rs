//! The file of acknowledged spans, against which a test compares what was stored.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::generate::corpus::Batch;
use crate::generate::error::GenerateError;

/// Lines `TRACE_ID SPAN_ID`, complete after each request, so that a reader sees whole lines of every request that
/// was acknowledged before.
#[derive(Debug)]
pub(super) struct AckedFile {
    path: PathBuf,
    file: File,
}

impl AckedFile {
    /// Opens the file for appending; it is created where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, GenerateError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|source| GenerateError::AckedFile { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds the spans of a request, in one write.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), GenerateError> {
        let mut lines = String::with_capacity(batch.spans as usize * 50);
        for (trace_id, span_id) in batch.span_ids() {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{:032x} {:016x}", u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id));
        }
        let written = self.file.write_all(lines.as_bytes());
        written.map_err(|source| GenerateError::AckedFile { path: self.path.clone(), source })
    }
}
