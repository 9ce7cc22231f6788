//! The archive around the layer: the format of `docker save` before it was that of OCI (image specification v1.2).

use std::{
    fs::File,
    io::{BufReader, BufWriter, Seek, Write},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{Config, Image, digest, layer};

/// Writes the layer, the configuration and the list of both.
pub(super) fn write(image: &Image, out: &Path) -> Result<()> {
    let (mut layer, length, digest) = write_layer(image, out)?;
    let config = serde_json::to_vec(&configuration(&image.config, &digest))?;
    let config_name = format!("{}.json", digest::of_bytes(&config));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = json!([{"Config": config_name, "RepoTags": image.tags, "Layers": [layer_name]}]);
    let manifest = serde_json::to_vec(&manifest)?;
    let file = File::create(out).context("creating the archive")?;
    let mut tar = tar::Builder::new(BufWriter::new(file));
    for (name, bytes) in [(config_name.as_str(), &config), ("manifest.json", &manifest)] {
        layer::add(
            &mut tar,
            &mut layer::header(0o644),
            name,
            (bytes.len() as u64, bytes.as_slice()),
        )?;
    }
    layer.rewind()?;
    let content = (length, BufReader::with_capacity(256 * 1024, layer));
    layer::add(&mut tar, &mut layer::header(0o644), &layer_name, content)?;
    tar.into_inner()?.flush()?;
    Ok(())
}

/// The layer in a file without a name beside the archive, its length in bytes and its hash.
fn write_layer(image: &Image, out: &Path) -> Result<(File, u64, String)> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file =
        tempfile::tempfile_in(folder.unwrap_or_else(|| Path::new("."))).context("making a file for the layer")?;
    let mut hashing = digest::Hashing::new(BufWriter::with_capacity(256 * 1024, file));
    layer::write(&image.entries, &mut hashing).context("writing the layer")?;
    let (writer, digest) = hashing.finish();
    let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let length = file.metadata()?.len();
    Ok((file, length, digest))
}

fn configuration(config: &Config, layer: &str) -> Value {
    let labels: Map<String, Value> = config
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "Env": config.environment,
            "User": config.user,
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "propylon-e2e"}],
    })
}

/// Go's name of the processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
