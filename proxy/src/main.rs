//! The proxy's binary: the data plane alone, fed by the controller's stream.

fn main() {}
