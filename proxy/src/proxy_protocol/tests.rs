use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, body].concat()
}

const V4_BODY: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x01, 0xbb];

#[test]
fn v1_lines_are_read() {
    let cases: &[(&str, Option<&str>, Option<&str>)] = &[
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n",
            Some("192.0.2.1:8080"),
            Some("198.51.100.2:443"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
            Some("[2001:db8::1]:0"),
            Some("[::1]:65535"),
        ),
        ("PROXY UNKNOWN\r\n", None, None),
        ("PROXY UNKNOWN ffff:f...f ffff:f...f 65535 65535\r\n", None, None),
    ];
    for (line, source, destination) in cases {
        let parsed = parse(format!("{line}GET /").as_bytes()).unwrap();
        assert_eq!(parsed.consumed, line.len(), "{line}");
        assert_eq!(parsed.addresses.source, source.map(address), "{line}");
        assert_eq!(parsed.addresses.destination, destination.map(address), "{line}");
    }
}

#[test]
fn v1_lines_are_strict() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 \u{b2}\r\n",
    ] {
        assert!(
            matches!(parse(line.as_bytes()), Err(ParseError::Invalid(_))),
            "{line:?}"
        );
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(long.len(), MAX_V1 + 1);
    assert_eq!(parse(long.as_bytes()), Err(ParseError::Invalid("line too long")));
    assert!(parse(format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)).as_bytes()).is_ok());
}

#[test]
fn v2_headers_are_read() {
    let parsed = parse(&v2(0x21, 0x11, &V4_BODY)).unwrap();
    assert_eq!(
        (parsed.consumed, parsed.addresses.source),
        (28, Some(address("192.0.2.1:8080")))
    );
    assert_eq!(parsed.addresses.destination, Some(address("198.51.100.2:443")));

    let mut body = [0_u8; 36];
    (body[15], body[31], body[33], body[35]) = (1, 2, 80, 81);
    let parsed = parse(&v2(0x21, 0x21, &body)).unwrap();
    assert_eq!(
        parsed.addresses,
        Addresses {
            source: Some(address("[::1]:80")),
            destination: Some(address("[::2]:81"))
        }
    );

    for header in [
        v2(0x20, 0x11, &V4_BODY),
        v2(0x20, 0x00, &[]),
        v2(0x21, 0x00, b"any"),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        let parsed = parse(&header).unwrap();
        assert_eq!(
            (parsed.consumed, parsed.addresses),
            (header.len(), Addresses::default())
        );
    }
}

#[test]
fn v2_tlvs_are_skipped_by_their_lengths() {
    let with = |tlvs: &[u8]| parse(&v2(0x21, 0x11, &[&V4_BODY, tlvs].concat()));
    assert_eq!(
        with(&[0x04, 0, 2, 9, 9, 0x05, 0, 0]).unwrap().addresses.source,
        Some(address("192.0.2.1:8080"))
    );
    for tlvs in [&[0x04][..], &[0x04, 0], &[0x04, 0, 1], &[0x04, 0, 0, 0x05]] {
        assert_eq!(with(tlvs), Err(ParseError::Invalid("TLVs do not fit")), "{tlvs:?}");
    }
}

#[test]
fn v2_headers_are_strict() {
    for header in [
        v2(0x11, 0x11, &V4_BODY),
        v2(0x22, 0x11, &V4_BODY),
        v2(0x21, 0x13, &V4_BODY),
        v2(0x21, 0x41, &V4_BODY),
    ] {
        assert!(matches!(parse(&header), Err(ParseError::Invalid(_))), "{header:?}");
        assert!(
            matches!(parse(&header[..14]), Err(ParseError::Invalid(_))),
            "refused before the length is there"
        );
    }
    assert_eq!(
        parse(&v2(0x21, 0x11, &V4_BODY[..11])),
        Err(ParseError::Invalid("addresses do not fit"))
    );
    assert_eq!(
        parse(&v2(0x21, 0x21, &V4_BODY)),
        Err(ParseError::Invalid("addresses do not fit"))
    );
    let mut long = v2(0x20, 0x00, &[]);
    (long[14], long[15]) = (0x0f, 0xf1);
    assert_eq!(parse(&long), Err(ParseError::Invalid("header too long")));
}

#[test]
fn every_prefix_of_a_header_is_incomplete() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n".to_vec();
    for header in [line, v2(0x21, 0x11, &V4_BODY), v2(0x20, 0x00, &[])] {
        for length in 0..header.len() {
            assert_eq!(parse(&header[..length]), Err(ParseError::Incomplete), "{length}");
        }
    }
}

#[tokio::test]
async fn the_reader_takes_the_header_and_nothing_behind_it() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n".to_vec();
    for header in [line, v2(0x21, 0x11, &V4_BODY)] {
        for cut in [1, 6, 13, header.len() - 1, header.len()] {
            let (mut client, mut server) = pair().await;
            let send = async {
                client.set_nodelay(true).unwrap();
                client.write_all(&header[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                client.write_all(&header[cut..]).await.unwrap();
                client.write_all(b"payload").await.unwrap();
            };
            let (addresses, ()) = tokio::join!(read_header(&mut server), send);
            let addresses = addresses.unwrap();
            assert_eq!(addresses.source, Some(address("192.0.2.1:8080")));
            let mut payload = [0; 7];
            server.read_exact(&mut payload).await.unwrap();
            assert_eq!(&payload, b"payload");
        }
    }
}

#[tokio::test]
async fn the_reader_refuses_at_the_first_wrong_byte() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"G").await.unwrap();
    assert_eq!(
        read_header(&mut server).await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    let (client, mut server) = pair().await;
    drop(client);
    assert_eq!(
        read_header(&mut server).await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}
