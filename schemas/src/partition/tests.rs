use super::*;

/// From librdkafka's unit test of its Sarama-compatible partitioner, whose values come from Go's `hash/fnv` with
/// the sign taken off.
#[test]
fn fnv1a_matches_the_values_that_librdkafka_tests() {
    for (key, expected) in [
        ("kafka", 0x0d33_c4e1_u32),
        ("giberish123456789", 0x77a5_8295),
        ("1234", 0x023b_dd03),
        ("234", 0x2dea_3cd2),
        ("34", 0x740f_a83e),
        ("4", 0x310c_a263),
        ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x65cb_d69c),
        ("", 0x7ee3_623b),
    ] {
        assert_eq!((fnv1a(key.as_bytes()) as i32).unsigned_abs(), expected, "{key}");
    }
}

/// Computed with Go's `hash/fnv` and the arithmetic of franz-go's `SaramaCompatHasher`; the keys are those of the
/// Collector's test of it and Sarama's test of a hash that is the least 32-bit integer.
#[test]
fn keys_go_where_sarama_puts_them() {
    for (key, expected) in [
        ("1468509572224", [(1, 0), (3, 2), (16, 0), (50, 48), (100, 48)]),
        ("key1", [(1, 0), (3, 2), (16, 7), (50, 33), (100, 83)]),
        ("ключ", [(1, 0), (3, 2), (16, 15), (50, 33), (100, 83)]),
        ("", [(1, 0), (3, 0), (16, 11), (50, 35), (100, 35)]),
        ("thisisaverylongkeythatexceedstypicallengths", [(1, 0), (3, 1), (16, 0), (50, 44), (100, 44)]),
    ] {
        for (partitions, partition) in expected {
            assert_eq!(sarama_partition(key.as_bytes(), partitions), partition, "{key} of {partitions}");
        }
    }
}

#[test]
fn a_trace_goes_where_the_collector_puts_the_hex_text_of_its_id() {
    for (id, of_12, of_16) in [
        ("3c5e81b40c5ec68e04a3406c97d63cfb", 6, 6),
        ("3c7530bdb71e347886b2b41b91c97672", 6, 2),
        ("3c8cdfc762dda36308c128ca8bbdb1e9", 8, 8),
        ("3ca48ed00c9c114d8acf9c7a85b1eb61", 4, 12),
        ("3cbb3edab75c7f380dde10297fa425d8", 3, 15),
        ("3dd2ede3621bee238fed84d87998604f", 1, 5),
        ("3de99ced0cdb5c0d11fbf988738c9ac7", 6, 10),
        ("3d014cf6b79acaf8930a6d376d7fd53e", 4, 12),
    ] {
        let id = crate::hex::decode(id).unwrap();
        assert_eq!((trace_partition(&id, 1), trace_partition(&id, 12), trace_partition(&id, 16)), (0, of_12, of_16));
    }
}

/// From Kafka's own `UtilsTest.testMurmur2`, and from Sarama's test against the Java client.
#[test]
fn murmur2_matches_the_java_client() {
    for (key, expected) in [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
        ("foo", 597841616),
        ("", 275646681),
        ("kafka", 3496464228_u32 as i32),
        ("sarama", 770765511),
    ] {
        assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
    }
    assert_eq!(java_partition(b"21", 16), (-973932308_i32 as u32 & 0x7fff_ffff) % 16);
}

/// Streams that moved to another partition at an upgrade would lose their order.
#[test]
fn a_stream_stays_on_its_partition_from_release_to_release() {
    let places = [("", ""), ("a", ""), ("a", "resource"), ("b", "resource"), ("ab", "resourc")]
        .map(|(cluster, resource)| stream_partition(cluster, resource.as_bytes(), 1000));
    assert_eq!(places, [327, 620, 80, 710, 922]);
}
