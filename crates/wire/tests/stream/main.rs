//! The stream end to end: publisher, gRPC over HTTP/2 over a pipe, client, mirror; and what travels, whatever it holds.

#[cfg(test)]
mod any;
#[cfg(test)]
mod build;
#[cfg(test)]
mod codec;
#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod transport;
