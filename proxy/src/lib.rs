//! The data plane: listeners, TLS, request spine, balancing; holds no Kubernetes credential.

pub mod edge;
pub mod proxy_protocol;
pub mod tls;
pub mod upstream;
