//! The data plane: listeners, TLS, request spine, balancing; holds no Kubernetes credential.
