//! The delta stream from the controller to the proxies: typed resources over gRPC, in the manner of delta xDS.
