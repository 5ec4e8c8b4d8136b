use proptest::prelude::*;

use super::*;

fn cart() -> Object {
    Object {
        labels: [("app", "cart"), ("pod-template-hash", "7d4b9")].map(|(k, v)| (k.into(), v.into())).into(),
        annotations: [("team".into(), "shop".into())].into(),
        ips: vec!["10.1.2.3".parse().unwrap(), "fd00::7".parse().unwrap()],
        node: Some("node-1".into()),
        owner: Some(Owner { kind: "ReplicaSet".into(), name: "cart-7d4b9".into(), uid: "rs-1".into() }),
        images: vec!["registry.example:5000/shop/cart:1.2".into()],
        created_ms: Some(1_700_000_000_000),
        started_ms: Some(1_700_000_001_000),
        resource_version: "4711".into(),
        ..Object::new(Kind::Pod, "prod", "cart-7d4b9-x2x5z", "pod-1")
    }
}

/// Bytes that outlive a release: a change here needs a version that reads both.
#[test]
fn a_record_keeps_its_bytes() {
    let golden = concat!(
        r#"{"kind":"pod","name":"cart-7d4b9-x2x5z","namespace":"prod","uid":"pod-1","#,
        r#""labels":{"app":"cart","pod-template-hash":"7d4b9"},"annotations":{"team":"shop"},"#,
        r#""ips":["10.1.2.3","fd00::7"],"node":"node-1","#,
        r#""owner":{"kind":"ReplicaSet","name":"cart-7d4b9","uid":"rs-1"},"#,
        r#""images":["registry.example:5000/shop/cart:1.2"],"#,
        r#""created_ms":1700000000000,"started_ms":1700000001000,"resource_version":"4711"}"#,
    );
    assert_eq!(String::from_utf8(cart().encode().unwrap()).unwrap(), golden);
    assert_eq!(Object::decode(golden.as_bytes()).unwrap(), cart());
    let host = Object { host_network: true, finished: true, ..Object::new(Kind::Pod, "n", "p", "u") };
    let golden = r#"{"kind":"pod","name":"p","namespace":"n","uid":"u","host_network":true,"finished":true}"#;
    assert_eq!(String::from_utf8(host.encode().unwrap()).unwrap(), golden);
    assert_eq!(Object::decode(golden.as_bytes()).unwrap(), host);
}

#[test]
fn every_kind_keeps_its_name() {
    let names = Kind::ALL.map(|kind| String::from_utf8(Object::new(kind, "", "n", "u").encode().unwrap()).unwrap());
    let expected =
        ["pod", "node", "namespace", "deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob"];
    assert_eq!(names, expected.map(|name| format!(r#"{{"kind":"{name}","name":"n","uid":"u"}}"#)));
    assert_eq!(Kind::ALL.map(Kind::as_str), expected);
    assert_eq!(Kind::from_name("ReplicaSet"), Some(Kind::ReplicaSet));
    assert_eq!(Kind::from_name("Rollout"), None);
}

#[test]
fn fields_of_later_versions_are_ignored() {
    let later = br#"{"kind":"node","name":"n","uid":"u","zone":{"a":[1]},"labels":{"x":"y"}}"#;
    let object = Object::decode(later).unwrap();
    assert_eq!(object, Object { labels: [("x".into(), "y".into())].into(), ..Object::new(Kind::Node, "", "n", "u") });
}

#[test]
fn keys_are_read_from_their_end() {
    for (cluster, kind, uid, text) in [
        ("eu", Kind::Pod, "1-2", "eu/pod/1-2"),
        ("arn:aws:eks:eu-1:1:cluster/prod", Kind::ReplicaSet, "u", "arn:aws:eks:eu-1:1:cluster/prod/replicaset/u"),
        ("a/pod/b", Kind::Node, "c", "a/pod/b/node/c"),
        ("/", Kind::Job, "c", "//job/c"),
    ] {
        let key = ObjectKey::new(cluster, kind, uid).unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(ObjectKey::parse(text.as_bytes()), Ok(key));
    }
}

#[test]
fn what_is_no_key_or_no_object_is_told_why() {
    let error = |key: &[u8]| ObjectKey::parse(key).unwrap_err().to_string();
    assert_eq!(error(b"pod/u"), "the key `pod/u` is not `cluster/kind/uid`: it has fewer than three parts");
    assert_eq!(error(b"/pod/u"), "the key `/pod/u` is not `cluster/kind/uid`: the name of the cluster is empty");
    assert_eq!(error(b"eu/pod/"), "the key `eu/pod/` is not `cluster/kind/uid`: the uid is empty");
    assert_eq!(error(b"eu/pod/\xff"), "the key `eu/pod/\u{fffd}` is not `cluster/kind/uid`: it is not UTF-8");
    assert_eq!(error(b"eu/Pod/u"), "the key `eu/Pod/u` is of kind `Pod`, which this version does not know");
    assert_eq!(
        ObjectKey::new("eu", Kind::Pod, "a/b").unwrap_err().to_string(),
        "the key `eu/pod/a/b` is not `cluster/kind/uid`: the uid holds a slash"
    );
    let key = ObjectKey::new("eu", Kind::Pod, "u").unwrap();
    for (value, expected) in [
        (r#"{"kind":"pod","name":"n"}"#, "the value is no object: missing field `uid`"),
        (r#"{"kind":"pod","name":"n","uid":"u","ips":["x"]}"#, "the value is no object: invalid IP address syntax"),
        ("", "the value is no object: EOF"),
        (r#"{"kind":"pod","name":"n","uid":"v"}"#, "the value under the key `eu/pod/u` has the uid `v`"),
        (r#"{"kind":"job","name":"n","uid":"u"}"#, "the value under the key `eu/pod/u` has the kind `job`"),
    ] {
        let error = Object::decode_for(&key, value.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{value}: {error}");
    }
}

proptest! {
    #[test]
    fn keys_read_back_and_no_two_are_the_same(
        parts in prop::collection::vec(("[a/]{1,4}", 0..3_usize, "[a-]{1,2}"), 2),
    ) {
        let kinds = [Kind::Pod, Kind::Node, Kind::Job];
        let keys: Vec<_> = parts.iter().map(|(c, k, u)| ObjectKey::new(c, kinds[*k], u).unwrap()).collect();
        let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
        prop_assert_eq!(&ObjectKey::parse(texts[0].as_bytes()).unwrap(), &keys[0]);
        prop_assert_eq!(keys[0] == keys[1], texts[0] == texts[1]);
    }

    #[test]
    fn any_bytes_are_an_object_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = Object::decode(&bytes);
        let _ = ObjectKey::parse(&bytes);
    }
}
