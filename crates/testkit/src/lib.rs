//! Object builders, golden runner, mock upstreams and raw clients for tests.
