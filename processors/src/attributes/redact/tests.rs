use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::config::{Action, PatternConfig};
use super::*;

fn config(patterns: &[(&str, Option<&str>)]) -> RedactConfig {
    let pattern = |(name, regex): &(&str, Option<&str>)| PatternConfig {
        name: (*name).into(),
        regex: regex.map(String::from),
        action: Action::Mask,
    };
    RedactConfig { patterns: patterns.iter().map(pattern).collect(), ..RedactConfig::default() }
}

fn redactor(patterns: &[(&str, Option<&str>)]) -> Redactor {
    Redactor::new(&config(patterns)).unwrap()
}

/// `#` stands for the mask; a text without one stays.
fn check(name: &str, regex: Option<&str>, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let mut redactor = redactor(&[(name, regex)]);
        let expected = expected.replace('#', &format!("[redacted:{name}]"));
        let redacted = redactor.redact(text, false);
        assert_eq!(redacted.as_deref().unwrap_or(text), expected, "{text}");
        let count = expected.matches("[redacted").count() as u64;
        assert_eq!(redactor.matches().collect::<Vec<_>>(), [(name, count)], "{text}");
        assert_eq!(redactor.redact(&expected, false), None, "again: {expected}");
    }
}

#[test]
fn addresses_are_masked() {
    check(
        "email",
        None,
        &[
            ("", ""),
            ("no address", "no address"),
            ("a@b", "a@b"),
            ("@example.com and a@", "@example.com and a@"),
            ("ann@example.com", "#"),
            ("mail <ann.b+c@mail.example.co.uk>, bob@example.org.", "mail <#>, #."),
            ("jörg@müller.example", "#"),
            ("user=ann@example.com&x=1", "user=#&x=1"),
            ("postgres://app:pa55@db.example.com/shop", "postgres://app:#/shop"),
        ],
    );
}

#[test]
fn numbers_of_cards_are_masked() {
    check(
        "card",
        None,
        &[
            ("4111111111111111", "#"),
            ("4111111111111112", "4111111111111112"),
            ("paid with 4111 1111 1111 1111.", "paid with #."),
            ("5500-0055-5555-5559,3782 822463 10005", "#,#"),
            ("4222222222222 is 13 digits", "# is 13 digits"),
            ("6304000000000000001 is 19 digits", "6304000000000000001 is 19 digits"),
            ("6304000000000000000", "#"),
            ("63040000000000000000 is 20 digits", "63040000000000000000 is 20 digits"),
            // Groups are taken whole, wherever the number begins among them.
            ("order 42 4111 1111 1111 1111", "order 42 #"),
            ("v2 4111 1111 1111 1111 7a", "v2 # 7a"),
            ("4111111111111111 4111111111111111", "# #"),
            ("2026-11-27 4111 1111 1111 1111", "2026-11-27 #"),
            ("4111 11 11 11 11 11 11", "4111 11 11 11 11 11 11"),
            ("2 2 2 2 2 2 2 2 2 2 2 2 2 2", "2 2 2 2 2 2 2 2 2 2 2 2 2 2"),
            ("4111  1111 1111 1111", "4111  1111 1111 1111"),
            ("4111 - 1111 1111 1111", "4111 - 1111 1111 1111"),
            // Parts of something longer.
            ("a4111111111111111", "a4111111111111111"),
            ("4111111111111111f", "4111111111111111f"),
            ("é4111111111111111", "é4111111111111111"),
            ("0.4111111111111111", "0.4111111111111111"),
            ("4111111111111111.5", "4111111111111111.5"),
            ("_4111111111111111_ (4111111111111111)", "_#_ (#)"),
            // Right check digits that no issuer gives: nothing, and times since 1970.
            ("0000000000000000", "0000000000000000"),
            ("1700000000004", "1700000000004"),
            ("1700000000000000004", "1700000000000000004"),
            ("122000000000003", "#"),
        ],
    );
}

#[test]
fn times_pass_although_their_check_digit_is_right() {
    for number in ["1700000000004", "1700000000000000004", "0000000000000000"] {
        let digits = number.bytes().rev().enumerate().map(|(at, digit)| match (u32::from(digit - b'0'), at % 2) {
            (digit, 1) => digit * 2 / 10 + digit * 2 % 10,
            (digit, _) => digit,
        });
        assert_eq!(digits.sum::<u32>() % 10, 0, "{number}");
    }
}

#[test]
fn tokens_are_masked_behind_their_scheme() {
    check(
        "bearer",
        None,
        &[
            ("Bearer eyJhbGciOi.J9-_~+/==", "Bearer #"),
            ("authorization: BEARER  abc1", "authorization: BEARER  #"),
            ("bEaReR\tabc1, bearer xyz2", "bEaReR\t#, bearer #"),
            ("Bearer abcdefghijklmnop", "Bearer #"),
            ("bearer authentication", "bearer authentication"),
            ("the bearer token.", "the bearer token."),
            ("Bearer bearer abc1", "Bearer bearer #"),
            ("bearer token... bearer a.b", "bearer token... bearer #"),
            ("forbearer abc1", "forbearer abc1"),
            ("Bearer", "Bearer"),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic #"),
            (r#"{"authorization": "Token abc", "x": 1}"#, r##"{"authorization": "Token #", "x": 1}"##),
            (r#"{\"Authorization\":\"Basic abc\"}"#, r#"{\"Authorization\":\"Basic #\"}"#),
            ("authorization=basic abc; authorization: failed", "authorization=basic #; authorization: failed"),
        ],
    );
}

#[test]
fn values_of_attributes_named_authorization_are_masked_whole() {
    for (key, expected) in [
        ("authorization", true),
        ("Authorization", true),
        ("http.request.header.authorization", true),
        ("http.request.header.proxy-authorization", true),
        ("rpc.metadata.proxy_authorization", true),
        ("authorization.server", false),
        ("preauthorization", false),
        ("", false),
    ] {
        assert_eq!(is_credential(key.as_bytes()), expected, "{key}");
    }
    let mut redactor = redactor(&[("email", None), ("bearer", None)]);
    assert_eq!(redactor.redact("ApiKey x", true).as_deref(), Some("[redacted:bearer]"));
    assert_eq!(redactor.redact("[redacted:bearer]", true), None);
    assert_eq!(redactor.redact("", true), None);
    assert_eq!(redactor.matches().collect::<Vec<_>>(), [("email", 0), ("bearer", 1)]);
}

#[test]
fn expressions_of_ones_own_mask_a_match_or_its_secret() {
    check("ssn", Some(r"\b\d{3}-\d{2}-\d{4}\b"), &[("078-05-1120, 1078-05-1120", "#, 1078-05-1120")]);
    check(
        "pw",
        Some(r"(?i)password=(?P<secret>[^&\s]*)"),
        &[("a&Password=x&b", "a&Password=#&b"), ("password=&b", "password=&b")],
    );
    check("word", Some(r"\bx*"), &[("a b", "a b"), ("a xx b", "a # b")]);
}

#[test]
fn patterns_apply_in_their_order_each_to_what_the_last_has_left() {
    let own = ("host", Some(r"@[a-z.]+"));
    assert_eq!(redactor(&[own, ("email", None)]).redact("a@b.example", false).as_deref(), Some("a[redacted:host]"));
    let mut other = redactor(&[("email", None), own]);
    assert_eq!(other.redact("a@b.example @c", false).as_deref(), Some("[redacted:email] [redacted:host]"));
    assert_eq!(other.redact("c@d.example", false).as_deref(), Some("[redacted:email]"));
    assert_eq!(other.matches().collect::<Vec<_>>(), [("email", 2), ("host", 1)]);
}

#[test]
fn a_pattern_that_cannot_be_used_is_refused_with_its_key() {
    for (patterns, expected) in [
        (&[("email", None), ("ssn", None)][..], "1.name` is `ssn`, which needs a `regex`; without one there are"),
        (&[("card", Some("x"))], "0.name` is `card`, which needs no `regex`"),
        (&[("card", None), ("card", None)], "1.name` is `card`, which stands in the list already"),
        (&[("", Some("x"))], "0.name` is ``, which is no name"),
        (&[("a b", Some("x"))], "0.name` is `a b`, which is no name"),
        (
            &[("email", None), ("card", None), ("own", Some("ab(c"))],
            "2.regex` is `ab(c`, which cannot be used: unclosed group, at character 3",
        ),
        (&[("own", Some("a{3,2}"))], "0.regex` is `a{3,2}`, which cannot be used: invalid repetition count range"),
        (&[("own", Some("é)"))], "0.regex` is `é)`, which cannot be used: unopened group, at character 2"),
        (&[("own", Some("(?=a)"))], "0.regex` is `(?=a)`, which cannot be used: look-around, including"),
        (&[("own", Some("x*"))], "0.regex` is `x*`, which cannot be used: it matches nothing at all"),
        (
            &[("own", Some(r"(\w{1000}){1000}"))],
            r"0.regex` is `(\w{1000}){1000}`, which cannot be used: compiled regex",
        ),
    ] {
        let error = Redactor::new(&config(patterns)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`processors.attributes.redact.patterns.{expected}")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

/// Groups of digits, and what must stand neither before nor behind them.
static SHAPES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    [r"^[0-9]+(?:[ -][0-9]+)*$", r"(?:[A-Za-z0-9]|[^\x00-\x7f]|[0-9]\.)$", r"^(?:[A-Za-z0-9]|[^\x00-\x7f]|\.[0-9])"]
        .map(|shape| Regex::new(shape).unwrap())
});

/// What the search for card numbers is meant to find, written the slow way.
fn slow_cards(text: &str) -> Vec<Range<usize>> {
    let [strict, before, after] = &*SHAPES;
    let alone = |at: &Range<usize>| !before.is_match(&text[..at.start]) && !after.is_match(&text[at.end..]);
    let valid = |part: &str| {
        let digits: Vec<u32> = part.chars().filter_map(|c| c.to_digit(10)).collect();
        let sum: u32 =
            digits.iter().rev().enumerate().map(|(at, d)| if at % 2 == 1 { d * 2 / 10 + d * 2 % 10 } else { *d }).sum();
        let issued = digits[0] > 1 || digits[0] == 1 && digits.len() == 15;
        let groups = part.split([' ', '-']).all(|group| group.len() >= 3);
        groups && (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && issued
    };
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        let ends = (from + 1..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
        let here = ends
            .map(|end| from..end)
            .filter(|_| text.is_char_boundary(from))
            .find(|at| strict.is_match(&text[at.clone()]) && valid(&text[at.clone()]) && alone(at));
        from = here.as_ref().map_or(from + 1, |at| at.end);
        found.extend(here);
    }
    found
}

proptest! {
    /// Few different digits, so that right check digits are many.
    #[test]
    fn numbers_are_found_where_a_slow_search_finds_them(
        text in prop::collection::vec(prop_oneof![
            8 => "[0-9]{1,9}", 2 => "[45]{4}", 4 => "[ -]", 1 => "[a._é]", 1 => Just("4111111111111111".into()),
        ], 0..12),
    ) {
        let text = text.concat();
        prop_assert_eq!(card::find(&text).collect::<Vec<_>>(), slow_cards(&text));
    }
}

const PIECES: &[&str] = &[
    "bearer ",
    "Bearer",
    "authorization",
    "=",
    ": ",
    "basic ",
    "abc1",
    "abc",
    "a@b.cc",
    "@",
    "4111111111111111",
    "4111",
    "-",
    " ",
    ".",
    "é",
    "[redacted:email]",
    "\"",
    "2",
];

proptest! {
    // Compiling the expressions is slow without optimisation.
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn any_text_is_redacted_once_and_for_all(
        texts in prop::collection::vec((prop::collection::vec(prop::sample::select(PIECES), 0..12), any::<bool>()), 20),
    ) {
        let mut redactor = redactor(&[("email", None), ("card", None), ("bearer", None)]);
        let count = |redactor: &Redactor| redactor.matches().map(|(_, count)| count).sum::<u64>();
        for (text, credential) in texts {
            let before = count(&redactor);
            let redacted = redactor.redact(&text.concat(), credential);
            prop_assert_eq!(redacted.is_some(), count(&redactor) > before);
            if let Some(redacted) = redacted {
                prop_assert_eq!(redactor.redact(&redacted, credential), None, "{}", redacted);
            }
        }
    }
}

/// A run of many numbers is walked through once: this takes a minute where it is not.
#[test]
fn a_long_run_of_numbers_takes_no_longer_than_its_length() {
    let text = "4111111111111111 ".repeat(20_000);
    assert_eq!(card::find(&text).count(), 20_000);
    let none = "2000 ".repeat(200_000);
    assert_eq!(card::find(&none).count(), 0);
}

#[test]
fn what_is_hashed_can_be_compared_and_needs_a_secret() {
    let mut config = config(&[("email", None), ("card", None)]);
    config.patterns.iter_mut().for_each(|pattern| pattern.action = Action::Hash);
    let error = Redactor::new(&config).err().unwrap().to_string();
    assert!(error.starts_with("`processors.attributes.redact.patterns.0.action` is `hash`, which needs"), "{error}");
    config.secret = "pepper".into();
    let mut redactor = Redactor::new(&config).unwrap();
    let text = "from ann@example.com to bob@example.com, cc ann@example.com, 4111 1111 1111 1111";
    let hashed = redactor.redact(text, false).unwrap();
    let hashes: Vec<&str> = hashed.split(['[', ']']).skip(1).step_by(2).collect();
    // printf 'pepper\xffann@example.com' | sha256sum
    assert_eq!(hashes[0], "email:b510086b580cacc1", "{hashed}");
    assert!(hashes[0] == hashes[2] && hashes[0] != hashes[1] && hashes[3].starts_with("card:"), "{hashed}");
    assert_eq!(redactor.redact(&hashed, false), None, "once is enough");
    config.secret = "salt".into();
    assert_ne!(Redactor::new(&config).unwrap().redact(text, false).unwrap(), hashed);
}
