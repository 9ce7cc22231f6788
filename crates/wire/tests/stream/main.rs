//! The stream end to end: publisher, gRPC over HTTP/2 over a pipe, client, mirror.

mod build;
mod transport;
