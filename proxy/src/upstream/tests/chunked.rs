//! The chunked decoder: strict, and blind to how the input is cut.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::upstream::{ChunkedDecoder, Decoded};

/// The body, the trailers and what is left over; `None` while the end has not come.
type Outcome = Result<Option<(Vec<u8>, Option<HeaderMap>, Vec<u8>)>, &'static str>;

fn decode(pieces: &[&[u8]]) -> Outcome {
    let mut decoder = ChunkedDecoder::default();
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    let mut end = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while end.is_none() {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Decoded::End(trailers) => end = Some(trailers),
                Decoded::NeedMore => break,
            }
        }
    }
    Ok(end.map(|trailers| (body, trailers, buffer.to_vec())))
}

fn decoded(text: &str) -> (String, Option<HeaderMap>, String) {
    let (body, trailers, rest) = decode(&[text.as_bytes()]).expect("valid").expect("complete");
    (
        String::from_utf8(body).expect("text"),
        trailers,
        String::from_utf8(rest).expect("text"),
    )
}

#[test]
fn chunks_are_joined_and_the_rest_is_left() {
    assert_eq!(
        decoded("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nHTTP"),
        ("hello world".into(), None, "HTTP".into())
    );
    assert_eq!(
        decoded("00A;name=value;q=\"x y\"\r\n0123456789\r\n000\r\n\r\n"),
        ("0123456789".into(), None, String::new())
    );
    assert_eq!(decoded("0\r\n\r\n"), (String::new(), None, String::new()));
}

#[test]
fn trailers_are_kept_unless_forbidden() {
    let (_, trailers, rest) = decoded(
        "1\r\nx\r\n0\r\nGrpc-Status: 0\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\nhost: h\r\nx-sum: 1\r\n\r\n!",
    );
    assert_eq!(trailers, Some(fields(&[("grpc-status", "0"), ("x-sum", "1")])));
    assert_eq!(rest, "!");
    assert_eq!(decoded("0\r\nset-cookie: a\r\n\r\n").1, None);
}

#[test]
fn malformed_input_is_refused() {
    for text in [
        "\r\n",
        "g\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "5\rhello\r\n",
        "5\r\nhello!\r\n",
        "5\r\nhello\n",
        "5\r\nhello0\r\n\r\n",
        "5;a\0b\r\nhello\r\n",
        "5;a\nb\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5,6\r\nhello\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "0\r\n\n",
        "0\r\na: b\n\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\n:status: 200\r\n\r\n",
        "0\r\na: b\r\n c\r\n\r\n",
        "0\r\na: b\0\r\n\r\n",
    ] {
        assert!(decode(&[text.as_bytes()]).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn limits_hold() {
    let line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(length));
    assert!(decode(&[line(4000).as_bytes()]).is_ok());
    assert!(decode(&[line(5000).as_bytes()]).is_err());
    assert!(decode(&[format!("1;{}", "e".repeat(5000)).as_bytes()]).is_err());
    let many = |count: usize| format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(1023)).repeat(count));
    assert!(decode(&[many(16).as_bytes()]).is_ok());
    assert!(decode(&[many(17).as_bytes()]).is_err());
    let trailers = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(decode(&[trailers(64).as_bytes()]).is_ok());
    assert!(decode(&[trailers(65).as_bytes()]).is_err());
    assert!(decode(&[format!("0\r\na: {}", "x".repeat(20_000)).as_bytes()]).is_err());
}

#[test]
fn largest_size_does_not_overflow() {
    assert_eq!(decode(&[b"ffffffffffffffff\r\nabc"]), Ok(None));
}

#[test]
fn truncated_input_has_no_end() {
    let whole = b"5;x=1\r\nhello\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(decode(&[&whole[..end]]), Ok(None), "{end}");
    }
}

/// Valid coding, possibly damaged in one place.
fn coding() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (
        proptest::collection::vec(any::<u8>(), 1..40),
        "(;[a-z]{0,6}(=[a-z]{0,4})?)?",
    );
    let trailers = proptest::collection::vec("[a-z-]{1,8}: [ -~]{0,10}\r\n", 0..3);
    let damage = proptest::option::weighted(0.4, (any::<prop::sample::Index>(), any::<u8>()));
    (proptest::collection::vec(chunk, 0..5), trailers, damage).prop_map(|(chunks, trailers, damage)| {
        let mut coding = Vec::new();
        for (data, extension) in chunks {
            coding.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            coding.extend_from_slice(&data);
            coding.extend_from_slice(b"\r\n");
        }
        coding.extend_from_slice(format!("0\r\n{}\r\nnext", trailers.concat()).as_bytes());
        if let Some((position, byte)) = damage {
            let position = position.index(coding.len());
            coding[position] = byte;
        }
        coding
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_same_result(coding in coding(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(coding.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in cuts {
            pieces.push(&coding[start..cut]);
            start = cut;
        }
        pieces.push(&coding[start..]);
        let bytes: Vec<&[u8]> = coding.chunks(1).collect();
        let whole = decode(&[&coding]);
        prop_assert_eq!(decode(&pieces).is_err(), whole.is_err());
        prop_assert_eq!(decode(&bytes).is_err(), whole.is_err());
        if whole.is_ok() {
            prop_assert_eq!(&decode(&pieces), &whole);
            prop_assert_eq!(&decode(&bytes), &whole);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode(&[&bytes]));
    }
}
