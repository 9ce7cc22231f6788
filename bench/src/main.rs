//! Side-by-side benchmarks against nginx, HAProxy and Envoy.
fn main() {}
