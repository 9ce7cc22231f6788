//! Black-box tests of `propylon run`: one module per paragraph of what it promises.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests: a failure here is a failed test"
)]

mod annotations;
mod backends;
mod balancing;
mod client_address;
mod commands;
mod explain;
mod external_name;
mod folder;
mod framing;
mod health_checks;
mod ingress;
mod l4_overload;
mod l4_takeover;
mod l4_tcp;
mod l4_udp;
mod limits;
mod observability;
mod overload;
mod passthrough;
mod paths;
mod policies;
mod protocols;
mod reliability;
mod shutdown;
mod streaming;
mod takeover;
mod tls;
mod upgrades;
mod watching;
