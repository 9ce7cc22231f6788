//! The whole of the IR: what the proxy is to do.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    certificate::Certificate,
    endpoint::Endpoints,
    l4::{L4Service, Passthrough},
    name::{CertificateName, EndpointsName, GroupName, L4ServiceName, PoolName},
    pool::Pool,
    route::RouteGroup,
};

/// Everything that the data plane works from; a child names its parent (a group its pools, a pool its endpoints).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Resources {
    /// The paths of each source object and host.
    pub groups: BTreeMap<GroupName, Arc<RouteGroup>>,
    /// The Service ports that groups name.
    pub pools: BTreeMap<PoolName, Arc<Pool>>,
    /// The addresses that pools name.
    pub endpoints: BTreeMap<EndpointsName, Arc<Endpoints>>,
    /// The certificates.
    pub certificates: BTreeMap<CertificateName, Arc<Certificate>>,
    /// The ports of Services that are forwarded as they are.
    pub l4: BTreeMap<L4ServiceName, Arc<L4Service>>,
    /// The hosts whose TLS is handed on unopened, by Ingress and host.
    pub passthrough: BTreeMap<GroupName, Arc<Passthrough>>,
}
