//! The messages of `grpc.health.v1.Health/Check` (gRPC health checking protocol), of which there are two small ones.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};

use super::probe::Failure;

/// The path of the method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// How long the caller waits.
pub(super) static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// `HealthCheckRequest { string service = 1; }` in a frame of gRPC.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// What the answer says: the status of the call stands in the trailers, or in the head where there is no body.
///
/// # Errors
/// Everything but `SERVING`; a server without the service, as for the kubelet.
pub(super) fn verdict(headers: &HeaderMap, trailers: Option<&HeaderMap>, body: &[u8]) -> Result<(), Failure> {
    let field = |name| {
        let found = trailers.and_then(|trailers| trailers.get(name));
        found.or_else(|| headers.get(name))?.to_str().ok()
    };
    match field("grpc-status") {
        Some("0") => {}
        Some("12") => return Err("the server does not implement grpc.health.v1.Health".into()),
        Some("5") => return Err("the server knows no such service (grpc-status 5)".into()),
        Some(status) => {
            let message = field("grpc-message").unwrap_or_default();
            return Err(Failure(format!("grpc-status {status} {message}").trim_end().to_owned()));
        }
        None => return Err("no grpc-status: the server does not speak gRPC".into()),
    }
    match status(body) {
        Some(SERVING) => Ok(()),
        Some(2) => Err("NOT_SERVING".into()),
        Some(3) => Err("SERVICE_UNKNOWN".into()),
        Some(other) => Err(Failure(format!("serving status {other}"))),
        None => Err("the answer is no HealthCheckResponse".into()),
    }
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; other fields are passed over.
fn status(body: &[u8]) -> Option<u64> {
    let (prefix, rest) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    let mut message = rest.get(..usize::try_from(u32::from_be_bytes(length)).ok()?)?;
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut message)?,
            (_, 0) => {
                take_varint(&mut message)?;
            }
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7f) as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const SERVING: u64 = 1;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ok() -> HeaderMap {
        [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]
            .into_iter()
            .collect()
    }

    #[test]
    fn requests_are_as_protobuf_has_them() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("shop")[..], [0, 0, 0, 0, 6, 0x0a, 4, b's', b'h', b'o', b'p']);
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn only_serving_is_well() {
        let answer = |status: &[u8]| verdict(&HeaderMap::new(), Some(&ok()), status);
        assert_eq!(answer(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert_eq!(answer(&[0, 0, 0, 0, 2, 8, 2]), Err("NOT_SERVING".into()));
        assert_eq!(answer(&[0, 0, 0, 0, 2, 8, 3]), Err("SERVICE_UNKNOWN".into()));
        assert_eq!(answer(&[0, 0, 0, 0, 0]), Err("serving status 0".into()));
        for broken in [
            &[][..],
            &[0, 0, 0, 0, 2, 8],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 11, 0],
        ] {
            assert_eq!(answer(broken), Err("the answer is no HealthCheckResponse".into()));
        }
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let message = [0x12, 2, 1, 1, 0x1d, 0, 0, 0, 0, 0x20, 0x80, 1, 8, 1];
        let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        body.extend(message);
        assert_eq!(verdict(&HeaderMap::new(), Some(&ok()), &body), Ok(()));
    }

    #[test]
    fn the_status_of_the_call_may_stand_in_the_head() {
        let mut head = HeaderMap::new();
        assert!(verdict(&head, None, &[]).unwrap_err().0.contains("no grpc-status"));
        head.insert("grpc-status", HeaderValue::from_static("12"));
        assert!(verdict(&head, None, &[]).unwrap_err().0.contains("does not implement"));
        head.insert("grpc-status", HeaderValue::from_static("14"));
        head.insert("grpc-message", HeaderValue::from_static("away"));
        assert_eq!(verdict(&head, None, &[]), Err("grpc-status 14 away".into()));
    }
}
