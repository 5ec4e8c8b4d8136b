use super::*;

/// A change to the defaults, and how the verdict on it begins.
type Row = (Box<dyn FnOnce(&mut GraphConfig)>, &'static str);

fn verdict(change: impl FnOnce(&mut GraphConfig)) -> String {
    let mut config = GraphConfig::default();
    change(&mut config);
    config.validate().err().map(|error| error.to_string()).unwrap_or_default()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(String::from).collect()
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key() {
    let dimensions = |names: &'static [&str]| move |config: &mut GraphConfig| config.dimensions = strings(names);
    let buckets = |bounds: &'static [f64]| move |config: &mut GraphConfig| config.histogram_buckets = bounds.to_vec();
    let many = |config: &mut GraphConfig| config.dimensions = (0..29).map(|n| format!("d{n}")).collect();
    let rows: [Row; 19] = [
        (Box::new(|_| {}), ""),
        (Box::new(|config| config.wait = Period(Duration::ZERO)), "`processors.service_graph.wait` is 0s, in which"),
        (
            Box::new(|config| config.wait = Period(Duration::from_micros(999))),
            "`processors.service_graph.wait` is 999us",
        ),
        (Box::new(|config| config.wait = Period(Duration::from_millis(1))), ""),
        (Box::new(|config| config.max_items = 0), "`processors.service_graph.max_items` is 0, which"),
        (Box::new(buckets(&[])), ""),
        (Box::new(buckets(&[0.1, 0.1])), "`processors.service_graph.histogram_buckets.1` is 0.1, which"),
        (Box::new(buckets(&[0.0])), "`processors.service_graph.histogram_buckets.0` is 0, which"),
        (Box::new(buckets(&[1.0, f64::NAN])), "`processors.service_graph.histogram_buckets.1` is NaN, which"),
        (Box::new(buckets(&[f64::INFINITY])), "`processors.service_graph.histogram_buckets.0` is inf, which"),
        (
            Box::new(dimensions(&["a", "server"])),
            "`processors.service_graph.dimensions.1` is `server`, whose label `server`",
        ),
        (
            Box::new(dimensions(&["connection.type"])),
            "`processors.service_graph.dimensions.0` is `connection.type`, whose",
        ),
        (
            Box::new(dimensions(&["a.b", "a_b"])),
            "`processors.service_graph.dimensions.1` is `a_b`, whose label `a_b` is that",
        ),
        (Box::new(dimensions(&["a", ""])), "`processors.service_graph.dimensions.1` is empty; name"),
        (
            Box::new(|config| config.peer_attributes = strings(&[""])),
            "`processors.service_graph.peer_attributes.0` is empty",
        ),
        (
            Box::new(|config| config.database_name_attributes = strings(&["", "a"])),
            "`processors.service_graph.database_name_attributes.0` is empty",
        ),
        (Box::new(many), "`processors.service_graph` names 34 attributes in"),
        (Box::new(|config| (config.dimensions, config.prefix_dimensions) = (strings(&["failed", "client"]), true)), ""),
        (
            Box::new(|config| (config.dimensions, config.prefix_dimensions) = (strings(&["a", "a"]), true)),
            "`processors.service_graph.dimensions.1` is `a`, whose label `client_a` is that",
        ),
    ];
    for (at, (change, expected)) in rows.into_iter().enumerate() {
        let error = verdict(change);
        assert!(error.starts_with(expected) && error.is_empty() == expected.is_empty(), "{at}: {error}");
    }
    for reserved in RESERVED {
        let error = verdict(|config| config.dimensions = strings(&[reserved]));
        assert!(error.contains("every edge has already"), "{reserved}: {error}");
    }
}

#[test]
fn keys_are_read_and_others_are_refused() {
    let load = |text: &str| afflux_runtime::config::load::<GraphConfig>("test", text, []);
    assert_eq!(load("").unwrap(), GraphConfig::default());
    let config =
        load("{wait: 2s, max_items: 7, dimensions: [a, b], prefix_dimensions: true, histogram_buckets: [0.5, 1]}");
    let config = config.unwrap();
    assert_eq!((config.wait.0, config.max_items), (Duration::from_secs(2), 7));
    assert_eq!(config.histogram_buckets, [0.5, 1.0]);
    assert_eq!(config.dimension_labels(), ["client_a", "server_a", "client_b", "server_b"]);
    let config = load("{dimensions: [a.x, b]}").unwrap();
    assert_eq!(config.dimension_labels(), ["a.x", "b"]);
    assert_eq!(config.histogram_buckets, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]);
    let error = load("{wait: 2s, workers: 3}").unwrap_err().to_string();
    assert!(error.contains("workers"), "{error}");
}
