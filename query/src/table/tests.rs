//! How far predicates reach: which folders are listed, which files opened, how much of them is read.

use crate::fixture::{HOUR, ROW_GROUP, Row, SECOND, TestLake};

const HOURS: i64 = 3600 * SECOND;
const DAYS: i64 = 24 * HOURS;

/// Two clusters, each with one span a day over 30 days and one in each of the last day's 24 hours.
async fn month() -> TestLake {
    let lake = TestLake::new();
    for cluster in ["eu", "us"] {
        let days = (1..30).map(|day| Row::at(HOUR - day * DAYS, cluster));
        let hours = (0..24).map(|hour| Row::at(HOUR + hour * HOURS, cluster));
        lake.write("spans", &days.chain(hours).collect::<Vec<_>>()).await;
    }
    lake.take_reads();
    lake
}

#[tokio::test]
async fn without_predicates_every_file_is_read() {
    let lake = month().await;
    assert_eq!(lake.rows("SELECT count(trace_id) FROM spans").await, ["106"]);
    assert_eq!(lake.take_reads().files.len(), 106);
}

#[tokio::test]
async fn a_time_predicate_lists_and_opens_only_its_hours() {
    let lake = month().await;
    let sql =
        "SELECT count(*) FROM spans WHERE start_time >= '2026-03-04T07:00:00Z' AND start_time < '2026-03-04T09:00:00Z'";
    assert_eq!(lake.rows(sql).await, ["4"]);
    let reads = lake.take_reads();
    assert_eq!(reads.files.len(), 4, "{:?}", reads.files);
    assert!(reads.files.iter().all(|file| file.contains("/date=2026-03-04/hour=07/") || file.contains("/hour=08/")));
    // The table, two clusters, one date each, two hours each.
    assert_eq!(reads.listed.len(), 1 + 2 + 2 + 4, "{:?}", reads.listed);
}

#[tokio::test]
async fn every_way_to_write_a_time_predicate_is_understood() {
    let lake = month().await;
    let hour_7 = "2026-03-04T07";
    for predicate in [
        format!("start_time BETWEEN '{hour_7}:00:00Z' AND '{hour_7}:59:59Z'"),
        format!("start_time = '{hour_7}:00:00Z'"),
        format!("start_time = TIMESTAMP '{hour_7}:00:00'"),
        "start_time = '2026-03-04 07:00:00+00:00'".to_owned(),
        "start_time = '2026-03-04T09:00:00+02:00'".to_owned(),
        format!("'{hour_7}:00:00Z' = start_time"),
        format!(
            "start_time >= TIMESTAMP '2026-03-04T08:00:00' - INTERVAL '60 minutes' AND start_time < '{hour_7}:30:00Z'"
        ),
        format!("NOT (start_time < '{hour_7}:00:00Z' OR start_time >= '2026-03-04T08:00:00Z')"),
        format!("start_time IN ('{hour_7}:00:00Z')"),
        "date = '2026-03-04' AND hour = 7".into(),
        "date = DATE '2026-03-04' AND hour IN (7)".into(),
        "date = '2026-03-04' AND hour = '07'".into(),
        "date > '2026-03-03' AND hour * 10 = 70".into(),
    ] {
        let found = lake.rows(&format!("SELECT cluster, start_time FROM spans WHERE {predicate} ORDER BY 1")).await;
        assert_eq!(found, ["eu,2026-03-04T07:00:00Z", "us,2026-03-04T07:00:00Z"], "{predicate}");
        assert_eq!(lake.take_reads().files.len(), 2, "{predicate}");
    }
}

#[tokio::test]
async fn now_is_a_time_like_any_other() {
    let lake = month().await;
    let now: i64 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    lake.write("spans", &[Row::at(now - 60 * SECOND, "eu")]).await;
    lake.take_reads();
    assert_eq!(lake.rows("SELECT count(*) FROM spans WHERE start_time > now() - INTERVAL '1 hour'").await, ["1"]);
    assert_eq!(lake.take_reads().files.len(), 1);
}

#[tokio::test]
async fn a_cluster_predicate_opens_only_its_files_whatever_function_it_calls() {
    let lake = month().await;
    for predicate in ["cluster = 'eu'", "cluster IN ('eu', 'ap')", "upper(cluster) = 'EU'", "cluster LIKE '%e%'"] {
        let sql =
            format!("SELECT DISTINCT cluster FROM spans WHERE {predicate} AND start_time < '2026-02-10T00:00:00Z'");
        assert_eq!(lake.rows(&sql).await, ["eu"], "{predicate}");
        let reads = lake.take_reads();
        assert!(
            !reads.files.is_empty() && reads.files.iter().all(|file| file.contains("cluster_key=eu")),
            "{predicate}"
        );
        assert!(
            !reads.listed.iter().any(|folder| folder.contains("cluster_key=us")),
            "{predicate}: {:?}",
            reads.listed
        );
    }
}

#[tokio::test]
async fn a_predicate_over_either_time_or_cluster_keeps_what_either_needs() {
    let lake = month().await;
    let sql = "SELECT count(*) FROM spans WHERE cluster = 'eu' AND start_time < '2026-02-05T00:00:00Z' \
               OR cluster = 'us' AND start_time >= '2026-03-05T04:00:00Z'";
    assert_eq!(lake.rows(sql).await, ["3"]);
    assert_eq!(lake.take_reads().files.len(), 3);
}

#[tokio::test]
async fn predicates_that_paths_cannot_decide_still_hold() {
    let lake = month().await;
    assert_eq!(lake.rows("SELECT count(*) FROM spans WHERE name = 'nothing'").await, ["0"]);
    assert_eq!(lake.rows("SELECT count(*) FROM spans WHERE hour % 12 = 5 AND date = '2026-03-04'").await, ["4"]);
    assert_eq!(lake.rows("SELECT count(*) FROM spans WHERE start_time IS NULL").await, ["0"]);
    let sql = "SELECT count(*) FROM spans WHERE date_trunc('hour', start_time) = '2026-03-04T07:00:00Z'";
    assert_eq!(lake.rows(sql).await, ["2"]);
    assert_eq!(
        lake.rows("SELECT count(*) FROM spans WHERE cluster = 'eu' OR TRY_CAST(cluster AS INT) = 1").await,
        ["53"]
    );
}

#[tokio::test]
async fn spans_without_a_time_lie_in_the_first_hour_of_1970_and_are_found_there() {
    let lake = month().await;
    lake.write("spans", &[Row::at(0, "eu")]).await;
    lake.take_reads();
    assert_eq!(
        lake.rows("SELECT date, hour FROM spans WHERE start_time = to_timestamp_nanos(0)").await,
        ["1970-01-01,0"]
    );
    assert_eq!(lake.take_reads().files.len(), 1);
}

#[tokio::test]
async fn logs_are_pruned_by_their_own_time() {
    let lake = TestLake::new();
    lake.write("logs", &[Row::at(HOUR, "eu"), Row::at(HOUR + HOURS, "eu")]).await;
    lake.take_reads();
    assert_eq!(lake.rows("SELECT body FROM logs WHERE time < '2026-03-04T06:00:00Z'").await, ["GET /cart"]);
    assert_eq!(lake.take_reads().files.len(), 1);
}

/// One file of 5,000 spans, one each 100 ms, in ten row groups.
async fn one_file() -> (TestLake, Vec<Row>) {
    let lake = TestLake::new();
    let rows: Vec<Row> =
        (0..5000).map(|i| Row { trace_id: trace(i), ..Row::at(HOUR + i * SECOND / 10, "eu") }).collect();
    assert_eq!(rows.len(), 10 * ROW_GROUP);
    lake.write("spans", &rows).await;
    lake.take_reads();
    (lake, rows)
}

/// Trace ids in no order, so that minimum and maximum of a row group tell nothing.
fn trace(i: i64) -> String {
    format!("{:016x}{i:016x}", (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The value of a metric of the scan in `EXPLAIN ANALYZE`, as it is printed there.
async fn metric(lake: &TestLake, sql: &str, name: &str) -> String {
    let plan = lake.rows(&format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    let at = plan.find(&format!("{name}=")).unwrap_or_else(|| panic!("{name} is not in {plan}"));
    let value = &plan[at + name.len() + 1..];
    value[..value.find([',', ']']).unwrap()].to_owned()
}

#[tokio::test]
async fn statistics_rule_out_row_groups_and_pages() {
    let (lake, _) = one_file().await;
    let sql = "SELECT count(trace_id) FROM spans WHERE start_time < '2026-03-04T05:00:10Z'";
    assert_eq!(lake.rows(sql).await, ["100"]);
    assert_eq!(metric(&lake, sql, "row_groups_pruned_statistics").await, "10 total → 1 matched");
    assert_eq!(metric(&lake, sql, "page_index_rows_pruned").await, "500 total → 100 matched");
}

#[tokio::test]
async fn the_bloom_filter_rules_out_row_groups_without_a_trace() {
    let (lake, rows) = one_file().await;
    let wanted = &rows[3210];
    let sql = format!("SELECT start_time FROM spans WHERE trace_id = '{}'", wanted.trace_id);
    assert_eq!(lake.rows(&sql).await, ["2026-03-04T05:05:21Z"]);
    assert_eq!(metric(&lake, &sql, "row_groups_pruned_statistics").await, "10 total → 10 matched");
    assert_eq!(metric(&lake, &sql, "row_groups_pruned_bloom_filter").await, "10 total → 1 matched");
}

#[tokio::test]
async fn a_lookup_of_one_trace_reads_a_small_part_of_a_file() {
    let (lake, rows) = one_file().await;
    lake.rows("SELECT * FROM spans").await;
    let all = lake.take_reads().bytes;
    let sql = format!("SELECT * FROM spans WHERE trace_id = '{}'", rows[77].trace_id);
    assert_eq!(lake.rows(&sql).await.len(), 1);
    let one = lake.take_reads().bytes;
    assert!(one * 2 < all, "{one} of {all} bytes");
}

#[tokio::test]
async fn rows_are_dropped_while_they_are_decoded() {
    let lake = TestLake::new();
    // The name asked for lies between minimum and maximum, so that only the rows themselves can tell.
    let name = |i: i64| if i % 2 == 0 { "GET /a" } else { "GET /z" };
    let rows: Vec<Row> = (0..1000).map(|i| Row { name: name(i).into(), ..Row::at(HOUR + i, "eu") }).collect();
    lake.write("spans", &rows).await;
    let sql = "SELECT trace_id FROM spans WHERE name = 'GET /m'";
    assert_eq!(lake.rows(sql).await.len(), 0);
    assert_eq!(metric(&lake, sql, "pushdown_rows_pruned").await, "1.00 K");
}

#[tokio::test]
async fn the_newest_rows_are_found_without_opening_what_is_older() {
    let lake = month().await;
    let sql = "SELECT start_time FROM spans ORDER BY start_time DESC LIMIT 2";
    assert_eq!(lake.rows(sql).await, ["2026-03-05T04:00:00Z", "2026-03-05T04:00:00Z"]);
    let opened = lake.take_reads().files.len();
    assert!(opened < 20, "{opened} files opened for two rows");
}

#[tokio::test]
async fn bounds_of_an_hour_are_never_taken_for_the_times_in_it() {
    let lake = TestLake::new();
    lake.write("spans", &[Row::at(HOUR + 7 * SECOND, "eu"), Row::at(HOUR + 9 * SECOND, "eu")]).await;
    let sql = "SELECT min(start_time), max(start_time), count(*) FROM spans";
    assert_eq!(lake.rows(sql).await, ["2026-03-04T05:00:07Z,2026-03-04T05:00:09Z,2"]);
    let sql = "SELECT start_time FROM spans ORDER BY start_time";
    assert_eq!(lake.rows(sql).await, ["2026-03-04T05:00:07Z", "2026-03-04T05:00:09Z"]);
}

#[tokio::test]
async fn sorted_by_time_rows_of_many_files_come_in_order() {
    let lake = TestLake::new();
    // Files of one hour overlap: clusters and times are mixed.
    let clusters = ["a", "b", "c", "d", "e"];
    let rows: Vec<Row> =
        (0..500).map(|i| Row::at(HOUR + i * 97 % 500 * 60 * SECOND, clusters[i as usize % 5])).collect();
    lake.write("spans", &rows).await;
    for (order, limit) in [("ASC", 500), ("DESC", 500), ("ASC", 7), ("DESC", 7), ("DESC NULLS LAST", 7)] {
        let mut expected: Vec<i64> = rows.iter().map(|row| row.nanos).collect();
        expected.sort_unstable();
        if order.starts_with("DESC") {
            expected.reverse();
        }
        expected.truncate(limit);
        let sql =
            format!("SELECT CAST(start_time AS BIGINT) AS nanos FROM spans ORDER BY start_time {order} LIMIT {limit}");
        let expected: Vec<String> = expected.iter().map(i64::to_string).collect();
        assert_eq!(lake.rows(&sql).await, expected, "{order} {limit}");
    }
}

#[tokio::test]
async fn a_limit_ends_the_reading() {
    let lake = month().await;
    assert_eq!(lake.rows("SELECT name FROM spans LIMIT 3").await.len(), 3);
    let opened = lake.take_reads().files.len();
    assert!(opened < 50, "{opened} files opened for three rows");
}
