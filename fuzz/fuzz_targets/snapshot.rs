//! The snapshot of a proxy: no file makes the reader panic, and what is read is written the same again.
#![no_main]

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use propylon_wire::snapshot::{decode, encode};

fuzz_target!(|data: &[u8]| {
    read(Bytes::copy_from_slice(data));
    // With the right head, number and checksum, so that the resources are reached.
    let Some((count, body)) = data.split_first() else { return };
    let mut file = b"propylon snapshot 1\n".to_vec();
    file.extend_from_slice(body);
    file.extend_from_slice(&u64::from(*count).to_le_bytes());
    let checksum = digest(&SHA256, &file);
    file.extend_from_slice(checksum.as_ref());
    read(file.into());
});

fn read(file: Bytes) {
    if let Ok(resources) = decode(file) {
        let again = encode(&resources).expect("what was read can be written");
        assert_eq!(decode(again.into()).expect("what was written can be read"), resources);
    }
}
