//! The rules of Tempo's processor, and what differs from it, one row each.

use super::*;

/// What is tried, the spans, and what comes of them in order.
type Row = (&'static str, Vec<Given>, &'static [&'static str]);

fn check(config: &GraphConfig, rows: Vec<Row>) {
    for (name, given, expected) in rows {
        assert_eq!(shown(config, &given), expected, "{name}");
    }
}

fn client() -> Given {
    span("shop", CLIENT, 2, 1)
}

fn server() -> Given {
    span("cart", SERVER, 3, 2).lasting(110, 160)
}

fn root() -> Given {
    span("front", SERVER, 1, 0)
}

#[test]
fn only_halves_with_a_service_take_part() {
    let no_service = |given: Given| given.change(|given| given.resource.attributes.clear());
    let kind = |kind| client().change(|given| given.span.kind = kind).with("peer.service", "p");
    check(
        &config(),
        vec![
            ("no service on either side", vec![no_service(client()), no_service(server())], &[]),
            ("no service on one side", vec![no_service(client()), server()], &["server expired"]),
            ("an empty service", vec![span("", CLIENT, 2, 1), server()], &["server expired"]),
            ("internal spans", vec![kind(1)], &[]),
            ("spans of no kind", vec![kind(0)], &[]),
            ("a kind that does not exist", vec![kind(6)], &[]),
            (
                "a service whose name is a number",
                vec![server(), client().change(|given| given.resource.attributes[0].value = int(7))],
                &["7 > cart c=100 s=50"],
            ),
        ],
    );
}

fn int(number: i64) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::IntValue(number)) })
}

#[test]
fn halves_meet_under_trace_and_client_span() {
    let of = |given: Given, trace: u8| given.change(|given| given.span.trace_id = vec![trace; 16]);
    let two = vec![of(client(), 1), of(client(), 2), of(server(), 2).failed(), of(server(), 1)];
    check(
        &config(),
        vec![
            ("client first", vec![client(), server()], &["shop > cart c=100 s=50"]),
            ("server first", vec![server(), client()], &["shop > cart c=100 s=50"]),
            ("two traces", two, &["shop > cart failed c=100 s=50", "shop > cart c=100 s=50"]),
            ("another parent", vec![client(), span("cart", SERVER, 3, 4)], &["client expired", "server expired"]),
            (
                "a chain of services",
                vec![root(), client(), server(), span("cart", CLIENT, 4, 3), span("pay", SERVER, 5, 4)],
                &["shop > cart c=100 s=50", "cart > pay c=100 s=100", "user > front virtual_node virtual=client s=100"],
            ),
            ("an end before the start", vec![client().lasting(9, 8), server()], &["shop > cart c=0 s=50"]),
        ],
    );
}

#[test]
fn ids_that_are_none_pair_nothing() {
    let trace = |trace: &[u8]| client().change(|given| given.span.trace_id = trace.to_vec());
    let id = |id: &[u8]| client().change(|given| given.span.span_id = id.to_vec());
    let parent = |id: &[u8]| server().change(|given| given.span.parent_span_id = id.to_vec());
    check(
        &config(),
        vec![
            (
                "no trace",
                vec![trace(&[]), trace(&[0; 16]), trace(&[1; 15]), trace(&[1; 17])],
                &["client invalid_id"; 4],
            ),
            ("no span", vec![id(&[]), id(&[0; 8]), id(&[1; 7]), id(&[1; 9])], &["client invalid_id"; 4]),
            ("no parent to pair by", vec![parent(&[1; 7]), parent(&[1; 9])], &["server invalid_id"; 2]),
            ("zeros for no parent", vec![parent(&[0; 8])], &["user > cart virtual_node virtual=client s=50"]),
        ],
    );
}

#[test]
fn an_edge_failed_if_either_side_did() {
    let ok = |given: Given| given.change(|given| given.span.status = Some(Status { code: 1, ..Status::default() }));
    check(
        &config(),
        vec![
            ("client", vec![client().failed(), server()], &["shop > cart failed c=100 s=50"]),
            ("server", vec![client(), server().failed()], &["shop > cart failed c=100 s=50"]),
            ("neither", vec![ok(client()), ok(server())], &["shop > cart c=100 s=50"]),
            ("virtual", vec![root().failed()], &["user > front virtual_node virtual=client failed s=100"]),
            ("database", vec![client().failed().with("db.name", "d")], &["shop > d database failed c=100 s=100"]),
        ],
    );
}

#[test]
fn messages_tell_the_time_between_producer_and_consumer() {
    let producer = || span("shop", PRODUCER, 2, 1).lasting(100, 200);
    let consumer = || span("mail", CONSUMER, 3, 2);
    let plain = config();
    let on = GraphConfig { messaging_latency: true, ..config() };
    let later = || consumer().lasting(230, 240);
    check(
        &on,
        vec![
            ("measured", vec![producer(), later()], &["shop > mail messaging_system c=100 s=10 m=30"]),
            ("consumer first", vec![later(), producer()], &["shop > mail messaging_system c=100 s=10 m=30"]),
            ("none", vec![producer(), consumer().lasting(200, 240)], &["shop > mail messaging_system c=100 s=40"]),
            ("negative", vec![producer(), consumer().lasting(190, 240)], &["shop > mail messaging_system c=100 s=50"]),
            ("a call", vec![client(), span("cart", SERVER, 3, 2).lasting(230, 240)], &["shop > cart c=100 s=10"]),
            ("producer, server", vec![producer(), server()], &["shop > cart messaging_system c=100 s=50"]),
            ("consumer, client", vec![later(), client()], &["shop > mail messaging_system c=100 s=10 m=30"]),
            ("a producer alone", vec![producer()], &["producer expired"]),
            ("a consumer alone", vec![consumer()], &["consumer expired"]),
            (
                "a root consumer alone",
                vec![span("mail", CONSUMER, 3, 0)],
                &["user > mail virtual_node virtual=client s=100"],
            ),
            ("a database's producer", vec![producer().with("db.name", "d")], &["shop > d database c=100 s=100"]),
        ],
    );
    check(&plain, vec![("not wanted", vec![producer(), later()], &["shop > mail messaging_system c=100 s=10"])]);
}

#[test]
fn a_request_to_a_database_waits_for_no_server() {
    let db = |key: &str| client().with(key, "d");
    let first = |given: Given, expected: &'static str| {
        let outs = outs(&config(), &[given]);
        assert_eq!(outs.iter().map(show).collect::<Vec<_>>(), [expected]);
    };
    for key in ["db.namespace", "db.name", "db.system", "db.system.name"] {
        first(db(key), "shop > d database c=100 s=100");
        first(client().of(key, "d"), "shop > d database c=100 s=100");
    }
    let named = |keys: &[&str]| keys.iter().fold(db("db.system"), |given, key| given.with(key, &format!("by.{key}")));
    let all =
        ["network.peer.port", "network.peer.address", "server.address", "peer.service", "db.name", "db.namespace"];
    first(named(&all), "shop > by.peer.service database c=100 s=100");
    first(named(&all[..3]), "shop > by.server.address database c=100 s=100");
    first(named(&all[..2]), "shop > by.network.peer.address:by.network.peer.port database c=100 s=100");
    first(named(&all[1..2]), "shop > by.network.peer.address database c=100 s=100");
    first(named(&all[..1]), "shop > d database c=100 s=100");
    first(named(&all[4..]), "shop > by.db.namespace database c=100 s=100");
    first(named(&all[4..5]), "shop > by.db.name database c=100 s=100");
    first(db("db.name").of("db.name", "of"), "shop > of database c=100 s=100");
    first(db("db.name").of("db.name", ""), "shop > d database c=100 s=100");
    first(db("db.name").of("server.address", "host"), "shop > host database c=100 s=100");
    first(db("db.name").with("db.name", "again"), "shop > d database c=100 s=100");
    first(client().with("db.name", ""), "client expired");
}

#[test]
fn a_database_s_own_span_adds_nothing() {
    let db = || client().with("db.system", "pg");
    check(
        &config(),
        vec![
            ("first", vec![server(), db()], &["shop > pg database c=100 s=100"]),
            ("later", vec![db(), server()], &["shop > pg database c=100 s=100", "server duplicate"]),
            (
                "a server with its attributes",
                vec![server().with("db.system", "pg"), client()],
                &["shop > cart c=100 s=50"],
            ),
        ],
    );
    let none = GraphConfig { database_name_attributes: Vec::new(), ..config() };
    check(&none, vec![("no attribute names one", vec![db(), server()], &["shop > cart c=100 s=50"])]);
    let other = GraphConfig { database_name_attributes: vec!["my.db".into()], ..config() };
    check(&other, vec![("another attribute", vec![client().with("my.db", "m")], &["shop > m database c=100 s=100"])]);
}

#[test]
fn a_half_that_waits_in_vain_meets_what_it_names() {
    check(
        &config(),
        vec![
            ("a root server", vec![root()], &["user > front virtual_node virtual=client s=100"]),
            (
                "a root server with a peer",
                vec![root().with("peer.service", "app")],
                &["app > front virtual_node virtual=client s=100"],
            ),
            ("a server with a parent", vec![server()], &["server expired"]),
            ("a server with a parent and a peer", vec![server().with("peer.service", "app")], &["server expired"]),
            ("a client", vec![client()], &["client expired"]),
            (
                "a client with a peer",
                vec![client().with("peer.service", "bank")],
                &["shop > bank virtual_node virtual=server c=100"],
            ),
            ("a client with an empty peer", vec![client().with("peer.service", "")], &["client expired"]),
            ("a peer of the resource", vec![client().of("peer.service", "bank")], &["client expired"]),
            (
                "a root client with a peer",
                vec![span("shop", CLIENT, 2, 0).with("peer.service", "bank")],
                &["shop > bank virtual_node virtual=server c=100"],
            ),
        ],
    );
}

#[test]
fn peers_are_looked_for_in_order_and_only_where_wanted() {
    let peers = |peers: &[&str]| GraphConfig {
        peer_attributes: peers.iter().copied().map(String::from).collect(),
        database_name_attributes: Vec::new(),
        ..config()
    };
    let db = || client().with("db.system", "pg").with("db.name", "orders");
    let row = |expected: &'static [&'static str]| vec![("a client", vec![db()], expected)];
    check(&peers(&["peer.service", "db.name", "db.system"]), row(&["shop > orders virtual_node virtual=server c=100"]));
    check(&peers(&["db.system", "db.name"]), row(&["shop > pg virtual_node virtual=server c=100"]));
    check(&peers(&[]), row(&["client expired"]));
    let default = GraphConfig { database_name_attributes: Vec::new(), ..config() };
    check(&default, row(&["shop > orders virtual_node virtual=server c=100"]));
    let system = client().with("db.system.name", "pg");
    check(&default, vec![("new conventions", vec![system], &["shop > pg virtual_node virtual=server c=100"])]);
    let off = GraphConfig { virtual_nodes: false, ..config() };
    check(
        &off,
        vec![
            ("a client with a peer", vec![client().with("peer.service", "bank")], &["client expired"]),
            ("a root server", vec![root()], &["server expired"]),
            ("a pair", vec![client(), server()], &["shop > cart c=100 s=50"]),
            ("a database", vec![db()], &["shop > orders database c=100 s=100"]),
        ],
    );
}

#[test]
fn the_counterpart_of_a_rejected_span_makes_no_virtual_node() {
    let peer = || client().with("peer.service", "bank");
    let no_server = || server().with("rejected", "");
    let no_client = || client().with("rejected", "");
    check(
        &config(),
        vec![
            ("client first", vec![peer(), no_server()], &["server filtered", "client counterpart_filtered"]),
            ("client later", vec![no_server(), peer()], &["server filtered", "client counterpart_filtered"]),
            ("server first", vec![server(), no_client()], &["client filtered", "server counterpart_filtered"]),
            ("server later", vec![no_client(), server()], &["client filtered", "server counterpart_filtered"]),
            ("both", vec![no_client(), no_server()], &["client filtered", "server filtered"]),
            ("by its resource", vec![server().of("rejected", "")], &["server filtered"]),
            ("twice", vec![no_server(), no_server()], &["server filtered", "server filtered"]),
            (
                "its own side too",
                vec![span("x", CLIENT, 2, 1).with("rejected", ""), peer()],
                &["client filtered", "shop > bank virtual_node virtual=server c=100"],
            ),
            (
                "and another that is not",
                vec![no_server(), peer(), server()],
                &["server filtered", "shop > cart c=100 s=50"],
            ),
            (
                "long before",
                vec![no_server().at(1000), peer().at(1000 + WAIT)],
                &["server filtered", "shop > bank virtual_node virtual=server c=100"],
            ),
            (
                "by a millisecond",
                vec![no_server().at(1000), peer().at(999 + WAIT)],
                &["server filtered", "client counterpart_filtered"],
            ),
            ("an internal one", vec![no_server().change(|given| given.span.kind = 1)], &[]),
        ],
    );
}

#[test]
fn dimensions_are_of_the_resource_first_and_of_the_server_if_there_is_one() {
    let dimensions = |prefix_dimensions| GraphConfig {
        dimensions: vec!["region".into(), "version".into()],
        prefix_dimensions,
        ..config()
    };
    let client = || client().of("region", "eu").with("region", "span").with("version", "1");
    let server = || server().of("region", "us").with("other", "x");
    let rows = |[pair, lone]: [&'static [&'static str]; 2]| {
        vec![
            ("pair", vec![client(), server()], pair),
            ("pair, server first", vec![server(), client()], pair),
            ("alone", vec![client().with("peer.service", "p")], lone),
        ]
    };
    let unprefixed: [&[&str]; 2] =
        [&["shop > cart c=100 s=50 [us 1]"], &["shop > p virtual_node virtual=server c=100 [eu 1]"]];
    check(&dimensions(false), rows(unprefixed));
    let prefixed: [&[&str]; 2] =
        [&["shop > cart c=100 s=50 [eu us 1 -]"], &["shop > p virtual_node virtual=server c=100 [eu - 1 -]"]];
    check(&dimensions(true), rows(prefixed));
}
