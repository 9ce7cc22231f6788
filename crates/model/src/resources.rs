//! The whole of the IR: what the proxy is to do.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    certificate::Certificate,
    endpoint::Endpoints,
    name::{CertificateName, EndpointsName, GroupName, PoolName},
    pool::Pool,
    route::RouteGroup,
};

/// Everything that the data plane works from; a child names its parent (a group its pools, a pool its endpoints).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The paths of each source object and host.
    pub groups: BTreeMap<GroupName, Arc<RouteGroup>>,
    /// The Service ports that groups name.
    pub pools: BTreeMap<PoolName, Arc<Pool>>,
    /// The addresses that pools name.
    pub endpoints: BTreeMap<EndpointsName, Arc<Endpoints>>,
    /// The certificates.
    pub certificates: BTreeMap<CertificateName, Arc<Certificate>>,
}
