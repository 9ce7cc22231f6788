//! PROXY headers: a header is what it is whatever follows it, and nothing shorter is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use propylon_proxy::proxy_protocol::{ParseError, parse};

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(parsed) => {
            assert!(parsed.consumed <= data.len() && parsed.consumed <= 4096);
            assert_eq!(
                parsed.addresses.source.is_some(),
                parsed.addresses.destination.is_some()
            );
            assert_eq!(parse(&data[..parsed.consumed]), Ok(parsed));
            for length in [0, 1, 12, 15, parsed.consumed / 2, parsed.consumed - 1] {
                if length < parsed.consumed {
                    assert_eq!(parse(&data[..length]), Err(ParseError::Incomplete), "{length}");
                }
            }
        }
        Err(ParseError::Incomplete) => assert!(data.len() < 4096),
        Err(ParseError::Invalid(_)) => {
            let longer = [data, b"\r\n"].concat();
            assert!(
                matches!(parse(&longer), Err(ParseError::Invalid(_))),
                "more bytes make nothing valid"
            );
        }
    }
});
