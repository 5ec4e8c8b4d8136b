use super::*;

fn times(now_ms: i64) -> Times {
    Times { now_ms, event_ms: 0 }
}

fn saw(progress: &mut Progress, version: u64, now_ms: i64) {
    progress.saw(1, &version.to_string(), Some(1), times(now_ms));
}

#[test]
fn what_is_at_or_below_the_floor_or_was_seen_above_it_is_published() {
    let mut progress = Progress::default();
    assert_eq!(progress.verdict(1, "5"), Verdict::New);
    progress.reached("10", 1);
    assert_eq!(progress.verdict(1, "9"), Verdict::Published);
    assert_eq!(progress.verdict(1, "10"), Verdict::Published);
    assert_eq!(progress.verdict(1, "11"), Verdict::New);
    saw(&mut progress, 12, 2);
    assert_eq!(progress.verdict(1, "12"), Verdict::Published, "it is repeated");
    assert_eq!(progress.verdict(1, "11"), Verdict::New, "it comes late");
    assert_eq!(progress.verdict(2, "12"), Verdict::New, "it is another one");
    assert_eq!(progress.floor(), Some("10"));
}

#[test]
fn numbers_are_compared_as_numbers_and_other_texts_with_nothing() {
    let mut progress = Progress::default();
    progress.reached("99", 1);
    assert_eq!(progress.verdict(1, "100"), Verdict::New);
    for text in ["0100", "1e3", "a", "", "-5", "99999999999999999999999"] {
        assert_eq!(progress.verdict(1, text), Verdict::Uncomparable, "{text}");
    }
    progress.saw(1, "x-7", Some(1), times(2));
    assert_eq!(progress.floor(), Some("x-7"), "it is sent back as it came");
    assert_eq!(progress.verdict(1, "5"), Verdict::Uncomparable);
}

#[test]
fn the_floor_follows_what_was_seen_by_number_and_by_time() {
    let mut progress = Progress::default();
    progress.reached("100", 1000);
    for version in 101..=100 + RECENT as u64 {
        saw(&mut progress, version, 2000);
    }
    assert_eq!(progress.floor(), Some("100"));
    saw(&mut progress, 200, 2000);
    assert_eq!(progress.floor(), Some("101"), "the lowest goes");
    assert_eq!(progress.since_ms(), 2000);
    saw(&mut progress, 201, 2000 + RECENT_MS);
    assert_eq!(progress.floor(), Some("200"), "all that is old goes");
    assert_eq!(progress.verdict(1, "201"), Verdict::Published);
    progress.saw(1, "202", None, Times { now_ms: 20_000, event_ms: 15_000 });
    progress.saw(1, "203", None, times(20_001 + RECENT_MS));
    assert_eq!((progress.floor(), progress.since_ms()), (Some("202"), 15_000), "nothing after it happened before it");
}

#[test]
fn a_bookmark_raises_the_floor_and_never_lowers_it() {
    let mut progress = Progress::default();
    progress.reached("100", 1000);
    [101, 103, 105].into_iter().for_each(|version| saw(&mut progress, version, 2000));
    progress.reached("103", 3000);
    assert_eq!((progress.floor(), progress.since_ms()), (Some("103"), 3000));
    assert_eq!(progress.counts().count(), 1);
    assert_eq!(progress.verdict(1, "105"), Verdict::Published);
    progress.reached("50", 4000);
    assert_eq!((progress.floor(), progress.since_ms()), (Some("103"), 3000));
    progress.rest_at("104", 0);
    assert_eq!((progress.floor(), progress.since_ms()), (Some("104"), 3000), "the list is not at its end");
}

#[test]
fn a_checkpoint_holds_everything() {
    let mut progress = Progress::default();
    progress.reached("100", 1000);
    progress.saw(u64::MAX, "105", Some(7), times(1500));
    progress.saw(3, "104", None, times(1500));
    let bytes = progress.encode("eu", "c-1", 2000);
    let read = Progress::decode(&bytes, 9000).unwrap();
    assert_eq!((read.floor(), read.since_ms()), (Some("100"), 1000));
    assert_eq!(read.verdict(u64::MAX, "105"), Verdict::Published);
    assert_eq!(read.verdict(3, "104"), Verdict::Published);
    assert_eq!(read.verdict(3, "103"), Verdict::New);
    assert_eq!(read.counts().collect::<Vec<_>>(), [(u64::MAX, 7)]);
    assert!(Progress::decode(b"{}", 1).is_err());
    let newer = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
    assert!(Progress::decode(newer.as_bytes(), 1).unwrap_err().contains("newer"));
}

/// Bytes that outlive a release.
#[test]
fn the_first_form_of_checkpoints_stays_readable() {
    let golden = br#"{"version":1,"cluster":"eu","cluster_uid":"c-1","resource_version":"100","since_ms":1000,"recent":[[104,3,null],[105,18446744073709551615,7]],"time_ms":2000}"#;
    let mut progress = Progress::default();
    progress.reached("100", 1000);
    progress.saw(3, "104", None, times(1500));
    progress.saw(u64::MAX, "105", Some(7), times(1500));
    assert_eq!(String::from_utf8(progress.encode("eu", "c-1", 2000)).unwrap(), String::from_utf8_lossy(golden));
    assert_eq!(Progress::decode(golden, 1).unwrap().floor(), Some("100"));
}
