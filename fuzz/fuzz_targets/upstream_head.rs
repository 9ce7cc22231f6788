//! Response heads of backends: one reading, however the bytes arrive, freed of what belongs to the connection.
#![no_main]

use bytes::BytesMut;
use http::Method;
use libfuzzer_sys::fuzz_target;
use propylon_proxy::upstream::{is_hop_by_hop, parse_response_head};

fuzz_target!(|data: &[u8]| {
    for method in [Method::GET, Method::HEAD] {
        let mut whole = BytesMut::from(data);
        let Ok(outcome) = parse_response_head(&mut whole, &method) else {
            continue;
        };
        let Some(head) = outcome else {
            assert_eq!(whole, data, "an incomplete head leaves the buffer alone");
            continue;
        };
        let consumed = data.len() - whole.len();
        assert_eq!(&data[consumed..], &whole[..], "nothing behind the head is touched");
        // A 101 keeps the protocol that was switched to.
        for name in head.headers.keys().filter(|_| head.status.as_u16() != 101) {
            assert!(!is_hop_by_hop(name.as_str().as_bytes()), "{name}");
        }
        let mut cut = BytesMut::from(&data[..consumed - 1]);
        if let Ok(early) = parse_response_head(&mut cut, &method) {
            assert!(early.is_none(), "a head ends at one place only");
        }
    }
});
