//! Names, newtypes and the intermediate representation (IR) of Propylon.
//!
//! What it is: the language that the parts speak with each other. `translate` makes [`Resources`] of Kubernetes
//! objects, a [`Delta`] carries what changed, `routing` and the proxy consume it.
//!
//! What it is not: it reads no clock, opens no socket and knows no Kubernetes type.
//!
//! Start from [`Resources`].

pub mod balance;
pub mod certificate;
pub mod delta;
pub mod duration;
pub mod endpoint;
pub mod host;
pub mod l4;
pub mod name;
pub mod object;
pub mod path;
pub mod pool;
pub mod report;
pub mod resources;
pub mod route;
mod text;

pub use balance::{
    Affinity, AffinityCookie, Algorithm, EndpointLimits, HashOn, HealthCheck, PoolPolicy, Probe, RetryOn, RetryPolicy,
    SameSite,
};
pub use certificate::{Certificate, PrivateKeyDer};
pub use delta::Delta;
pub use endpoint::{Endpoint, Endpoints, ExternalName, TrafficDistribution};
pub use host::{HostName, HostPattern};
pub use l4::{L4Protocol, L4Service, Passthrough, ProxyVersion, TrafficPolicy};
pub use name::{CertificateName, EndpointsName, GroupName, L4ServiceName, PoolName};
pub use object::{Kind, ObjectRef};
pub use path::NormalPath;
pub use pool::{BackendProtocol, BackendTls, Pool};
pub use report::{Report, ReportReason, Severity};
pub use resources::Resources;
pub use route::{Action, PathMatch, Refusal, RouteGroup, RoutePolicy, Rule, RulePosition};
