//! UDP ports of `LoadBalancer` Services, from manifests to datagrams.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
};

use propylon_e2e::{Gate, ports};
use propylon_testkit::wait::PATIENCE;

fn manifests(port: u16, endpoint: SocketAddr) -> String {
    let (ip, target) = (endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: dns, namespace: default}}
spec:
  type: LoadBalancer
  ports: [{{name: dns, port: {port}, protocol: UDP, targetPort: {target}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: dns-1
  namespace: default
  labels: {{kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{{name: dns, port: {target}, protocol: UDP}}]
endpoints: [{{addresses: [\"{ip}\"]}}]
"
    )
}

fn echo(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(&[name.as_bytes(), buffer.get(..length).unwrap()].concat(), from));
        }
    });
    address
}

fn client(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
    socket.send(bytes).unwrap();
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.get(..length).unwrap().to_vec()
}

#[test]
fn datagrams_go_to_the_endpoint_and_back_and_follow_a_change() {
    let address = ports::free();
    let gate = Gate::start(&manifests(address.port(), echo("1:")));
    gate.line(&["listening udp", &address.to_string(), "default/dns"]);
    let socket = client(address);
    assert_eq!(ask(&socket, b"x"), b"1:x");
    gate.replace(&manifests(address.port(), echo("2:")));
    gate.until("the session goes to the other endpoint", || {
        ask(&socket, b"x") == b"2:x"
    });
    let listener = format!("listener=\"{}/UDP\"", address.port());
    assert_eq!(gate.metric("propylon_l4_open_connections", &[&listener]), Some(1.0));
}
