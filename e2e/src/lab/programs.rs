//! The programs that are built from Go modules, and the folder of the user's cache in which they are kept.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest;
use rustix::fs::{FlockOperation, flock};

/// The names under which the binary of `e2e/go/kube` is called.
const NAMES: &[&str] = &[
    "etcd",
    "etcd-compact",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// Packages that are programs of their own: folder of the module, package, further flags of the linker.
const PACKAGES: &[(&str, &str)] = &[
    ("kube", "k8s.io/kubernetes/test/images/agnhost"),
    ("tools", "./coredns"),
    ("tools", "helm.sh/helm/v4/cmd/helm"),
];

/// The packages into which Kubernetes' own build writes its version.
const STAMPED: &[&str] = &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// A folder with every program: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy,
/// kubectl, agnhost, coredns, helm.
///
/// It lies in the user's cache (`$XDG_CACHE_HOME` or `~/.cache`) at `propylon/lab/KEY/bin`; the key covers the sources
/// and the sums of the modules, so that a change builds anew and an old clone keeps its own.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The programs that were built before.
    ///
    /// # Errors
    /// When they were not: `lab deps` builds them.
    pub fn find() -> Result<Self> {
        let folder = cache_folder()?.join(key()?).join("bin");
        ensure!(
            folder.is_dir(),
            "{} is missing: `cargo run --package propylon-e2e --bin lab -- deps` builds it",
            folder.display()
        );
        Ok(Self { folder })
    }

    /// Builds the programs unless they are there. Only one process builds at a time; others wait for it.
    ///
    /// # Cost
    /// Ten minutes on two cores with empty caches; a minute with Go's own cache warm; nothing the second time.
    ///
    /// # Errors
    /// When Go is missing, a module cannot be fetched, or the disk is full (all worth another try).
    pub fn build() -> Result<Self> {
        if let Ok(found) = Self::find() {
            return Ok(found);
        }
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
        let lock = File::create(cache.join("lock")).context("making the lock of the build")?;
        flock(&lock, FlockOperation::LockExclusive).context("waiting for another build")?;
        if let Ok(found) = Self::find() {
            return Ok(found);
        }
        let home = cache.join(key()?);
        let unfinished = home.join("unfinished");
        remove(&unfinished)?;
        fs::create_dir_all(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
        build_into(&unfinished)?;
        fs::rename(&unfinished, home.join("bin")).context("naming the folder of the finished programs")?;
        Self::find()
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder, for a `PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What `k8s.io/kubernetes vX` in the module file says.
pub(super) fn kubernetes_version() -> Result<String> {
    let file = source("kube").join("go.mod");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version = version.with_context(|| format!("{} requires no k8s.io/kubernetes", file.display()))?;
    Ok(version.to_owned())
}

fn build_into(folder: &Path) -> Result<()> {
    let version = kubernetes_version()?;
    let binary = folder.join("lab");
    go_build("kube", ".", &stamps(&version)?, &binary)?;
    for name in NAMES {
        std::os::unix::fs::symlink("lab", folder.join(name)).with_context(|| format!("linking {name}"))?;
    }
    for (module, package) in PACKAGES {
        let name = package.rsplit('/').next().unwrap_or(package);
        go_build(module, package, "-s -w", &folder.join(name))?;
    }
    Ok(())
}

/// The linker's flags that write a version into Kubernetes; without them it calls itself v0.0.0-master, and Helm and
/// the conformance tests judge by that.
fn stamps(version: &str) -> Result<String> {
    let mut parts = version.split('.');
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
        bail!("'{version}' is no version of Kubernetes")
    };
    let values = [
        format!("gitVersion=v{version}"),
        format!("gitMajor={major}"),
        format!("gitMinor={minor}"),
        "gitCommit=lab".to_owned(),
        "gitTreeState=clean".to_owned(),
        "buildDate=2026-01-01T00:00:00Z".to_owned(),
    ];
    let mut flags = "-s -w".to_owned();
    for package in STAMPED {
        for value in &values {
            write!(flags, " -X {package}.{value}").context("writing the flags of the linker")?;
        }
    }
    Ok(flags)
}

fn go_build(module: &str, package: &str, linker_flags: &str, output: &Path) -> Result<()> {
    let status = Command::new("go")
        .args([
            "build",
            "-p",
            "2",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            linker_flags,
            "-o",
        ])
        .arg(output)
        .arg(package)
        .current_dir(source(module))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .status()
        .context("running go; the package golang, 1.26.8 or later, has it")?;
    ensure!(
        status.success(),
        "go build {package} in e2e/go/{module} failed: {status}"
    );
    Ok(())
}

fn source(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("go").join(module)
}

/// Where everything of the lab lies that outlives a process.
pub(super) fn cache_folder() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute());
    let cache = cache.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(cache
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("propylon/lab"))
}

/// 16 hexadecimal digits over everything that the build depends on.
fn key() -> Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    for module in ["kube", "tools", "tools/coredns"] {
        let folder = source(module);
        let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            context.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            context.update(&content);
        }
    }
    let digest = context.finish();
    let bytes = digest.as_ref().iter().take(8);
    Ok(bytes.fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_module() {
        let version = kubernetes_version().unwrap();
        assert_eq!(version.split('.').count(), 3, "{version}");
        assert!(
            stamps(&version)
                .unwrap()
                .contains(&format!("version.gitVersion=v{version}"))
        );
    }

    #[test]
    fn the_key_is_stable() {
        let (first, second) = (key().unwrap(), key().unwrap());
        assert_eq!(first, second);
        assert_eq!(first.len(), 16);
    }
}
