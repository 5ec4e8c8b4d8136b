use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Bus, Cleanup, Generation, ReaderConfig, ReaderEvent, TopicSpec};
use afflux_schemas::topics::{HEADER_CLUSTER, Topics};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;

const SOURCE: &str = "afflux.ingest.spans";

struct World {
    bus: Arc<dyn Bus>,
    desk: DeadLetters,
    _dir: TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = LocalBus::open(LocalConfig::new(dir.path())).unwrap();
    let spec = |name: &str, partitions| TopicSpec {
        name: name.into(),
        partitions,
        cleanup: Cleanup::Delete { max_age: None, max_bytes: None },
    };
    bus.create_topics(&[spec(SOURCE, 2), spec("afflux.dead-letters", 2)]).await.unwrap();
    World { desk: DeadLetters::new(Arc::clone(&bus), &Topics::default()), bus, _dir: dir }
}

fn refused(partition: u32, offset: u64, value: &str) -> Received {
    let mut headers = Headers::new();
    headers.push(HEADER_CLUSTER, "eu");
    headers.push("foreign", "kept");
    Received {
        from: PartitionId::new(SOURCE, partition),
        generation: Generation(0),
        offset,
        timestamp_ms: 1_000,
        key: Some("key".into()),
        value: Some(value.to_owned().into()),
        headers,
    }
}

fn letter_of(record: &Received, component: &str, reason: &str, time_ms: i64) -> Record {
    let refusal = Refusal { component, reason, error: "it is bad", time_ms };
    dead_letter(record, "afflux.dead-letters".into(), 2, refusal)
}

impl World {
    async fn send(&self, records: Vec<Record>) {
        self.bus.producer().await.unwrap().send(records).await.unwrap();
    }

    async fn read(&self, topic: &str) -> Vec<Received> {
        let mut reader = self.bus.reader(ReaderConfig::new([topic.into()])).await.unwrap();
        let mut all = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                ReaderEvent::Records(records) => all.extend(records),
                ReaderEvent::CaughtUp(_) => {}
                ReaderEvent::Complete => return all,
            }
        }
    }

    async fn resolve(&self, act: Act, selection: Selection) -> (Vec<Entry>, Result<(), DeskError>) {
        let (out, mut entries) = mpsc::channel(10_000);
        let result = self.desk.resolve(act, &selection, &out).await;
        drop(out);
        let mut all = Vec::new();
        while let Some(entry) = entries.recv().await {
            all.push(entry);
        }
        (all, result)
    }

    async fn listed(&self, selection: Selection) -> (Vec<Letter>, Summary) {
        let (out, mut entries) = mpsc::channel(10_000);
        self.desk.list(&selection, &out).await.unwrap();
        let mut letters = Vec::new();
        loop {
            match entries.recv().await.unwrap() {
                Entry::Letter(letter) => letters.push(letter),
                Entry::Summary(summary) => return (letters, summary),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn summary(entries: &[Entry]) -> &Summary {
    let Some(Entry::Summary(summary)) = entries.last() else { panic!("{entries:?}") };
    summary
}

fn ids(letters: &[Letter]) -> Vec<String> {
    letters.iter().map(|letter| letter.id.to_string()).collect()
}

#[test]
fn a_letter_keeps_the_record_and_says_where_why_when_and_how_often() {
    let mut record = refused(3, 7, "value");
    record.headers.push(HEADER_REASON, "of a stranger");
    let first = letter_of(&record, "processors", "malformed", 5);
    assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"key"[..]), Some(&b"value"[..])));
    assert_eq!((first.timestamp_ms, first.to.partition), (5, 1), "kept as long as a new record");
    let text = |name: &str| String::from_utf8(first.headers.get(name).unwrap().to_vec()).unwrap();
    let said = [HEADER_TOPIC, HEADER_PARTITION, HEADER_OFFSET, HEADER_COMPONENT, HEADER_REASON, HEADER_ERROR];
    assert_eq!(said.map(text), [SOURCE, "3", "7", "processors", "malformed", "it is bad"]);
    assert_eq!([HEADER_TIMESTAMP, HEADER_TIME, HEADER_DEAD_ATTEMPTS, "foreign"].map(text), ["1000", "5", "1", "kept"]);
    assert_eq!(first.headers.0.iter().filter(|(name, _)| &**name == HEADER_REASON).count(), 1);
    // A replay of it that is refused again.
    record.headers.push(HEADER_REPLAY_TO, "processors");
    record.headers.push(HEADER_ATTEMPTS, "4");
    let again = letter_of(&record, "processors", "malformed", 5);
    assert_eq!(again.headers.get(HEADER_DEAD_ATTEMPTS).unwrap(), "5");
    assert!(again.headers.get(HEADER_REPLAY_TO).is_none() && again.headers.get(HEADER_ATTEMPTS).is_none());
    assert!(is_for_another(&record.headers, "sinks.parquet") && !is_for_another(&record.headers, "processors"));
}

#[tokio::test]
async fn a_replay_goes_back_as_it_was_once_however_often_it_is_asked_for() {
    let world = world().await;
    world.send(vec![letter_of(&refused(1, 7, "value"), "sinks.parquet", "malformed", 5)]).await;
    let (entries, result) = world.resolve(Act::Replay, Selection::default()).await;
    result.unwrap();
    assert_eq!((summary(&entries).selected, summary(&entries).done), (1, 1));
    let back = world.read(SOURCE).await;
    assert_eq!(back.len(), 1);
    let text = |name: &str| String::from_utf8(back[0].headers.get(name).unwrap().to_vec()).unwrap();
    assert_eq!(
        [HEADER_REPLAY_TO, HEADER_ATTEMPTS, "foreign", HEADER_CLUSTER].map(text),
        ["sinks.parquet", "1", "kept", "eu"]
    );
    assert_eq!(back[0].headers.0.len(), 4, "{:?}", back[0].headers);
    assert_eq!((back[0].from.partition, back[0].timestamp_ms), (1, 1_000));
    assert_eq!((back[0].key.as_deref(), back[0].value.as_deref()), (Some(&b"key"[..]), Some(&b"value"[..])));

    let (entries, result) = world.resolve(Act::Replay, Selection::default()).await;
    result.unwrap();
    assert_eq!(summary(&entries), &Summary::default());
    assert_eq!(world.read(SOURCE).await.len(), 1);
    assert!(world.listed(Selection::default()).await.0.is_empty());
    let (all, _) = world.listed(Selection { all: true, ..Selection::default() }).await;
    assert_eq!(all.iter().map(|letter| letter.state).collect::<Vec<_>>(), [State::Replayed]);
}

#[tokio::test]
async fn filters_ids_and_limit_select() {
    let world = world().await;
    world
        .send(vec![
            letter_of(&refused(0, 1, "a"), "processors", "malformed", 10),
            letter_of(&refused(0, 2, "b"), "processors", "too_large", 20),
            letter_of(&refused(1, 3, "c"), "sinks.parquet", "malformed", 30),
        ])
        .await;
    let cases = [
        (Selection { component: Some("processors".into()), ..Selection::default() }, vec!["0:0", "0:1"]),
        (Selection { reason: Some("malformed".into()), ..Selection::default() }, vec!["0:0", "1:0"]),
        (Selection { since_ms: Some(20), ..Selection::default() }, vec!["0:1", "1:0"]),
        (Selection { until_ms: Some(20), ..Selection::default() }, vec!["0:0"]),
        (
            Selection { cluster: Some("eu".into()), topic: Some(SOURCE.into()), ..Selection::default() },
            vec!["0:0", "0:1", "1:0"],
        ),
        (Selection { cluster: Some("us".into()), ..Selection::default() }, vec![]),
        (Selection { ids: vec!["1:0".parse().unwrap()], ..Selection::default() }, vec!["1:0"]),
    ];
    for (selection, expected) in cases {
        let (mut letters, summary) = world.listed(selection.clone()).await;
        letters.sort_by_key(|letter| letter.id);
        assert_eq!(ids(&letters), expected, "{selection:?}");
        assert_eq!(summary.selected, expected.len() as u64);
    }
    let (letters, summary) = world.listed(Selection { limit: Some(1), ..Selection::default() }).await;
    assert_eq!((letters.len(), summary.selected), (1, 3));
    assert_eq!(summary.reasons["processors malformed"], 1);
    let missing = Selection { ids: vec!["1:77".parse().unwrap()], ..Selection::default() };
    let (entries, _) = world.resolve(Act::Drop, missing).await;
    assert!(matches!(entries.last(), Some(Entry::Summary(summary)) if summary.missing.len() == 1));
}

#[tokio::test]
async fn a_drop_hides_and_writes_nothing_back() {
    let world = world().await;
    world.send(vec![letter_of(&refused(0, 1, "a"), "processors", "malformed", 10)]).await;
    let (entries, result) = world.resolve(Act::Drop, Selection::default()).await;
    result.unwrap();
    assert_eq!(summary(&entries).done, 1);
    assert!(world.read(SOURCE).await.is_empty());
    assert!(world.listed(Selection::default()).await.0.is_empty());
    let shown = world.desk.show("0:0".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((shown.letter.state, shown.value.as_deref()), (State::Dropped, Some("61")));
    assert!(world.desk.show("0:1".parse().unwrap()).await.unwrap().is_none(), "a resolution is no letter");
    assert!(world.desk.show("9:1".parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_value_that_was_left_out_comes_from_where_it_was_read_or_the_letter_stays_open() {
    let world = world().await;
    let original = refused(0, 0, "large");
    let Received { from, key, value, timestamp_ms, headers, .. } = original.clone();
    world.send(vec![Record { to: from, key, value, timestamp_ms, headers }]).await;
    let short = |record: &Received| {
        let mut letter = letter_of(record, "processors", "too_large", 10);
        assert!(shorten(&mut letter));
        letter
    };
    // The second lies nowhere; the third is a part of what lies there.
    world.send(vec![short(&original), short(&refused(0, 9, "gone")), short(&refused(0, 0, "l"))]).await;
    let (entries, result) = world.resolve(Act::Replay, Selection::default()).await;
    result.unwrap();
    assert_eq!((summary(&entries).done, summary(&entries).left), (1, 2));
    let said: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Left { error, .. } => Some(error.as_str()),
            _ => None,
        })
        .collect();
    assert!(said[0].ends_with("any more") && said[1].contains("can only be part of the record"), "{said:?}");
    let back = world.read(SOURCE).await;
    assert_eq!(back.len(), 2);
    assert_eq!(back[1].value.as_deref(), Some(&b"large"[..]));
    assert_eq!(back[1].headers.get("foreign").unwrap(), "kept");
    assert_eq!(ids(&world.listed(Selection::default()).await.0), ["0:1", "0:2"]);
}

#[test]
fn a_shortened_letter_is_small_whatever_strangers_put_into_its_headers() {
    let mut record = refused(0, 3, "large");
    for n in 0..5000 {
        record.headers.push(format!("afflux-x{n}"), vec![b'x'; 1000]);
        record.headers.push("afflux-cluster", vec![b'c'; 1000]);
    }
    let mut letter = letter_of(&record, "processors", "too_large", 10);
    letter.headers.set(HEADER_ERROR, "e".repeat(100_000));
    assert!(letter.size() > 10_000_000);
    assert!(shorten(&mut letter));
    assert!(letter.size() < 8 * 1024, "{}", letter.size());
    let kept = [HEADER_TOPIC, HEADER_OFFSET, HEADER_REASON, HEADER_DEAD_ATTEMPTS, HEADER_VALUE_BYTES];
    assert!(kept.iter().all(|name| letter.headers.get(name).is_some()), "{:?}", letter.headers);
    assert_eq!(letter.headers.get(HEADER_ERROR).unwrap().len(), 1024, "the beginning of the reason");
    assert!(!shorten(&mut letter), "once");
}

#[tokio::test]
async fn what_the_bus_refuses_stays_open_and_holds_up_no_other() {
    let world = world().await;
    let mut lost = letter_of(&refused(0, 1, "a"), "processors", "malformed", 10);
    lost.headers.set(HEADER_TOPIC, "no.such.topic");
    world.send(vec![lost, letter_of(&refused(7, 2, "b"), "processors", "malformed", 10)]).await;
    let (entries, result) = world.resolve(Act::Replay, Selection::default()).await;
    result.unwrap();
    assert_eq!((summary(&entries).done, summary(&entries).left), (1, 1));
    assert!(entries.iter().any(|entry| matches!(entry, Entry::Left { error, .. } if error.contains("no.such.topic"))));
    // Of a partition that the topic no longer has.
    assert_eq!(world.read(SOURCE).await[0].from.partition, 1);
}

#[tokio::test]
async fn what_the_bus_refuses_within_a_batch_stays_open_alone() {
    let world = world().await;
    let table = TopicSpec { name: "table".into(), partitions: 1, cleanup: Cleanup::Compact };
    world.bus.create_topics(&[table]).await.unwrap();
    // A compacted topic takes no record without a key.
    let mut keyless = letter_of(&Received { key: None, ..refused(0, 1, "a") }, "processors", "malformed", 10);
    keyless.headers.set(HEADER_TOPIC, "table");
    let good = |n| letter_of(&refused(0, n, "b"), "processors", "malformed", 10);
    world.send(vec![good(2), keyless, good(3)]).await;
    let (entries, result) = world.resolve(Act::Replay, Selection::default()).await;
    result.unwrap();
    assert_eq!((summary(&entries).done, summary(&entries).left), (2, 1));
    assert_eq!(world.read(SOURCE).await.len(), 2);
    assert_eq!(ids(&world.listed(Selection::default()).await.0), ["0:1"]);
}

#[tokio::test]
async fn of_two_operators_one_is_told_and_nothing_is_replayed_twice() {
    let world = world().await;
    let letters = (0..1200).map(|n| letter_of(&refused(0, n, "value"), "processors", "malformed", 10));
    world.send(letters.collect()).await;
    let (first, second) = tokio::join!(
        world.resolve(Act::Replay, Selection::default()),
        world.resolve(Act::Replay, Selection::default())
    );
    let outcomes = [&first.1, &second.1];
    let beaten = outcomes.iter().filter(|result| matches!(result, Err(DeskError::TakenOver))).count();
    assert!(outcomes.iter().filter(|result| result.is_ok()).count() + beaten == 2, "{outcomes:?}");
    assert!(beaten <= 1);
    assert_eq!(world.read(SOURCE).await.len(), 1200);
}

#[tokio::test]
async fn what_a_sink_published_again_is_replayed_once() {
    let world = world().await;
    let letter = |n, value| letter_of(&refused(0, n, value), "sinks.parquet", "malformed", 10);
    world.send(vec![letter(1, "a"), letter(1, "a"), letter(2, "b"), letter(2, "b"), letter(1, "other")]).await;
    let only = Selection { ids: vec!["0:3".parse().unwrap()], ..Selection::default() };
    world.resolve(Act::Replay, only).await.1.unwrap();
    let (entries, result) = world.resolve(Act::Replay, Selection::default()).await;
    result.unwrap();
    assert_eq!(summary(&entries).done, 4);
    let values: Vec<_> = world.read(SOURCE).await.into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(values, ["b", "a", "other"]);
}
