//! Propylon: `propylon run` over a generated folder, one worker, metrics on (they cannot be switched off).

use std::path::Path;

use anyhow::Result;

use super::Site;
use crate::manifests;
use crate::procs::Launch;

/// Name of the folder of manifests under the proxy's own.
pub(crate) const MANIFESTS: &str = "manifests";

pub(super) fn launch(site: &Site<'_>, program: &Path) -> Result<Launch> {
    let dir = site.lab.folder(&format!("propylon/{MANIFESTS}"))?;
    manifests::write(site.lab, &dir)?;
    manifests::write_stream(site.lab, &dir, site.stream.port())?;
    let log = if site.lab.access_log {
        site.file("access.log").into_os_string()
    } else {
        "off".into()
    };
    let args = vec![
        "run".into(),
        "--manifests".into(),
        dir.into(),
        "--workers".into(),
        "1".into(),
        "--access-log".into(),
        log,
        "--http".into(),
        site.http.to_string().into(),
        "--https".into(),
        site.https.to_string().into(),
        "--admin".into(),
        site.admin.to_string().into(),
        "--drain-accept-grace".into(),
        "0s".into(),
    ];
    Ok(site.launch("propylon", program, args))
}
