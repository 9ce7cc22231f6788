use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    os::unix::net::UnixListener,
    path::PathBuf,
    thread,
};

use tempfile::TempDir;

use super::*;
use crate::sockets::Sockets;

/// A process of the test: answers one conversation at the path in its own way.
fn process<T: Send + 'static>(
    conversation: impl AsyncFnOnce(Wire) -> T + Send + 'static,
) -> (TempDir, PathBuf, thread::JoinHandle<T>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let listener = UnixListener::bind(&path).unwrap();
    let running = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        runtime()
            .unwrap()
            .block_on(async { conversation(Wire::new(UnixStream::from_std(stream).unwrap())).await })
    });
    (folder, path, running)
}

#[test]
fn nobody_there_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    assert!(ask(&path).unwrap().is_none());
    // A file that a process left behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(ask(&path).unwrap().is_none());
}

#[test]
fn a_path_that_is_no_socket_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        ask(&folder.path().join("no folder").join("takeover"))
            .unwrap()
            .is_none()
    );
    assert!(matches!(
        ask(&folder.path().join("x".repeat(200))),
        Err(TakeoverError::Path(_))
    ));
}

#[test]
fn hundreds_of_sockets_come_over_in_order() {
    let sockets = Sockets::default();
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    for _ in 0..100 {
        sockets.tcp(any, 2).unwrap();
        sockets.udp(any, 1).unwrap();
    }
    let places = sockets.places();
    let (_folder, path, running) = process(async move |mut wire| {
        assert_eq!(wire.receive().await.unwrap(), Message::Hello { version: VERSION });
        let offer = sockets.offer().unwrap();
        let chunks = offer.chunks(wire::DESCRIPTORS);
        let mut left = chunks.len();
        for chunk in chunks {
            left -= 1;
            let places = chunk.iter().map(|held| held.place).collect();
            let descriptors: Vec<_> = chunk.iter().map(|held| held.socket.as_fd()).collect();
            let message = Message::Sockets { places, more: left > 0 };
            wire.send(&message, &descriptors).await.unwrap();
        }
        let ready = wire.receive().await.unwrap();
        wire.send(&Message::Draining, &[]).await.unwrap();
        ready
    });
    let (predecessor, held) = ask(&path).unwrap().unwrap();
    assert_eq!(held.len(), 300);
    let next = Sockets::new(held);
    for (transport, address) in &places {
        match transport {
            Transport::Tcp => assert_eq!(next.tcp(*address, 1).unwrap().len(), 2),
            Transport::Udp => assert_eq!(next.udp(*address, 1).unwrap().len(), 1),
        }
    }
    predecessor.ready(next.places());
    assert_eq!(running.join().unwrap(), Message::Ready { kept: places });
}

#[test]
fn nonsense_and_a_sudden_end_give_no_sockets() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\0\0\0\x02{}",
        b"\0\0\0\x03\xff\xff\xff",
        b"",
        b"\0\0\0\x40{\"type\":\"sockets\"",
        b"\0\0\0\x41{\"type\":\"sockets\",\"places\":[[\"tcp\",\"127.0.0.1:80\"]],\"more\":false}",
    ] {
        let (_folder, path, running) = process(async move |wire| {
            let mut stream = wire.into_std().unwrap();
            stream.write_all(bytes).unwrap();
        });
        assert!(ask(&path).unwrap().is_none(), "{}", String::from_utf8_lossy(bytes));
        running.join().unwrap();
    }
}

#[test]
fn a_descriptor_that_is_something_else_is_not_believed() {
    let (_folder, path, running) = process(async |wire| {
        let file = std::fs::File::open("/dev/null").unwrap();
        let places = vec![(Transport::Tcp, (Ipv4Addr::LOCALHOST, 80).into())];
        let message = Message::Sockets { places, more: false };
        wire.send(&message, &[file.as_fd()]).await.unwrap();
    });
    assert!(ask(&path).unwrap().is_none());
    running.join().unwrap();
}

#[test]
fn a_refusal_for_good_is_an_error_with_its_reason() {
    let (_folder, path, running) = process(async |wire| {
        let reason = "it speaks version 7".to_owned();
        let message = Message::Refused { reason, retry: false };
        wire.send(&message, &[]).await.unwrap();
    });
    let error = ask(&path).err().unwrap().to_string();
    assert!(error.contains("version 7"), "{error}");
    running.join().unwrap();
}

#[test]
fn a_process_that_ends_before_its_farewell_is_not_waited_for() {
    let (_folder, path, running) = process(async |wire| {
        let message = Message::Sockets {
            places: Vec::new(),
            more: false,
        };
        wire.send(&message, &[]).await.unwrap();
    });
    let (predecessor, held) = ask(&path).unwrap().unwrap();
    running.join().unwrap();
    assert!(held.is_empty());
    predecessor.ready(Vec::new());
}

#[test]
fn a_desk_takes_its_path_and_leaves_the_next_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let first = Desk::prepare(&path).unwrap();
    assert!(!path.exists());
    let first_mark = first.open().unwrap();
    let second = Desk::prepare(&path).unwrap();
    let second_mark = second.open().unwrap();
    assert_eq!(files(), 1);
    first_mark.remove();
    assert!(path.exists(), "it is the second one's");
    second_mark.remove();
    assert!(!path.exists());
    drop(Desk::prepare(&path).unwrap());
    assert_eq!(files(), 0, "a desk that did not open leaves nothing");
}
