//! The addresses behind a Service port.

use std::{net::SocketAddr, sync::Arc};

/// One address that may be sent requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// The pod's name, where known: for logs.
    pub pod: Option<Arc<str>>,
    /// The node's name, where known: for logs.
    pub node: Option<Arc<str>>,
}

/// The endpoints of one Service port that are to be used now, in address order, each address once.
///
/// The choice between ready endpoints and, when none is ready, serving and terminating ones (KEP-1669) is already made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The endpoints; empty means that requests are answered with 503.
    pub endpoints: Vec<Endpoint>,
}
