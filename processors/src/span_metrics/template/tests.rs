use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Checks names with their templates, or, where both are the same, that nothing is done.
fn check(cases: &[(&str, &str)]) {
    for (name, expected) in cases {
        assert_eq!(fold(name).as_deref().unwrap_or(name), *expected, "{name}");
        assert_eq!(fold(name).is_none(), name == expected, "{name}");
        assert_eq!(fold(expected), None, "{expected} is a template");
    }
}

fn check_kept(names: &[&str]) {
    for name in names {
        assert_eq!(fold(name), None, "{name}");
    }
}

#[test]
fn names_without_ids_stay() {
    check_kept(&[
        "",
        "GET",
        "HTTP GET",
        "GET /",
        "GET /users/{id}",
        "GET /users/{userId}/orders/{order_id2}",
        "GET /users/:id/posts/:post_id",
        "GET /users/<int:id>",
        "GET /api/v2/users",
        "/api/v1beta1/namespaces/*/pods",
        "/api/2.0/clusters/list",
        "GET /v1.0/me/messages",
        "POST /v1.41/containers/json",
        "HTTP/1.1",
        "GET / HTTP/2",
        "/oauth2/token",
        "oauth2",
        "md5",
        "s3.PutObject",
        "S3.GetObject",
        "base64 decode",
        "log4j2",
        "Sha256PasswordEncoder.encode",
        "CreateOAuth2AccessTokenForClient",
        "getUserByIdV2WithRetriesAndTimeouts",
        "grpc.health.v1.Health/Check",
        "google.cloud.bigquery.v2.JobService/InsertJob",
        "opentelemetry.proto.collector.trace.v1.TraceService/Export",
        "UsersController#show",
        "Foo::Bar#baz",
        "std::vector",
        "deadbeef decade facade",
        "orders process",
        "orders.created.v1 publish",
        "shop-orders-dlq receive",
        "(temporary) receive",
        "is_admin?",
        "why? because",
        "DELETE /users",
        "SELECT shop.orders",
        "INSERT shop.orders",
        "HGETALL",
        "SELECT * FROM users WHERE id = ?",
        "SELECT * FROM users WHERE id = $1 AND name = :2",
        "SELECT \"users\".* FROM \"users\" INNER JOIN \"orders\" ON \"users\".\"id\" = \"orders\".\"user_id\"",
        "SELECT `t1`.`a` FROM `t1`",
        "日本語のスパン",
        "naïve café",
        "%s of %d",
        "/a%2Fb",
    ]);
}

#[test]
fn http_names_become_routes() {
    check(&[
        ("GET /users/123", "GET /users/{id}"),
        ("/users/0", "/users/{id}"),
        ("GET /users/123/orders/456", "GET /users/{id}/orders/{id}"),
        ("GET /users/550e8400-e29b-41d4-a716-446655440000", "GET /users/{uuid}"),
        ("GET /users/550E8400-E29B-41D4-A716-446655440000/x", "GET /users/{uuid}/x"),
        ("GET /objects/{550e8400-e29b-41d4-a716-446655440000}", "GET /objects/{uuid}"),
        ("GET /items/{0}", "GET /items/{id}"),
        ("GET /commit/9fceb02d", "GET /commit/{hex}"),
        ("GET /blobs/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "GET /blobs/{hex}"),
        ("GET /mongo/507f1f77bcf86cd799439011", "GET /mongo/{hex}"),
        ("GET /ulid/01ARZ3NDEKTSV4RRFFQ69G5FAV", "GET /ulid/{id}"),
        ("GET /ulid/01arz3ndektsv4rrffq69g5fav", "GET /ulid/{id}"),
        ("GET /ksuid/0ujtsYcgvSTl8PAuAdqWYSMnLOv", "GET /ksuid/{id}"),
        ("GET /nano/V1StGXR8_Z5jdHi6B-myT", "GET /nano/{id}"),
        ("GET /nano/order-V1StGXR8_Z5jdHi6B-myT", "GET /nano/order-{id}"),
        ("GET /token/dGVzdDEyMzQ1Njc4OTBhYmNk", "GET /token/{id}"),
        ("GET /yt/dQw4w9WgXcQ8f3Kz1", "GET /yt/{id}"),
        ("GET /users/jane.doe+test@example.co.uk/edit", "GET /users/{email}/edit"),
        ("GET /reports/2024-01-31", "GET /reports/{date}"),
        ("GET /reports/2024-01-31T23:59:59.123Z/x", "GET /reports/{date}/x"),
        ("GET /hosts/10.0.0.1/ping", "GET /hosts/{ip}/ping"),
        ("GET http://10.1.2.3:8080/x", "GET http://{ip}:{id}/x"),
        ("GET http://[2001:db8::1]:9000/", "GET http://[{ip}]:{id}/"),
        ("GET http://localhost:5000/x", "GET http://localhost:{id}/x"),
        ("GET /search?q=shoes&page=2", "GET /search"),
        ("GET /search?q=shoes HTTP/1.1", "GET /search HTTP/1.1"),
        ("/search?", "/search"),
        ("GET index.php?id=3", "GET index.php"),
        ("/docs/page#section-3", "/docs/page"),
        ("https://example.com/a#b", "https://example.com/a"),
        ("GET /a%2F123", "GET /a%2F{id}"),
        ("DELETE /users/17", "DELETE /users/{id}"),
        ("GET /api/2.0/jobs/991", "GET /api/2.0/jobs/{id}"),
        ("GET /tiles/12/654/1583.png", "GET /tiles/{id}/{id}/{id}.png"),
        ("GET /static/js/main.4f3a9c21.chunk.js", "GET /static/js/main.{hex}.chunk.js"),
        ("GET /users/user12345678", "GET /users/user{id}"),
        ("GET /träger/123", "GET /träger/{id}"),
    ]);
}

#[test]
fn statements_lose_their_literals() {
    check(&[
        ("SELECT * FROM users WHERE id = 42", "SELECT * FROM users WHERE id = ?"),
        ("select a from t where b = 'it''s' and c = 'x\\'y'", "select a from t where b = ? and c = ?"),
        ("SELECT * FROM t WHERE id IN (1, 2,3 , 4)", "SELECT * FROM t WHERE id IN (?)"),
        ("SELECT * FROM t WHERE id IN (?, ?, ?)", "SELECT * FROM t WHERE id IN (?)"),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z')", "INSERT INTO t (a, b) VALUES (?)"),
        ("UPDATE t SET a = 1.5, b = -2e3 WHERE c = 0x1F", "UPDATE t SET a = ?, b = -? WHERE c = ?"),
        ("DELETE FROM sessions WHERE expires < 1700000000", "DELETE FROM sessions WHERE expires < ?"),
        ("SELECT * FROM orders_2024 LIMIT 10 OFFSET 20", "SELECT * FROM orders_{id} LIMIT ? OFFSET ?"),
        ("SELECT a FROM t WHERE b = \"bob\" AND \"c\" = 1", "SELECT a FROM t WHERE b = ? AND \"c\" = ?"),
        ("SELECT a FROM t /* route='/x',id=5 */", "SELECT a FROM t"),
        ("SELECT a /* id=5 */ FROM t -- by 7", "SELECT a  FROM t"),
        ("SELECT a FROM t WHERE b = 'open", "SELECT a FROM t WHERE b = ?"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH x AS (SELECT ?) SELECT * FROM x"),
        ("SELECT id FROM t WHERE u = '550e8400-e29b-41d4-a716-446655440000'", "SELECT id FROM t WHERE u = ?"),
        ("SELECT t1.a FROM t1 WHERE x = 12345", "SELECT t1.a FROM t1 WHERE x = ?"),
        ("SELECT a FROM t WHERE d > '2024-01-01' AND b = '日本'", "SELECT a FROM t WHERE d > ? AND b = ?"),
    ]);
}

#[test]
fn queues_jobs_keys_and_calls_lose_their_ids() {
    check(&[
        ("worker-17", "worker-{id}"),
        ("job_000123", "job_{id}"),
        ("thread-pool-3-thread-12 run", "thread-pool-{id}-thread-{id} run"),
        ("orders-12 publish", "orders-{id} publish"),
        ("reply-to-9fceb02d7e1a process", "reply-to-{hex} process"),
        ("amq.gen-JzTY20BRgKO_HjmUJj0wLg receive", "amq.gen-{id} receive"),
        ("consume orders.retry.5000", "consume orders.retry.{id}"),
        ("cron 2024-05-06 03:00 cleanup", "cron {date} cleanup"),
        ("nightly-2024-05-06 cleanup", "nightly-{date} cleanup"),
        ("backup 20240506T030000Z", "backup {date}"),
        ("404 handler", "{id} handler"),
        ("retry 3 of 5", "retry {id} of {id}"),
        ("PutObject logs/2024/05/06/app-17.log.gz", "PutObject logs/{id}/{id}/{id}/app-{id}.log.gz"),
        ("GetObject dt=2024-05-06/part-00000-tid-77.parquet", "GetObject dt={date}/part-{id}-tid-{id}.parquet"),
        ("shop.Cart/Get 7f9c24e8", "shop.Cart/Get {hex}"),
        ("GET user:1234:profile", "GET user:{id}:profile"),
        ("HGET session:550e8400-e29b-41d4-a716-446655440000", "HGET session:{uuid}"),
        ("connect 192.168.1.10:6379", "connect {ip}:{id}"),
        ("ping fe80::1ff:fe23:4567:890a", "ping {ip}"),
        ("send mail to bob@example.com", "send mail to {email}"),
        ("price 12.50", "price {id}"),
        ("1.2.3.4.5", "{id}"),
        ("0xdeadbeef", "{hex}"),
        ("tx 0x1f", "tx {hex}"),
        ("arn:aws:sqs:eu:123456789012:orders", "arn:aws:sqs:eu:{id}:orders"),
        ("pod web-6d4cf56db6-x2vbn", "pod web-{hex}-x2vbn"),
        ("é12345", "é{id}"),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_name_has_a_template_that_is_its_own(name in "\\PC{0,60}") {
        holds(&name)?;
    }

    /// Pieces that mean something to the rules, in any order.
    #[test]
    fn any_pieces_have_a_template_that_is_its_own(pieces in pieces()) {
        holds(&pieces.concat())?;
    }

    #[test]
    fn any_statement_has_a_template_that_is_its_own(pieces in pieces()) {
        holds(&format!("SELECT {}", pieces.concat()))?;
    }
}

fn pieces() -> impl Strategy<Value = Vec<String>> {
    let known = prop::sample::select(vec![
        "/",
        "//",
        "?",
        "#",
        "=",
        "-",
        "--",
        "_",
        ".",
        ":",
        "::",
        "@",
        "%",
        "{",
        "}",
        "{id}",
        "(",
        ")",
        ",",
        ", ",
        "'",
        "\"",
        "`",
        "\\",
        "/*",
        "*/",
        "\n",
        " ",
        "  ",
        "$",
        "é",
        "SELECT ",
        "DELETE ",
        "FROM ",
        "INSERT INTO ",
        "UPDATE ",
        "WITH ",
        "HTTP/",
        "v1",
        "1.1",
        "http://",
        "2024-01-02",
        "T03:04:05",
        "Z",
        "+01:00",
        "10.0.0.1",
        "fe80::1",
        "550e8400-e29b-41d4-a716-446655440000",
        "a@b.co",
        "b.co",
        "0x",
        "worker",
        "Sha",
        "V1StGXR8",
        "deadbeef",
    ]);
    let piece = prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => "[0-9]{1,6}",
        1 => "[0-9a-f]{1,12}",
        1 => "[0-9a-zA-Z]{1,20}",
    ];
    prop::collection::vec(piece, 0..14)
}

fn holds(name: &str) -> Result<(), TestCaseError> {
    let folded = fold(name);
    prop_assert_ne!(folded.as_deref(), Some(name));
    let template = folded.unwrap_or_else(|| name.to_owned());
    prop_assert_eq!(fold(&template), None, "{} of {}", template, name);
    prop_assert!(template.len() <= 4 * name.len(), "{} of {}", template, name);
    Ok(())
}

#[test]
fn the_cost_is_linear_for_what_is_made_to_be_slow() {
    for part in [
        "a",
        "1",
        "a.",
        "a@",
        "1.",
        "a-",
        "-a1",
        "::",
        "1:",
        "?,",
        "(?), ",
        "\"a\" ",
        "' ",
        "`",
        "/*",
        "/**/",
        "--\n",
        "%41",
        " ,?",
        "aB1",
        "=?",
        "#/",
        "{1}",
        "2024-01-02 ",
        "'\\",
    ] {
        for prefix in ["", "SELECT "] {
            let name = prefix.to_owned() + &part.repeat(200_000 / part.len());
            let begun = Instant::now();
            let folded = fold(&name);
            assert!(begun.elapsed() < Duration::from_secs(5), "{prefix}{part} took {:?}", begun.elapsed());
            assert!(folded.is_none_or(|folded| folded.len() <= 4 * name.len()));
        }
    }
}
