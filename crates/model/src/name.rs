//! Names of the resources of the IR.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! resource_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes a name of its text form.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<Arc<str>> for $name {
            fn as_ref(&self) -> &Arc<str> {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

resource_name!(
    /// Names a [`crate::RouteGroup`]: `NAMESPACE/INGRESS/HOST`, where HOST is the text form of the host pattern.
    GroupName
);
resource_name!(
    /// Names a [`crate::Pool`]: `NAMESPACE/SERVICE:PORT`, with `@INGRESS` behind it where an Ingress has backend settings of its own.
    PoolName
);
resource_name!(
    /// Names an [`crate::Endpoints`]: `NAMESPACE/SERVICE:PORT`, PORT being the number of the Service port, with `/UDP` behind it
    /// where the port is one of UDP.
    EndpointsName
);
resource_name!(
    /// Names a [`crate::L4Service`]: `NAMESPACE/SERVICE:PORT/PROTOCOL`; of a `ConfigMap`, `NAMESPACE/CONFIGMAP#PORT/PROTOCOL`.
    L4ServiceName
);
resource_name!(
    /// Names a [`crate::Certificate`]: `NAMESPACE/SECRET`.
    CertificateName
);
