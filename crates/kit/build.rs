//! Puts the compiler's version and the revision of the sources into `propylon_build_info`.

use std::process::Command;

#[expect(
    clippy::disallowed_methods,
    reason = "a build script takes its input from the environment"
)]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PROPYLON_REVISION");
    println!("cargo:rerun-if-env-changed=RUSTC");
    let revision = std::env::var("PROPYLON_REVISION").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=PROPYLON_REVISION={revision}");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().ok();
    let version = version
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    println!(
        "cargo:rustc-env=PROPYLON_RUSTC={}",
        version.split(' ').nth(1).unwrap_or("unknown").trim()
    );
}
