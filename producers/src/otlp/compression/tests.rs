use super::*;

fn held(bytes: Vec<u8>) -> Held {
    Held { bytes: bytes.into(), permit: None }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

fn noise(n: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(step).take(n).collect()
}

#[test]
fn what_was_compressed_comes_out_whole_up_to_the_limit_exactly() {
    let memory = Memory::new(64 << 20);
    for n in [0, 1, SMALLEST - 1, SMALLEST, SMALLEST + 1, 100_000, 1 << 20] {
        let plain = [noise(n / 2), vec![7; n - n / 2]].concat();
        for (encoding, body) in
            [(Encoding::Gzip, gzip(&plain)), (Encoding::Zstd, zstd::encode_all(&plain[..], 3).unwrap())]
        {
            let out = encoding.decompress(held(body.clone()), n.max(1), &memory).unwrap();
            assert!(out.bytes == plain, "{encoding:?} {n}");
            if n > 1 {
                let over = encoding.decompress(held(body), n - 1, &memory);
                assert!(
                    matches!(over, Err(Refusal::DecompressedTooLarge { limit }) if limit == n - 1),
                    "{encoding:?} {n}"
                );
            }
        }
    }
    assert_eq!(memory.in_flight(), 0, "refused or dropped, nothing stays counted");
}

#[test]
fn several_members_are_one_body_and_rubbish_behind_them_is_an_error() {
    let memory = Memory::new(1 << 20);
    let two = [gzip(b"one "), gzip(b"two")].concat();
    assert_eq!(Encoding::Gzip.decompress(held(two.clone()), 100, &memory).unwrap().bytes, "one two");
    let rubbish = [two, b"rubbish".to_vec()].concat();
    assert!(matches!(Encoding::Gzip.decompress(held(rubbish), 100, &memory), Err(Refusal::Compression { .. })));
}

#[test]
fn a_bomb_takes_no_more_of_the_budget_than_the_limit() {
    let mebibyte = vec![0; 1 << 20];
    let members = [(Encoding::Gzip, gzip(&mebibyte)), (Encoding::Zstd, zstd::encode_all(&mebibyte[..], 1).unwrap())];
    for (encoding, member) in members {
        let bomb = member.repeat(256);
        // Twice the limit, because old and new are both counted while the buffer grows.
        let enough = Memory::new(2 << 20);
        let refused = encoding.decompress(held(bomb), 1 << 20, &enough);
        assert!(matches!(refused, Err(Refusal::DecompressedTooLarge { .. })), "{encoding:?}");
    }
}

#[test]
fn a_window_beyond_what_the_web_allows_is_refused_before_it_is_allocated() {
    use std::io::Write;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"small, with a window of 128 MiB").unwrap();
    let body = encoder.finish().unwrap();
    let refused = Encoding::Zstd.decompress(held(body), 1 << 20, &Memory::new(1 << 22));
    let Err(Refusal::Compression { source, .. }) = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("too much memory"), "{source}");
}

#[test]
fn a_taken_budget_refuses_for_now() {
    let memory = Memory::new(1 << 20);
    let _other = memory.take(1 << 20).unwrap();
    let refused = Encoding::Gzip.decompress(held(gzip(b"x")), 100, &memory);
    assert!(matches!(refused, Err(Refusal::Busy)));
}
