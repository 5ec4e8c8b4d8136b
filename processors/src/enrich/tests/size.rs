use super::*;

/// Pods as a large cluster has them, each asked for once.
fn filled(pods: usize) -> Table {
    let config = EnrichConfig {
        pod_labels: ["app.kubernetes.io/name", "app.kubernetes.io/version"].map(String::from).to_vec(),
        namespace_labels: vec!["team".into()],
        service_name: true,
        ..EnrichConfig::default()
    };
    let mut table = table(&config);
    let uid = |kind: u8, at: usize| format!("{kind:08x}-1c2d-4e3f-8a9b-{at:012x}");
    for at in 0..pods {
        let (app, namespace) = (at / 5, format!("team-{}-production", at % 100));
        let (deployment, hash) = (format!("checkout-service-{app}"), format!("{:010x}", app * 7919));
        let replica_set = format!("{deployment}-{hash}");
        let mut pod = Object::new(Kind::Pod, &namespace, format!("{replica_set}-{at:05x}"), uid(1, at));
        pod.ips = vec![IpAddr::from([10, (at >> 16) as u8, (at >> 8) as u8, at as u8])];
        pod.node = Some(format!("ip-10-200-{}-{}.eu-west-1.compute.internal", at % 8, at % 100));
        pod.images = vec![format!("registry.example.com/shop/checkout-service-{app}:v1")];
        pod.created_ms = Some(1_700_000_000_000);
        let labels = [
            ("app.kubernetes.io/name", &*deployment),
            ("app.kubernetes.io/version", "v1.2.3"),
            ("pod-template-hash", &hash),
        ];
        let pod = labelled(owned(pod, "ReplicaSet", &replica_set, &uid(2, app)), &labels);
        put(&mut table, "eu-west-1-production", &pod);
        if at % 5 == 0 {
            let replica_set = Object::new(Kind::ReplicaSet, &namespace, &replica_set, uid(2, app));
            put(&mut table, "eu-west-1-production", &owned(replica_set, "Deployment", &deployment, &uid(3, app)));
        }
        if at < 100 {
            let namespace = Object::new(Kind::Namespace, "", &namespace, uid(4, at));
            put(&mut table, "eu-west-1-production", &labelled(namespace, &[("team", &format!("team-{at}"))]));
        }
    }
    for at in 0..pods {
        let pod = table.pod_by_uid("eu-west-1-production", &uid(1, at)).unwrap();
        assert_eq!(attributes(pod).len(), 14);
    }
    table
}

#[test]
fn a_pod_takes_less_than_a_kilobyte_and_a_half() {
    const PODS: usize = 20_000;
    let mut table = filled(PODS);
    let each = table.heap_bytes() / PODS;
    let added = table.pod_by_ip("eu-west-1-production", ip("10.0.0.7")).unwrap().attributes().len();
    // What a join adds is the larger part, and counted.
    assert!(added + 300 < each && each < 1500, "{each} bytes for each pod, {added} of them attributes");
    for at in 0..PODS {
        let uid = format!("{:08x}-1c2d-4e3f-8a9b-{at:012x}", 1);
        assert_eq!(delete(&mut table, "eu-west-1-production", Kind::Pod, &uid), Change::Removed);
    }
    assert_eq!(table.pods(), 0);
    assert!(table.heap_bytes() / PODS < each / 2, "{}", table.heap_bytes() / PODS);
}
