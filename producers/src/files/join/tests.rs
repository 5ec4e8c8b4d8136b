use proptest::prelude::*;

use super::*;

const MOST: usize = 64;

fn rules(multiline: Option<Multiline>) -> Rules {
    Rules { multiline, most: MOST, patience: Duration::from_secs(1) }
}

fn start(pattern: &str) -> Option<Multiline> {
    Some(Multiline::Start(Regex::new(pattern).unwrap()))
}

/// Lines as `o` and `e` for the streams, `+` where another part follows; each stands 10 bytes behind the last.
fn join(lines: &[&str], rules: &Rules) -> (Vec<(u64, String)>, Joiner) {
    let (mut joiner, mut found, now) = (Joiner::default(), Vec::new(), Instant::now());
    for (at, line) in lines.iter().enumerate() {
        let iostream = match line.as_bytes()[0] {
            b'o' => Some(Iostream::Stdout),
            b'e' => Some(Iostream::Stderr),
            _ => None,
        };
        let (partial, content) = (line.as_bytes()[1] == b'+', &line.as_bytes()[2..]);
        let mut out = |entry: Entry<'_>| {
            assert_eq!(entry.iostream, iostream);
            found.push((entry.offset, String::from_utf8(entry.body.to_vec()).unwrap()));
        };
        let part = Part { time: Some(at as u64), iostream, partial, content };
        joiner.push(part, 10 * at as u64, now, rules, &mut out);
    }
    (found, joiner)
}

fn all(joiner: &mut Joiner, rules: &Rules) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut out = |entry: Entry<'_>| found.push((entry.offset, String::from_utf8(entry.body.to_vec()).unwrap()));
    joiner.flush(None, rules, &mut out);
    assert_eq!((joiner.held_from(), joiner.due(rules)), (None, None));
    found
}

fn owned(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(offset, text)| (*offset, (*text).to_owned())).collect()
}

#[test]
fn parts_of_interleaved_streams_are_joined_each_to_its_own() {
    let rules = rules(None);
    let (found, joiner) = join(&["o+a", "e+x", "o b", "o c", "e y", "o+d"], &rules);
    assert_eq!(found, owned(&[(0, "ab"), (30, "c"), (10, "xy")]));
    assert_eq!(joiner.held_from(), Some(50), "what is not whole is read again");
    assert_eq!(joiner.bytes(), 1);
}

#[test]
fn the_time_of_a_joined_line_is_that_of_its_first_part() {
    let (mut joiner, mut time, rules) = (Joiner::default(), None, rules(start("^x")));
    let mut out = |entry: Entry<'_>| time = entry.time;
    for (at, partial) in [(5, true), (6, false), (7, false)] {
        let part = Part { time: Some(at), iostream: None, partial, content: b"y" };
        joiner.push(part, 0, Instant::now(), &rules, &mut out);
    }
    joiner.flush(None, &rules, &mut out);
    assert_eq!(time, Some(5));
}

#[test]
fn lines_of_an_event_are_joined_until_the_next_one_begins() {
    let rules = rules(start(r"^\d"));
    let lines = ["o 1 error", "e 9", "o   at a", "o   at b", "o 2 fine", "o 3"];
    let (found, mut joiner) = join(&lines, &rules);
    assert_eq!(found, owned(&[(0, "1 error\n  at a\n  at b"), (40, "2 fine")]));
    assert_eq!(joiner.held_from(), Some(10));
    assert_eq!(all(&mut joiner, &rules), owned(&[(50, "3"), (10, "9")]));
}

#[test]
fn continuations_go_on_with_whatever_was_before() {
    let rules = rules(Some(Multiline::Continuation(Regex::new(r"^(\s|Caused by)").unwrap())));
    let (found, mut joiner) = join(&["o error", "o\u{20}\tat a", "o Caused by: x", "o next"], &rules);
    assert_eq!(found, owned(&[(0, "error\n\tat a\nCaused by: x")]));
    assert_eq!(all(&mut joiner, &rules), owned(&[(30, "next")]));
}

#[test]
fn what_is_too_long_comes_in_pieces_and_nothing_is_left_out() {
    let long = "x".repeat(2 * MOST + 10);
    for rules in [rules(None), rules(start("^x"))] {
        let (mut found, mut joiner) = join(&[&format!("o {long}")], &rules);
        found.extend(all(&mut joiner, &rules));
        assert_eq!(found.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [MOST, MOST, 10]);
    }
    let part = "y".repeat(MOST - 1);
    let (found, joiner) = join(&[&format!("o+{part}"), "o+zz", "o end"], &rules(None));
    assert_eq!(found, owned(&[(0, &part), (10, "zzend")]));
    assert_eq!(joiner.held_from(), None);
}

#[test]
fn what_waits_is_given_out_when_it_has_waited_long_enough() {
    let rules = rules(start("^x"));
    let (_, mut joiner) = join(&["o x", "e+p"], &rules);
    let due = joiner.due(&rules).unwrap();
    let mut found = 0;
    joiner.flush(Some(due - Duration::from_millis(1)), &rules, &mut |_: Entry<'_>| found += 1);
    assert_eq!(found, 0);
    joiner.flush(Some(due + Duration::from_secs(1)), &rules, &mut |_: Entry<'_>| found += 1);
    assert_eq!((found, joiner.held_from()), (2, None));
}

proptest! {
    /// Whatever comes in comes out, in order within its stream, whatever the parts.
    #[test]
    fn nothing_is_lost_or_changed(lines in proptest::collection::vec((0..3_usize, any::<bool>(), "[ax ]{0,80}"), 0..40), multi: bool) {
        let rules = rules(multi.then(|| start("^x").unwrap()));
        let (mut joiner, mut found, mut expected) = (Joiner::default(), [const { Vec::new() }; 3], [const { Vec::new() }; 3]);
        let now = Instant::now();
        let mut out = |entry: Entry<'_>| {
            assert!(entry.body.len() <= MOST);
            found[place(entry.iostream)].extend(entry.body.iter().filter(|byte| **byte != b'\n').copied());
        };
        for (at, (stream, partial, text)) in lines.iter().enumerate() {
            expected[*stream].extend_from_slice(text.as_bytes());
            let part = Part { time: None, iostream: ALL[*stream], partial: *partial, content: text.as_bytes() };
            joiner.push(part, at as u64, now, &rules, &mut out);
        }
        joiner.flush(None, &rules, &mut out);
        prop_assert_eq!(found, expected);
        prop_assert_eq!((joiner.held_from(), joiner.bytes()), (None, 0));
    }
}
