//! What Loki refuses of a request, tells, and does not tell.

use super::*;

/// Everything that Loki refuses one by one, in one request of two streams, with a block too small to know anything again.
#[tokio::test]
async fn whatever_loki_refuses_of_a_request_the_rest_is_sent_once() {
    const DAY: u64 = 86_400_000_000_000;
    let limits =
        Limits { max_line_size: 20, max_structured_metadata_size: 40, head_block_bytes: 1, ..Limits::default() };
    let loki = Loki::start(Options { limits, ..Options::default() }).await.unwrap();
    let mut world = World::new(&loki).await;
    world.config.backfill.enabled = false;
    world.config.limits.max_age = Period(Duration::ZERO);
    world.config.limits.max_future = Period(Duration::ZERO);
    world.config.delivery.retry.max = Period(Duration::from_millis(5));
    let long =
        ["too long a line for this Loki", "too long a line for this Loki", "another line that is longer than that"];
    let mut logs = Vec::new();
    for (i, line) in long.into_iter().chain(["a", "b", "c", "a", "b"]).enumerate() {
        logs.push(log(i as i64, line));
    }
    logs.push(log(-(8 * DAY as i64), "old"));
    logs.push(log(-(8 * DAY as i64) + 1, "old, too"));
    logs.push(log(DAY as i64, "new"));
    let wide = KeyValue { key: "wide".into(), value: text(&"w".repeat(40)), ..KeyValue::default() };
    logs.push(LogRecord { attributes: vec![wide], ..log(20, "wide") });
    let items = 2 * logs.len();
    world.publish_value(request_of([("a", logs.clone()), ("b", logs)]), items, &[]).await;
    world.deliver().await;
    let mut stored = all(&loki, "fake");
    stored.sort();
    assert_eq!(stored.concat(), "aaaabbbbcc");
    assert_eq!(loki.deduplicated(), 0);
    let mut dead = world.dead_letters().await;
    dead.sort();
    let expected = [long[2], "new", "old", "old, too", long[0], long[0], "wide"];
    let expected: Vec<&str> = expected.into_iter().flat_map(|line| [line, line]).collect();
    assert_eq!(dead, expected);
    let reasons: Vec<_> = loki.refused().into_iter().collect();
    let each = ["greater_than_max_sample_age", "line_too_long", "structured_metadata_too_large", "too_far_in_future"];
    assert_eq!(reasons, each.into_iter().zip([4, 6, 2, 2]).collect::<Vec<_>>(), "each was refused once");
}

/// Loki says nothing of entries that are too far behind in any but the last stream of a request.
#[tokio::test]
async fn what_is_too_far_behind_is_not_lost_where_others_are_taken() {
    const HOUR: i64 = 3_600_000_000_000;
    let loki = Loki::start(Options::default()).await.unwrap();
    let world = World::new(&loki).await;
    world.publish_value(request_of([("a", vec![log(0, "newest")])]), 1, &[]).await;
    world.deliver().await;
    let behind = vec![log(-3 * HOUR, "a1"), log(-2 * HOUR, "a2"), log(-HOUR / 2, "a3"), log(1, "a4")];
    let others = vec![log(-3 * HOUR, "b1"), log(-2 * HOUR, "b2"), log(2, "b3")];
    world.publish_value(request_of([("a", behind), ("b", others)]), 7, &[]).await;
    world.deliver().await;
    let mut stored = all(&loki, "fake");
    stored.sort();
    assert_eq!(stored, ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "newest"]);
    assert_eq!((loki.deduplicated(), world.dead_letters().await.len()), (0, 0));
}

/// Without backfills each stream is asked for alone, and what is too far behind becomes dead letters.
#[tokio::test]
async fn without_backfills_what_is_too_far_behind_is_a_dead_letter_and_not_lost() {
    const HOUR: i64 = 3_600_000_000_000;
    let loki = Loki::start(Options::default()).await.unwrap();
    let mut world = World::new(&loki).await;
    world.config.backfill.enabled = false;
    world.publish_value(request_of([("a", vec![log(0, "newest")])]), 1, &[]).await;
    world.deliver().await;
    let behind = vec![log(-3 * HOUR, "a1"), log(-HOUR / 2, "a2")];
    let others = vec![log(-3 * HOUR, "b1"), log(2, "b2")];
    world.publish_value(request_of([("a", behind), ("b", others)]), 4, &[]).await;
    world.deliver().await;
    let mut stored = all(&loki, "fake");
    stored.sort();
    assert_eq!(stored, ["a2", "b2", "newest"]);
    assert_eq!(world.dead_letters().await, ["a1", "b1"]);
}

/// The same log record twice is refused twice, and found as one.
#[tokio::test]
async fn what_is_there_twice_is_found_all_the_same() {
    let limits = Limits { max_line_size: 10, ..Limits::default() };
    let loki = Loki::start(Options { limits, ..Options::default() }).await.unwrap();
    let world = World::new(&loki).await;
    let (bad, good) = (log(0, "too long a line"), log(1, "good"));
    world
        .publish_value(
            request_of([("a", vec![bad.clone(), bad, good.clone()]), ("b", vec![good.clone(), good])]),
            5,
            &[],
        )
        .await;
    world.deliver().await;
    assert_eq!(all(&loki, "fake"), ["good", "good"]);
    assert_eq!(world.dead_letters().await, ["too long a line"; 2]);
    assert_eq!((loki.count("line_too_long"), loki.arrivals().len()), (1, 2), "nothing was halved");
}

/// Where Loki blocks some streams of a request, it says so only if nothing is wrong with the others.
#[tokio::test]
async fn streams_that_are_blocked_wait_whatever_is_wrong_with_others() {
    let limits = Limits { max_line_size: 10, ..Limits::default() };
    let loki = Loki::start(Options { limits, ..Options::default() }).await.unwrap();
    let world = World::new(&loki).await;
    let bad = vec![log(0, "b1"), log(1, "too long a line")];
    loki.block(Some("a"));
    world.publish_value(request_of([("a", vec![log(0, "a1"), log(1, "a2")]), ("b", bad)]), 4, &[]).await;
    let unblocked = async {
        while loki.count("ingestion_blocked") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(all(&loki, "fake"), ["b1"]);
        loki.block(None);
    };
    tokio::join!(world.deliver(), unblocked);
    let mut stored = all(&loki, "fake");
    stored.sort();
    assert_eq!(stored, ["a1", "a2", "b1"]);
    assert_eq!(world.dead_letters().await, ["too long a line"]);
}

#[tokio::test]
async fn with_one_stream_in_a_request_none_is_lost_to_a_limit_of_streams() {
    let limits = Limits { max_streams: 1, ..Limits::default() };
    for (most, lost) in [(0, true), (1, false)] {
        let loki = Loki::start(Options { limits: limits.clone(), ..Options::default() }).await.unwrap();
        let mut world = World::new(&loki).await;
        world.publish_value(request_of([("z", vec![log(0, "first")])]), 1, &[]).await;
        world.deliver().await;
        world.config.limits.max_streams_per_request = most;
        world.publish_value(request_of([("a", vec![log(1, "a")]), ("z", vec![log(2, "z")])]), 2, &[]).await;
        let delivered = tokio::time::timeout(Duration::from_secs(1), world.deliver()).await;
        assert_eq!(delivered.is_ok(), lost, "with {most} it waits unless it is told that all is stored");
        assert!(loki.refused().contains_key("stream_limit"));
    }
}
