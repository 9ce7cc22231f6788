//! The propylon command: run a folder of manifests, demo.
fn main() {}
