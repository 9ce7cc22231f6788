//! The data plane: listeners, TLS, request spine, balancing; holds no Kubernetes credential.
//!
//! What it is: one OS thread per core, each with its own runtime, sockets, connections and pools; a control side that
//! applies deltas of the IR by swapping pointers.
//!
//! What it is not: it reads no Kubernetes object and no manifest.
//!
//! Start from [`start`].

mod admission;
mod alarm;
mod background;
mod body;
mod client_affinity;
mod connection;
mod connection_state;
mod control;
mod credential;
mod drain;
mod duties;
mod ejection;
mod endpoint_state;
mod endpoint_tally;
mod exchange;
mod health;
mod http_server;
mod l4;
mod link;
mod listener;
mod observe;
mod overload;
mod overview;
mod page;
mod pool;
mod problems;
mod proxy;
mod recent;
mod resolve;
mod respond;
mod rule_stats;
mod sockets;
mod spine;
mod sticky;
mod stream;
mod tables;
mod takeover;
mod tunnel;
mod views;
mod waiting;
mod watch;
mod worker;

pub mod balance;
pub mod config;
pub mod edge;
pub mod explain;
pub mod process;
pub mod program;
pub mod proxy_protocol;
pub mod reason;
pub mod stats;
pub mod tls;
pub mod upstream;

pub use proxy::{Addresses, ProxyHandle, StartError, start};
pub use sticky::StickyFileError;
pub use tables::{Applied, L4Listener};
pub use takeover::TakeoverError;
