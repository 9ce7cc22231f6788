//! The snapshot on disk: what was written is read, and nothing else is.

use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use proptest::{prelude::*, test_runner::Config};
use propylon_model::{Delta, Resources};
use propylon_wire::{
    Mirror, Publisher,
    snapshot::{self, SnapshotError},
};

use crate::{any, build};

fn resources(delta: &Delta) -> Resources {
    let mut resources = Resources::default();
    resources.apply(delta);
    resources
}

#[test]
fn a_proxy_that_restarts_from_its_snapshot_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let delta = build::world(30, 5);
    snapshot::write(&path, &Mirror::of(resources(&delta))).unwrap();
    // A crash may leave the new file half written.
    std::fs::write(folder.path().join("state.new"), b"half").unwrap();
    snapshot::write(&path, &Mirror::of(resources(&delta))).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mirror = snapshot::read(&path).unwrap();
    assert_eq!(*mirror.resources(), resources(&delta));
    let publisher = Publisher::new();
    publisher.publish(&delta);
    assert_eq!(mirror.state(), publisher.version());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_snapshot_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let missing = snapshot::read(&path).unwrap_err();
    assert!(matches!(&missing, SnapshotError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    for foreign in [&b""[..], b"PK\x03\x04", b"propylon snapshot 2\n and what may come"] {
        assert!(matches!(
            snapshot::decode(Bytes::from_static(foreign)),
            Err(SnapshotError::Foreign)
        ));
    }
    let whole = snapshot::encode(&resources(&build::world(2, 2))).unwrap();
    for end in 20..whole.len() {
        let cut = snapshot::decode(Bytes::copy_from_slice(&whole[..end]));
        assert!(matches!(cut, Err(SnapshotError::Damaged(_))), "{end}: {cut:?}");
    }
    for place in 20..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        let error = snapshot::decode(damaged.into()).unwrap_err();
        assert!(matches!(error, SnapshotError::Damaged(_)), "{place}: {error}");
    }
}

proptest! {
    #![proptest_config(Config::with_cases(64))]

    #[test]
    fn any_state_reads_back(resources in any::resources()) {
        let bytes = snapshot::encode(&resources).unwrap();
        prop_assert_eq!(snapshot::decode(bytes.into()).unwrap(), resources);
    }

    #[test]
    fn other_bytes_are_an_error_and_no_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"propylon snapshot 1\n".to_vec();
        bytes.extend(tail);
        prop_assert!(snapshot::decode(bytes.into()).is_err());
    }
}
