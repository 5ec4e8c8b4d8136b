//! Time, repetitions, bounds, and what else an edge carries.

use super::*;

fn client(time_ms: i64) -> Given {
    span("shop", CLIENT, 2, 1).at(time_ms)
}

fn server(time_ms: i64) -> Given {
    span("cart", SERVER, 3, 2).at(time_ms)
}

/// Another request altogether, which moves stream time.
fn clock(time_ms: i64) -> Given {
    span("clock", 1, 9, 0).at(time_ms)
}

const PAIR: &str = "shop > cart c=100 s=100";

#[test]
fn halves_meet_while_both_wait() {
    for (name, given, expected) in [
        ("just in time", vec![client(1000), server(999 + WAIT)], &[PAIR][..]),
        ("too late", vec![client(1000), server(1000 + WAIT)], &["client expired", "server expired"]),
        ("an older record just in time", vec![server(999 + WAIT), client(1000)], &[PAIR]),
        ("an older record too late", vec![server(1000 + WAIT), client(1000)], &["client late", "server expired"]),
        (
            "stream time decides",
            vec![client(1000), clock(1000 + WAIT), server(1001)],
            &["client expired", "server expired"],
        ),
        ("a late half", vec![clock(1000 + WAIT), client(1000), server(1000)], &["client late", "server late"]),
        ("a late request to a database", vec![clock(1000 + WAIT), client(1000).with("db.name", "d")], &["client late"]),
        ("before the epoch", vec![client(-1000), server(-1000)], &[PAIR]),
        ("at the ends of time", vec![client(i64::MIN), server(i64::MIN)], &["client late", "server late"]),
        ("at the other end", vec![client(i64::MAX - WAIT), server(i64::MAX - WAIT)], &[PAIR]),
    ] {
        assert_eq!(shown(&config(), &given), expected, "{name}");
    }
}

#[test]
fn what_expires_is_told_by_time_and_then_as_it_came() {
    let named = |service: &str, id: u8, time_ms| span(service, CLIENT, id, 0).with("peer.service", "p").at(time_ms);
    let given = [named("c", 7, 1002), named("b", 6, 1001), named("a", 5, 1001), named("d", 4, 1050)];
    let told = |client: &str| format!("{client} > p virtual_node virtual=server c=100");
    assert_eq!(shown(&config(), &given), ["b", "a", "c", "d"].map(told));

    let rules = Arc::new(Rules::new(&config(), None));
    let (mut pairs, mut outs) = (Pairs::new(Arc::clone(&rules)), Vec::new());
    given.iter().for_each(|one| pass(&rules, &mut pairs, one, 1050, &mut |_| panic!("too early")));
    pairs.advance(1000 + WAIT, &mut |_| panic!("too early"));
    pairs.advance(1001 + WAIT, &mut |out| outs.push(show(&out)));
    assert_eq!(outs, ["b", "a"].map(told));
}

#[test]
fn a_request_is_told_once_however_often_its_halves_come() {
    let peer = |time_ms| client(time_ms).with("peer.service", "bank");
    let bank = "shop > bank virtual_node virtual=server c=100";
    for (name, given, expected) in [
        (
            "after",
            vec![client(1000), server(1000), client(1001), server(1001)],
            &[PAIR, "client duplicate", "server duplicate"][..],
        ),
        ("before", vec![client(1000), client(1001), server(1002)], &["client duplicate", PAIR]),
        ("server before", vec![server(1000), server(1001), client(1002)], &["server duplicate", PAIR]),
        ("alone", vec![peer(1000), peer(1001)], &["client duplicate", bank]),
        (
            "a database",
            vec![client(1000).with("db.name", "d"), client(1001).with("db.name", "d")],
            &["shop > d database c=100 s=100", "client duplicate"],
        ),
        (
            "two servers of one client",
            vec![client(1000), server(1000), span("other", SERVER, 4, 2)],
            &[PAIR, "server duplicate"],
        ),
        ("by a millisecond", vec![client(1000), server(1000), client(999 + WAIT)], &[PAIR, "client duplicate"]),
        ("once nothing waits", vec![client(1000), server(1000), client(1000 + WAIT)], &[PAIR, "client expired"]),
        (
            "no counterpart but a repetition",
            vec![peer(1000), peer(1000 + WAIT - 1), server(1000 + WAIT)],
            &["client duplicate", bank, "server duplicate"],
        ),
        (
            "repetitions of repetitions",
            vec![peer(1000), peer(1050), peer(1100), peer(1150), server(1151)],
            &["client duplicate", bank, "client duplicate", "client duplicate", "server duplicate"],
        ),
        (
            "again while the counterpart waits",
            vec![client(1000), server(1070), client(1000 + WAIT)],
            &[PAIR, "client duplicate"],
        ),
    ] {
        assert_eq!(shown(&config(), &given), expected, "{name}");
    }
}

#[test]
fn what_comes_first_in_each_eighth_of_the_time_is_taken_and_counts_whatever_became_of_it() {
    let config = GraphConfig { max_items: 16, ..config() };
    let one = |id: u8, time_ms| span("shop", CLIENT, id, 0).with("peer.service", "p").at(time_ms);
    let told = "shop > p virtual_node virtual=server c=100";
    let rejected = |time_ms| one(8, time_ms).with("rejected", "");
    let next = 1000 + SLOT;
    for (name, given, expected) in [
        ("too many", vec![one(1, 1000), one(2, 1009), one(3, 1001)], &["client dropped", told, told][..]),
        (
            "another eighth",
            vec![one(1, 1000), one(2, 1000), one(3, next), one(4, next), one(5, next)],
            &["client dropped", told, told, told, told],
        ),
        (
            "an older record",
            vec![one(1, 1000), one(2, 1000), one(3, next), one(4, 1000)],
            &["client dropped", told, told, told],
        ),
        ("what has met", vec![client(1000), server(1000), one(9, 1000)], &[PAIR, "client dropped"]),
        ("duplicates", vec![one(1, 1000), one(1, 1000), one(2, 1000)], &["client duplicate", "client dropped", told]),
        (
            "rejected ones",
            vec![rejected(1000), rejected(1000), one(1, 1000)],
            &["client filtered", "client filtered", "client dropped"],
        ),
        (
            "what was dropped",
            vec![one(1, 1000), one(1, 1000), one(2, 1000), one(2, next)],
            &["client duplicate", "client dropped", told, told],
        ),
        (
            "late ones do not",
            vec![clock(1000 + WAIT), one(1, 1000), one(2, 1000), one(3, 1001), one(4, 1001)],
            &["client late", "client late", told, told],
        ),
    ] {
        assert_eq!(shown(&config, &given), expected, "{name}");
    }
}

#[test]
fn no_more_than_nine_eighths_of_the_items_wait() {
    let rules = Arc::new(Rules::new(&GraphConfig { max_items: 16, ..config() }, None));
    let (mut pairs, mut most, mut dropped) = (Pairs::new(Arc::clone(&rules)), 0, 0);
    // The last two of an eighth first, and the first two later.
    for time_ms in (1000..2000_i64).filter(|time_ms| *time_ms >= 1080 || time_ms % 10 >= 8) {
        pairs.advance(time_ms, &mut |_| {});
        let one = client(time_ms).change(|given| given.span.span_id = time_ms.to_be_bytes().to_vec());
        pass(&rules, &mut pairs, &one, time_ms, &mut |_| dropped += 1);
        most = most.max(pairs.len());
    }
    assert_eq!((most, dropped), (18, 736));
}

#[test]
fn an_edge_carries_clusters_time_trace_and_weight() {
    let rules = Arc::new(Rules::new(&config(), None));
    let edges = |given: &[(&str, Given)]| {
        let (mut pairs, mut outs) = (Pairs::new(Arc::clone(&rules)), Vec::new());
        for (cluster, given) in given {
            let (resource, span) = (given.resource.encode_to_vec(), given.span.encode_to_vec());
            let resource = rules.resource(ResourceView::new(&resource), cluster).unwrap();
            pairs.span(&resource, &SpanView::new(&span), given.weight, (1000, 1000), &mut |out| outs.push(out));
        }
        pairs.advance(1000 + WAIT, &mut |out| outs.push(out));
        let part = |out: &Out| match out {
            Out::Edge(edge) => {
                let clusters =
                    [&edge.client_cluster, &edge.server_cluster].map(|cluster| cluster.as_deref().map(String::from));
                (clusters, edge.time_unix_nano, edge.trace_id, edge.weight)
            }
            Out::NoEdge { .. } => panic!("{out:?}"),
        };
        outs.iter().map(part).collect::<Vec<_>>()
    };
    let client = |weight| client(0).lasting(1, 9).change(|given| given.weight = weight);
    let server = |weight| server(0).lasting(2, 7).change(|given| given.weight = weight);
    let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
    for given in [[("a", client(5)), ("b", server(3))], [("b", server(5)), ("a", client(4))]] {
        assert_eq!(edges(&given), [([a.clone(), b.clone()], 7, [1; 16], 5)]);
    }
    let alone = client(3).with("peer.service", "p");
    assert_eq!(edges(&[("a", alone)]), [([a.clone(), None], 9, [1; 16], 3)]);
    assert_eq!(edges(&[("a", client(3).with("db.name", "d"))]), [([a, None], 9, [1; 16], 3)]);
    let root = server(4).change(|given| given.span.parent_span_id.clear());
    assert_eq!(edges(&[("b", root)]), [([None, b], 7, [1; 16], 4)]);
}

#[test]
fn long_values_are_cut_between_letters_and_others_become_text() {
    let config = GraphConfig { dimensions: ["a", "b", "c"].map(String::from).to_vec(), ..config() };
    let long = "x".repeat(2047) + "éé";
    let mut given = client(1000).with("db.name", "d").with("a", &long);
    for (key, value) in [("b", Value::DoubleValue(1.5)), ("c", Value::BytesValue(vec![0; 3000]))] {
        let value = Some(AnyValue { value: Some(value) });
        given.span.attributes.push(KeyValue { key: key.into(), value, ..KeyValue::default() });
    }
    let outs = outs(&config, &[given]);
    let [Out::Edge(edge)] = &outs[..] else { panic!("{outs:?}") };
    let [Some(a), Some(b), Some(c)] = &edge.dimensions[..] else { panic!("{edge:?}") };
    assert_eq!((&**a, &**b, c.len()), (&"x".repeat(2047)[..], "1.5", 2048));
}

#[test]
fn more_attributes_than_there_is_room_for_are_left_out() {
    let config = GraphConfig { dimensions: (0..40).map(|n| format!("d{n}")).collect(), ..config() };
    let given = client(1000).with("d0", "first").with("d39", "last").with("db.name", "d");
    assert_eq!(shown(&config, std::slice::from_ref(&given)), ["client expired"]);
    let config = GraphConfig { dimensions: config.dimensions[..24].to_vec(), ..config };
    let outs = outs(&config, &[given]);
    assert!(matches!(&outs[..], [Out::Edge(edge)] if edge.dimensions[0].as_deref() == Some("first")), "{outs:?}");
}
