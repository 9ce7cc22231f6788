//! The stream end to end: publisher, gRPC over HTTP/2 over a pipe, client, mirror; and what travels, whatever it holds.

mod any;
mod build;
mod codec;
mod snapshot;
mod transport;
