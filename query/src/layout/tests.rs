use super::*;

const HOUR: i64 = 3_600_000_000_000;

fn folder(parts: &[(Level, &str)]) -> Folder {
    parts.iter().fold(Folder::default(), |folder, (level, name)| folder.enter(*level, name).unwrap())
}

#[test]
fn a_full_path_gives_all_values_and_the_bounds_of_its_hour() {
    let folder =
        folder(&[(Level::Cluster, "cluster_key=prod"), (Level::Date, "date=1970-01-02"), (Level::Hour, "hour=07")]);
    assert_eq!(folder.value(Level::Cluster), Some(ScalarValue::Utf8View(Some("prod".into()))));
    assert_eq!(folder.value(Level::Date), Some(ScalarValue::Date32(Some(1))));
    assert_eq!(folder.value(Level::Hour), Some(ScalarValue::Int32(Some(7))));
    assert_eq!(folder.time_bounds(), Some((31 * HOUR, 32 * HOUR - 1)));
}

#[test]
fn a_path_down_to_the_date_bounds_the_day_and_one_above_it_nothing() {
    let above = folder(&[(Level::Cluster, "cluster_key=a")]);
    assert_eq!(above.time_bounds(), None);
    assert_eq!(above.value(Level::Date), None);
    let day = above.enter(Level::Date, "date=1970-01-01").unwrap();
    assert_eq!(day.time_bounds(), Some((0, 24 * HOUR - 1)));
}

#[test]
fn cluster_names_are_percent_decoded_and_unknown_where_the_path_does_not_tell() {
    let of = |name: &str| Folder::default().enter(Level::Cluster, name).and_then(|folder| folder.value(Level::Cluster));
    let text = |text: &str| Some(ScalarValue::Utf8View(Some(text.into())));
    assert_eq!(of("cluster_key=eu%2Fwest 1"), text("eu/west 1"));
    assert_eq!(of("cluster_key=100%25"), text("100%"));
    assert_eq!(of("cluster_key=M%C3%BCnchen"), text("München"));
    assert_eq!(of("cluster_key=a=b"), text("a=b"));
    assert_eq!(of("cluster_key="), text(""));
    assert_eq!(of("cluster_key=a%7Eb"), text("a~b"));
    assert_eq!(of("cluster_key=long~0123abcd"), None);
    assert_eq!(of("cluster_key=__HIVE_DEFAULT_PARTITION__"), None);
}

#[test]
fn names_that_do_not_say_what_their_level_needs_are_refused() {
    let refused = [
        (Level::Cluster, "prod"),
        (Level::Cluster, "date=2026-01-01"),
        (Level::Cluster, "cluster_key=%zz"),
        (Level::Cluster, "cluster_key=%ff"),
        (Level::Date, "date=2026-13-01"),
        (Level::Date, "date=20260101"),
        (Level::Date, "date="),
        (Level::Hour, "hour=24"),
        (Level::Hour, "hour=-1"),
        (Level::Hour, "hour=x"),
    ];
    for (level, name) in refused {
        assert_eq!(Folder::default().enter(level, name), None, "{name}");
    }
}

#[test]
fn an_hour_without_a_leading_zero_is_read_as_other_writers_write_it() {
    let folder = Folder::default().enter(Level::Hour, "hour=7").unwrap();
    assert_eq!(folder.value(Level::Hour), Some(ScalarValue::Int32(Some(7))));
}

#[test]
fn a_time_beyond_64_bits_of_nanoseconds_has_no_bounds() {
    let folder = folder(&[(Level::Date, "date=2262-04-11"), (Level::Hour, "hour=23")]);
    assert_eq!(folder.time_bounds(), None, "the last hour is cut off by the end of the range");
    let folder = Folder::default().enter(Level::Date, "date=9999-01-01").unwrap();
    assert_eq!(folder.time_bounds(), None);
}
