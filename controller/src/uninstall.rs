//! `propylon-controller uninstall`: stops the controller, and takes back what it wrote into other objects.

use anyhow::{Result, bail};
use clap::Args;

/// Flags of `propylon-controller uninstall`.
#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    /// Namespace that Propylon is installed in
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "propylon")]
    pub namespace: String,
    /// The controller's Deployment
    #[arg(
        long,
        value_name = "NAME",
        env = "PROPYLON_DEPLOYMENT",
        default_value = "propylon-controller"
    )]
    pub deployment: String,
}

/// Runs the command.
///
/// # Errors
/// When a request fails; retryable.
pub fn main(args: UninstallArgs) -> Result<()> {
    let _ = args;
    bail!("not written yet")
}
