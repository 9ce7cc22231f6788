use super::*;

#[test]
fn each_connection_plays_its_script() {
    let first = vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    ];
    let second = vec![Step::ReadHead, Step::Reset];
    let server = scripted_server(vec![first, second]).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(exchange(server.address, request).unwrap().ends_with(b"\r\n\r\na"));
    assert_eq!(
        exchange(server.address, request).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(server.received(), [request.to_vec(), request.to_vec()]);
}

#[test]
fn responses_are_read_by_their_framing() {
    let script = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX-T: v\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nto the end",
    ];
    let server = scripted_server(vec![script.into_iter().map(Step::write).collect()]).unwrap();
    let mut client = RawClient::connect(server.address).unwrap();
    let chunked = client.response().unwrap();
    assert_eq!(
        (chunked.text().as_str(), chunked.trailers.as_str()),
        ("abc", "X-T: v\r\n")
    );
    assert_eq!(client.response().unwrap().status, 204);
    assert_eq!(client.response().unwrap().text(), "to the end");
}

#[test]
fn a_close_is_seen() {
    let server = scripted_server(vec![vec![Step::ReadHead]]).unwrap();
    let mut client = RawClient::connect(server.address).unwrap();
    client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(client.closes_within(crate::wait::PATIENCE).unwrap());
}
