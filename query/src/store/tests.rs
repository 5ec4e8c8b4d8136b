use object_store::memory::InMemory;

use super::*;

fn place(base: &str) -> Place {
    Place { store: Arc::new(InMemory::new()), base: Path::from(base), url: "s3://bucket/lake".into() }
}

#[test]
fn objects_are_named_by_the_url_that_was_given() {
    let file = Path::from("lake/spans/x.parquet");
    assert_eq!(place("lake").name_of(&file), "s3://bucket/lake/spans/x.parquet");
    assert_eq!(place("").name_of(&Path::from("spans/x.parquet")), "s3://bucket/lake/spans/x.parquet");
}

#[tokio::test]
async fn nothing_under_a_prefix_of_a_bucket_is_no_lake() {
    let error = place("lake").must_exist().await.unwrap_err().to_string();
    assert_eq!(error, "no lake at \"s3://bucket/lake\": nothing is stored under this prefix");
}

#[test]
fn a_bucket_needs_no_network_to_be_resolved() {
    let place = Place::resolve("s3://bucket/a/b/").unwrap();
    assert_eq!((place.base.as_ref(), place.url.as_ref()), ("a/b", "s3://bucket/a/b"));
    assert_eq!(Place::resolve("s3://bucket").unwrap().base.as_ref(), "");
}

#[test]
fn percent_encoding_is_undone_or_refused() {
    assert_eq!(decode_percent("a%20b%2f"), Some("a b/".into()));
    for broken in ["%", "%2", "%zz", "%e4"] {
        assert_eq!(decode_percent(broken), None, "{broken}");
    }
}
