//! One range being written: steps 1 and 3 of the protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::Received;
use bytes::Bytes;
use futures::future::try_join_all;
use object_store::path::Path;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::error::Stop;
use super::file::{Covers, FileEncoder};
use super::intent::{Fingerprint, Intent};
use super::layout::{Layout, Place};
use super::pressure::Usage;
use super::protocol;
use super::rows::{Rows, Scan};
use super::table::Table;
use super::transport::Upload;
use super::writer::{Interrupt, Line, Shared, persist};

/// Bytes of rows after which a row group is written, however few they are.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Files after which a range ends. One record may open [`MAX_PLACES`](super::rows::MAX_PLACES) more.
const MAX_FILES: usize = 256;
/// How long an upload that is given up may take to be aborted.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a partition's ranges have in common.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) shared: Arc<Shared>,
    pub(crate) line: Line,
    pub(crate) usage: Arc<Usage>,
    pub(crate) table: Table,
    pub(crate) layout: Layout,
}

/// The records `first..=last` on their way into files.
pub(crate) struct Range {
    target: Target,
    first: u64,
    /// Fixes where the range ends, and its names.
    replays: Option<Intent>,
    /// Where a range begins that exists already.
    before: Option<u64>,
    head: Option<Fingerprint>,
    last: u64,
    /// When the oldest record arrived.
    opened: Instant,
    records: u64,
    items: u64,
    bytes: usize,
    files: BTreeMap<Place, OpenFile>,
}

/// Whether a record belongs to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It does.
    Within,
    /// The range ended before it.
    Beyond,
}

/// A file of a range before its end is known.
#[derive(Default)]
struct OpenFile {
    rows: Rows,
    encoder: Option<Box<FileEncoder>>,
    upload: Option<Pending>,
}

/// A range whose files are uploaded but not complete.
pub(crate) struct Sealed {
    /// What claims it.
    pub(crate) intent: Intent,
    /// How much it holds.
    pub(crate) totals: Totals,
    target: Target,
    files: Vec<SealedFile>,
}

/// What a range holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Bus records.
    pub(crate) records: u64,
    /// Spans or log records.
    pub(crate) items: u64,
    /// Bytes of the bus records.
    pub(crate) bytes: u64,
}

struct SealedFile {
    upload: Pending,
    bytes: u64,
}

impl Range {
    /// An empty range that begins at the committed position; it ends where an intent says, or anywhere below the
    /// offset `before`.
    pub(crate) fn new(target: Target, first: u64, replays: Option<Intent>, before: Option<u64>) -> Self {
        Self {
            target,
            first,
            replays,
            before,
            head: None,
            last: first,
            opened: Instant::now(),
            records: 0,
            items: 0,
            bytes: 0,
            files: BTreeMap::new(),
        }
    }

    /// Whether its end is fixed.
    pub(crate) fn is_replay(&self) -> bool {
        self.replays.is_some()
    }

    /// Whether it has no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// When the oldest record will be too old to wait any longer; never for a replay.
    pub(crate) fn ages_at(&self) -> Option<Instant> {
        let age = self.target.shared.config.flush.age.0;
        (self.head.is_some() && self.replays.is_none()).then(|| self.opened + age)
    }

    /// Cluster of records that name none: that of the intent, since names of files depend on it.
    pub(crate) fn default_cluster(&self) -> Arc<str> {
        match &self.replays {
            Some(intent) => intent.default_cluster.as_str().into(),
            None => self.target.shared.config.default_cluster.as_str().into(),
        }
    }

    /// Takes a record into account, whose rows are to follow if it belongs to the range.
    pub(crate) fn admit(&mut self, record: &Received) -> Result<Admission, Stop> {
        if self.before.is_some_and(|before| record.offset >= before) && self.replays.is_none() {
            return Ok(Admission::Beyond);
        }
        let head = match self.head {
            Some(head) => head,
            None => {
                let head = Fingerprint::of(record);
                self.replays.as_ref().map_or(Ok(()), |intent| protocol::recognise(intent, head))?;
                self.opened = Instant::now();
                head
            }
        };
        if self.replays.as_ref().is_some_and(|intent| record.offset > intent.last) {
            return Ok(Admission::Beyond);
        }
        self.head = Some(head);
        self.last = record.offset;
        self.records += 1;
        self.bytes += record.size();
        Ok(Admission::Within)
    }

    /// Whether the range ends here: where its intent says, or because it is large enough.
    pub(crate) fn is_full(&self) -> bool {
        match &self.replays {
            Some(intent) => self.head.is_some() && self.last >= intent.last,
            None => self.bytes >= self.target.shared.config.flush.bytes.as_usize() || self.files.len() >= MAX_FILES,
        }
    }

    /// Takes the rows of a record in, and writes the row groups that are full.
    pub(crate) async fn add(&mut self, scan: Scan) -> Result<(), Interrupt> {
        self.items += scan.items;
        let row_group_rows = self.target.shared.config.row_group_rows as usize;
        for (place, rows) in scan.places {
            let file = self.files.entry(place.clone()).or_default();
            file.rows.append(&scan.chunk, rows);
            if file.rows.len() >= row_group_rows || file.rows.bytes() >= ROW_GROUP_BYTES {
                file.write(&self.target, &place, self.first, None).await?;
            }
        }
        Ok(())
    }

    /// Writes the rows that wait as row groups of whatever size, to free their memory.
    pub(crate) async fn spill(&mut self) -> Result<(), Interrupt> {
        for (place, file) in &mut self.files {
            if !file.rows.is_empty() {
                file.write(&self.target, place, self.first, None).await?;
            }
        }
        Ok(())
    }

    /// Step 1: uploads everything, completing nothing. The range must not be empty.
    pub(crate) async fn seal(mut self) -> Result<Sealed, Interrupt> {
        let partition = self.target.line.partition.clone();
        let covers = Covers { partition, first: self.first, last: self.last };
        let files = std::mem::take(&mut self.files);
        let sealing = files.into_iter().map(|(place, file)| file.seal(&self.target, place, &covers));
        let files = try_join_all(sealing).await?;
        let default_cluster = self.default_cluster().to_string();
        let intent = Intent {
            layout: super::layout::LAYOUT_VERSION,
            writer: super::intent::WRITER_VERSION,
            first: self.first,
            last: self.last,
            default_cluster,
            fingerprint: self.head.unwrap_or(Fingerprint { offset: self.first, timestamp_ms: 0, crc32c: 0 }),
        };
        let totals = Totals { records: self.records, items: self.items, bytes: self.bytes as u64 };
        Ok(Sealed { intent, totals, target: self.target, files })
    }
}

impl OpenFile {
    /// Writes the rows as a row group and, given what the file covers, the footer; uploads what is ready.
    async fn write(
        &mut self,
        target: &Target,
        place: &Place,
        first: u64,
        end: Option<&Covers>,
    ) -> Result<(), Interrupt> {
        let rows = std::mem::take(&mut self.rows);
        let encoder = self.encoder.take();
        let job = EncodeJob { table: target.table, cluster: Arc::clone(&place.cluster), rows, end: end.cloned() };
        let mut encoder = encode(target, encoder, job).await?;
        let path = target.layout.data(place, first);
        while let Some(part) = encoder.take_part() {
            self.upload(target, &path, part).await?;
        }
        self.encoder = Some(encoder);
        Ok(())
    }

    async fn upload(&mut self, target: &Target, path: &Path, part: Bytes) -> Result<(), Interrupt> {
        let Target { shared, line, usage, .. } = target;
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let begun = persist!(line, shared.request(shared.store.upload(path)))?;
                none.insert(Pending { upload: Some(begun), tasks: shared.tasks.clone() })
            }
        };
        let Some(upload) = &mut upload.upload else { return Err(Interrupt::Gone) };
        persist!(line, shared.request(upload.part(part.clone())))?;
        usage.upload(part.len());
        Ok(())
    }

    async fn seal(mut self, target: &Target, place: Place, covers: &Covers) -> Result<SealedFile, Interrupt> {
        self.write(target, &place, covers.first, Some(covers)).await?;
        let bytes = self.encoder.as_ref().map_or(0, |encoder| encoder.written() as u64);
        // A footer is never empty, so there is an upload.
        let upload = self.upload.take().ok_or(Interrupt::Restart("no_upload"))?;
        Ok(SealedFile { upload, bytes })
    }
}

struct EncodeJob {
    table: Table,
    cluster: Arc<str>,
    rows: Rows,
    end: Option<Covers>,
}

/// Encodes off the runtime's threads, as many jobs at once as there are cores.
async fn encode(
    target: &Target,
    encoder: Option<Box<FileEncoder>>,
    job: EncodeJob,
) -> Result<Box<FileEncoder>, Interrupt> {
    let shared = Arc::clone(&target.shared);
    let _turn = target.shared.encoders.acquire().await.map_err(|_| Interrupt::Gone)?;
    let encoding = tokio::task::spawn_blocking(move || {
        // Taken before a new encoder is made, which writes the file's magic bytes at once.
        let before = encoder.as_ref().map_or(0, |encoder| encoder.written());
        let mut encoder = match encoder {
            Some(encoder) => encoder,
            None => Box::new(FileEncoder::new(job.table, job.cluster, &shared.config)?),
        };
        if !job.rows.is_empty() {
            encoder.row_group(job.rows)?;
        }
        if let Some(covers) = &job.end {
            encoder.finish(covers)?;
        }
        let written = encoder.written() - before;
        Ok::<_, parquet::errors::ParquetError>((encoder, written))
    });
    match encoding.await {
        Ok(Ok((encoder, written))) => {
            target.usage.encode(written);
            Ok(encoder)
        }
        Ok(Err(error)) => Err(Stop::Encode { reason: error.to_string() }.into()),
        Err(error) if error.is_panic() => Err(Stop::Encode { reason: "the encoder panicked".into() }.into()),
        Err(_) => Err(Interrupt::Gone),
    }
}

impl Sealed {
    /// Step 3: makes all files visible. May be repeated by any writer of the range.
    pub(crate) async fn complete(mut self) -> Result<(), Interrupt> {
        let Target { shared, line, table, .. } = &self.target;
        let completing = self.files.iter_mut().map(async |file| {
            let Some(upload) = &mut file.upload.upload else { return Err(Interrupt::Gone) };
            persist!(line, shared.request(upload.complete()))?;
            file.upload.upload = None;
            shared.metrics.files_written.get_or_create(&Shared::labels(*table)).inc();
            shared.metrics.file_bytes_written.get_or_create(&Shared::labels(*table)).inc_by(file.bytes);
            Ok(())
        });
        try_join_all(completing).await.map(drop)
    }
}

/// An upload that is aborted in the background when it is dropped before its completion.
struct Pending {
    upload: Option<Box<dyn Upload>>,
    tasks: TaskTracker,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(
                async move {
                    // What cannot be aborted is left to the store's sweeping.
                    let _ = tokio::time::timeout(ABORT_TIMEOUT, upload.abort()).await;
                },
                &runtime,
            );
        }
    }
}
