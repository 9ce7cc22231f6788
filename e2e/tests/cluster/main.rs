//! Tests in a cluster of several real nodes, with Propylon installed by Helm. `cargo xtask test cluster` runs them inside
//! of the client's network of the lab (`lab exec cl -- ...`).
//!
//! They share the cluster and the release, and several of them break either: one runs at a time.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests: a failure here is a failed test, and figures are printed"
)]

mod bad_objects;
mod conformance;
mod faults;
mod install;
mod rolling;
mod streams;
mod uninstall;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use propylon_e2e::stage::Stage;

/// The cluster with the release installed, for one test at a time.
fn stage() -> MutexGuard<'static, Stage> {
    static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();
    let stage = STAGE.get_or_init(|| Mutex::new(Stage::around().expect("a cluster of the lab")));
    // A test that failed leaves nothing that the next one relies on: it looks at the release itself.
    let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    stage.install();
    stage
}
