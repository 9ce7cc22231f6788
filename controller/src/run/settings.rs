//! The file of settings: read at the start, and again when it changes.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use propylon_kit::tasks::Tasks;
use tokio::sync::watch;

use crate::config::{Config, ConfigFile, Settings};

/// How often the file is looked at: a mounted config map comes by a change of a symbolic link, so that its content is what
/// tells.
const LOOK: Duration = Duration::from_secs(2);

/// Reads the settings, and follows the file. A file that turns bad is reported, and what it said before stays in force.
///
/// # Errors
/// When the file cannot be read or is wrong at the start. Not retryable.
pub(super) fn start(config: &Arc<Config>, tasks: &Tasks) -> Result<watch::Receiver<Arc<Settings>>> {
    let Some(path) = config.file.clone() else {
        let settings = merge(config, "").map_err(|error| anyhow!(error))?;
        let (sender, receiver) = watch::channel(Arc::new(settings));
        // Nothing changes it, and its end is not the end of the settings.
        let mut stop = tasks.stop_signal();
        tasks.spawn("settings", async move {
            stop.stopped().await;
            drop(sender);
        });
        return Ok(receiver);
    };
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let settings = merge(config, &text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let (sender, receiver) = watch::channel(Arc::new(settings));
    let (config, mut stop) = (Arc::clone(config), tasks.stop_signal());
    tasks.spawn("settings", async move {
        let mut last = text;
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Some(text) = read_changed(&path, &last) {
                adopt(&config, &path, &text, &sender);
                last = text;
            }
        }
    });
    Ok(receiver)
}

/// The text of the file where it is another one.
fn read_changed(path: &Path, last: &str) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => (text != last).then_some(text),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "the file of settings cannot be read");
            None
        }
    }
}

fn adopt(config: &Config, path: &Path, text: &str, sender: &watch::Sender<Arc<Settings>>) {
    match merge(config, text) {
        Ok(settings) => {
            let is_other = sender.send_if_modified(|before| {
                let is_other = **before != settings;
                *before = Arc::new(settings);
                is_other
            });
            if is_other {
                tracing::info!(path = %path.display(), "the settings have changed");
            }
        }
        Err(error) => {
            tracing::error!(path = %path.display(), error, "the file of settings is wrong; what it said before stays in force");
        }
    }
}

fn merge(config: &Config, text: &str) -> Result<Settings, String> {
    let file = ConfigFile::parse(text)?;
    Settings::new(config.flags.clone().or(file)).map_err(|error| error.to_string())
}
