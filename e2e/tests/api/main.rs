//! Tests against a real API server without nodes: etcd and kube-apiserver on loopback. `cargo xtask test api`.

mod server;
