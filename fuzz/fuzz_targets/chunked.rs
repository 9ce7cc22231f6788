//! The chunked coding: the same body, trailers and end, or a refusal, however the bytes are cut. The first byte says how.
#![no_main]

use bytes::BytesMut;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use propylon_proxy::upstream::{ChunkedDecoder, Decoded};

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else { return };
    let whole = decode(data, data.len().max(1));
    let pieces = decode(data, usize::from(*cut) % 64 + 1);
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("{whole:?} but in pieces {pieces:?}"),
    }
});

/// The body, its trailers, and how many bytes of the input belong to it; no trailers at all while it is not complete.
type Body = (Vec<u8>, Option<(Option<HeaderMap>, usize)>);

fn decode(data: &[u8], cut: usize) -> Result<Body, &'static str> {
    let (mut decoder, mut buffer, mut body, mut given) = (ChunkedDecoder::default(), BytesMut::new(), Vec::new(), 0);
    for piece in data.chunks(cut) {
        buffer.extend_from_slice(piece);
        given += piece.len();
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    body.extend_from_slice(&bytes);
                }
                Decoded::End(trailers) => return Ok((body, Some((trailers, given - buffer.len())))),
                Decoded::NeedMore => break,
            }
        }
    }
    Ok((body, None))
}
