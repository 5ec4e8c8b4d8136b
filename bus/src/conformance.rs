//! The suite that every bus passes.
//!
//! A bus takes part by implementing [`Subject`] and naming it to [`conformance_suite!`](crate::conformance_suite).
//! Besides what each test asserts, every event that a test reads goes through [`Reader`], which checks the rules
//! that always hold: generations rise, records belong to what is owned, offsets rise, a poll keeps to its bytes.

pub mod delivery;
pub mod errors;
pub mod flow;
pub mod groups;
mod reader;
pub mod readers;
pub mod retention;
pub mod rewind;
pub mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::reader::Reader;
use crate::contract::{Bus, ConsumerConfig, Offset, Producer};
use crate::error::BusError;
use crate::record::{Cleanup, Headers, PartitionId, Received, Record, TopicSpec};

/// How long a test waits for anything before it fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A bus under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The bus, as a client that has just started sees it. Later calls may answer with the same one.
    async fn open(&self) -> Arc<dyn Bus>;

    /// Ends the client and starts another, on the same data.
    async fn reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus>;

    /// Tries to open a bus that does not answer; `None` where that cannot happen.
    async fn open_unreachable(&self) -> Option<Result<Arc<dyn Bus>, BusError>>;

    /// Bytes of the largest record that the bus takes.
    fn max_record_bytes(&self) -> usize;

    /// Whether the bus compacts within seconds. Where it does not, the suite checks nothing of it.
    fn compacts_soon(&self) -> bool;

    /// Makes the bus do now what it does from time to time: retention, compaction.
    async fn tidy(&self, bus: &dyn Bus);
}

/// Declares one test per rule of the suite.
///
/// `$subject` is an `async fn() -> Option<S>` with `S: Subject`; `None` skips the tests.
#[macro_export]
macro_rules! conformance_suite {
    ($subject:path) => {
        $crate::conformance_tests! { $subject;
            delivery::records_of_a_partition_keep_their_order,
            delivery::everything_acknowledged_is_delivered_once,
            delivery::keys_headers_tombstones_and_timestamps_survive,
            delivery::reading_resumes_at_the_committed_offset_after_a_restart,
            delivery::uncommitted_records_are_delivered_again,
            delivery::a_group_may_start_at_the_end,
            delivery::a_dropped_poll_loses_nothing,
            delivery::lag_counts_what_is_not_committed,
            groups::two_members_share_partitions_without_loss_or_repetition,
            groups::an_older_generation_cannot_commit,
            groups::a_member_that_does_not_poll_gives_its_partitions_up,
            groups::groups_do_not_see_each_other,
            groups::mirrors_are_read_under_their_own_names_also_new_ones,
            flow::a_paused_partition_waits_while_the_others_go_on,
            flow::everything_paused_and_resumed_again_and_again_arrives_once,
            flow::a_poll_returns_no_more_than_its_bytes,
            retention::records_go_by_age_and_readers_go_on_at_the_start,
            retention::records_go_by_size,
            retention::compaction_keeps_the_last_value_of_a_key,
            errors::a_record_over_the_limit_is_refused_and_nothing_is_written,
            errors::an_unknown_topic_or_partition_is_refused,
            errors::an_unreachable_bus_is_an_error_and_not_a_wait,
            errors::creating_a_topic_again_changes_nothing,
            errors::a_closed_bus_says_so,
            rewind::an_assignment_goes_back_by_its_time,
            rewind::repeats_leave_the_committed_offset_alone,
            rewind::a_transaction_that_starts_over_goes_back_too,
            transactions::outputs_and_offsets_come_together,
            transactions::marks_of_transactions_are_no_lag,
            transactions::a_refused_transaction_leaves_neither,
            transactions::a_stale_transaction_starts_the_member_over,
            transactions::a_dropped_transaction_happens_as_a_whole_or_not_at_all,
            transactions::a_newer_owner_of_the_id_fences_the_older,
            transactions::transactions_need_an_id,
            readers::a_reader_tells_when_it_has_everything_and_follows,
            readers::a_reader_of_nothing_is_complete,
            readers::a_reader_begins_where_it_is_told,
            readers::a_compacted_topic_is_read_as_a_table,
            readers::a_reader_sees_what_is_committed,
            readers::the_last_owner_of_an_id_writes,
            readers::a_refused_transaction_without_offsets_leaves_nothing,
            readers::a_reader_commits_nothing,
        }
    };
}

/// Used by [`conformance_suite!`](crate::conformance_suite).
#[macro_export]
#[doc(hidden)]
macro_rules! conformance_tests {
    ($subject:path; $($module:ident :: $test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(subject) = $subject().await {
                    $crate::conformance::$module::$test(&subject).await;
                }
            }
        )*
    };
}

/// A name that no other test of this or another run uses.
fn unique(name: &str) -> Arc<str> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Arc::from(format!("{name}-{}-{}-{count}", std::process::id(), now_ms()))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the year 292278994")
}

const KEEP: Cleanup = Cleanup::Delete { max_age: None, max_bytes: None };

/// Creates a topic of its own for a test.
async fn topic(bus: &dyn Bus, name: &str, partitions: u32, cleanup: Cleanup) -> Arc<str> {
    let name = unique(name);
    let spec = TopicSpec { name: Arc::clone(&name), partitions, cleanup };
    bus.create_topics(&[spec]).await.expect("a topic");
    name
}

/// A record whose value is a number, padded to at least that many bytes.
fn numbered(topic: &Arc<str>, partition: u32, number: u64, bytes: usize) -> Record {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(bytes.max(8), 0);
    Record {
        to: PartitionId::new(Arc::clone(topic), partition),
        key: None,
        value: Some(Bytes::from(value)),
        timestamp_ms: now_ms(),
        headers: Headers::new(),
    }
}

/// The number in a value that [`numbered`] made.
fn number(record: &Received) -> u64 {
    let value = record.value.as_ref().expect("a value");
    u64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
}

async fn send_numbers(producer: &dyn Producer, topic: &Arc<str>, partition: u32, numbers: std::ops::Range<u64>) {
    let records = numbers.map(|n| numbered(topic, partition, n, 8)).collect();
    producer.send(records).await.expect("an acknowledgement");
}

fn config(group: &str, topic: &Arc<str>) -> ConsumerConfig {
    ConsumerConfig::new(group, [Arc::clone(topic)])
}

/// "Everything up to this record is settled."
fn after(record: &Received) -> Offset {
    Offset { partition: record.from.clone(), generation: record.generation, next: record.offset + 1 }
}
