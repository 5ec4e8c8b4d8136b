use super::*;
use crate::parquet::transport::PART_BYTES;

fn store() -> (tempfile::TempDir, LocalStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&directory.path().join("new/lake")).unwrap();
    (directory, store)
}

fn staged(store: &LocalStore) -> usize {
    fs::read_dir(&store.root.staging).unwrap().count() - 1
}

#[tokio::test]
async fn only_one_of_two_creations_wins_and_the_loser_leaves_nothing() {
    let (_directory, store) = store();
    let path = Path::from("a/b/1.json");
    assert!(store.create(&path, "first".into()).await.unwrap());
    assert!(!store.create(&path, "second".into()).await.unwrap());
    assert_eq!(store.read(&path).await.unwrap().unwrap(), "first");
    assert_eq!(staged(&store), 0);
}

#[tokio::test]
async fn of_many_concurrent_creations_exactly_one_wins() {
    let (_directory, store) = store();
    let store = Arc::new(store);
    let attempts = (0..16).map(|i| {
        let store = Arc::clone(&store);
        async move { store.create(&Path::from("x/1.json"), format!("{i}").into()).await.unwrap() }
    });
    let won = futures::future::join_all(attempts).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_file_is_invisible_until_it_is_complete_and_whole_then() {
    let (_directory, store) = store();
    let path = Path::parse("spans/cluster_key=a%2Fb/date=2020-01-01/hour=00/t-00000.parquet").unwrap();
    let mut upload = store.upload(&path).await.unwrap();
    upload.part(vec![1; PART_BYTES].into()).await.unwrap();
    upload.part("tail".into()).await.unwrap();
    assert_eq!(store.read(&path).await.unwrap(), None);
    upload.complete().await.unwrap();
    upload.complete().await.unwrap();
    let bytes = store.read(&path).await.unwrap().unwrap();
    assert_eq!((bytes.len(), &bytes[PART_BYTES..]), (PART_BYTES + 4, &b"tail"[..]));
    assert_eq!(staged(&store), 0);
}

#[tokio::test]
async fn completing_a_file_again_replaces_it() {
    let (_directory, store) = store();
    let path = Path::from("f");
    for text in ["old", "new"] {
        let mut upload = store.upload(&path).await.unwrap();
        upload.part(text.into()).await.unwrap();
        upload.complete().await.unwrap();
    }
    assert_eq!(store.read(&path).await.unwrap().unwrap(), "new");
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let (_directory, store) = store();
    let mut upload = store.upload(&Path::from("f")).await.unwrap();
    upload.part("x".into()).await.unwrap();
    upload.abort().await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!((staged(&store), store.read(&Path::from("f")).await.unwrap()), (0, None));
}

#[tokio::test]
async fn folders_list_in_order_and_missing_ones_are_empty() {
    let (_directory, store) = store();
    for name in ["i/2.json", "i/1.json", "i/deep/3.json"] {
        store.create(&Path::from(name), "{}".into()).await.unwrap();
    }
    let listed = store.list(&Path::from("i")).await.unwrap();
    let paths: Vec<_> = listed.iter().map(|object| object.path.as_ref()).collect();
    assert_eq!(paths, ["i/1.json", "i/2.json"]);
    assert!(listed[0].modified_ms > 1_700_000_000_000);
    assert!(store.list(&Path::from("none")).await.unwrap().is_empty());
    store.remove(&Path::from("i/1.json")).await.unwrap();
    store.remove(&Path::from("i/1.json")).await.unwrap();
    assert_eq!(store.list(&Path::from("i")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_dead_writers_staged_is_swept_and_what_living_ones_stage_stays() {
    let (directory, living) = store();
    let mut upload = living.upload(&Path::from("f")).await.unwrap();
    upload.part("x".into()).await.unwrap();
    let base = directory.path().join("new/lake");
    let dead = base.join("_afflux/staging/4711-0");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    fs::write(dead.join("0"), "left behind").unwrap();

    let other = LocalStore::open(&base).unwrap();

    assert!(!dead.exists());
    assert_ne!(other.root.staging, living.root.staging);
    upload.complete().await.unwrap();
    assert_eq!(other.read(&Path::from("f")).await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_directory_removed_behind_our_back_is_made_again() {
    let (directory, store) = store();
    store.create(&Path::from("d/1"), "x".into()).await.unwrap();
    fs::remove_dir_all(directory.path().join("new/lake/d")).unwrap();
    assert!(store.create(&Path::from("d/1"), "y".into()).await.unwrap());
}

#[tokio::test]
async fn a_path_that_cannot_be_a_directory_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = LocalStore::open(&file.join("lake")).unwrap_err().to_string();
    assert!(error.contains("file/lake") && error.contains("sinks.parquet.url"), "{error}");
}

#[tokio::test]
async fn very_many_files_in_the_making_hold_no_descriptors() {
    let (_directory, store) = store();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut uploads = Vec::new();
    for i in 0..500 {
        let mut upload = store.upload(&Path::from(format!("d/{i}"))).await.unwrap();
        upload.part("bytes".into()).await.unwrap();
        uploads.push(upload);
    }
    let held = descriptors().saturating_sub(before);
    // Tests beside this one open files too.
    assert!(held < 250, "{held} descriptors");
    for mut upload in uploads {
        upload.complete().await.unwrap();
    }
}
