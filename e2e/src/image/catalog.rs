//! The images of the lab, each from the programs that it needs.
//!
//! The recipe of agnhost follows what Kubernetes' own network tests call inside of it; each of them was once missed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use rcgen::{CertificateParams, KeyPair};

use super::{Capability, Image};

/// What the sandbox of every pod runs; containerd's `sandbox_image` names it.
pub const PAUSE: &str = "localhost/lab/pause:1";
/// The echo server of [`crate::echo`].
pub const ECHO: &str = "localhost/lab/echo:1";
/// `CoreDNS`, the cluster's own.
pub const COREDNS: &str = "localhost/lab/coredns:1";
/// The test image of Kubernetes, in the version of its end-to-end tests.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";

/// The user of all of Propylon's containers, as in distroless images.
pub const PROPYLON_USER: u32 = 65532;

/// Propylon's programs: where they stand in the image, and what the file is capable of. The `Dockerfile` copies the
/// same, which a test compares.
pub const PROPYLON_PROGRAMS: [(&str, Option<Capability>); 3] = [
    ("/propylon", None),
    ("/propylon-controller", None),
    // It binds ports 80 and 443 on the network of the host without being root.
    ("/propylon-proxy", Some(Capability::NetBindService)),
];

/// Where the machine keeps the certificates of the public authorities.
const PUBLIC_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The pause image: the echo program in its mode `pause`.
///
/// # Errors
/// When the program is missing. Not retryable, like those below.
pub fn pause(echo: &Path) -> Result<Image> {
    let image = Image::new(&[PAUSE, "registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10"]);
    image.entrypoint(&["/echo", "pause"]).program("/echo", echo)
}

/// The echo server, not as root.
///
/// # Errors
/// When the program is missing.
pub fn echo(echo: &Path) -> Result<Image> {
    let image = accounts(Image::new(&[ECHO]).entrypoint(&["/echo"]).command(&["serve"]));
    image.user("65532:65532").program("/echo", echo)
}

/// `CoreDNS`, also under the name that Kubernetes' own tests know.
///
/// # Errors
/// When the program is missing.
pub fn coredns(coredns: &Path) -> Result<Image> {
    let image = Image::new(&[COREDNS, "registry.k8s.io/coredns/coredns:v1.12.2"]);
    accounts(image.entrypoint(&["/coredns"])).program("/coredns", coredns)
}

/// Propylon's image under these names, from the programs in `folder`; those of the build that ran the test are in its
/// target folder. The root file system needs no write. A label tells apart two builds of the same programs.
///
/// # Errors
/// When a program is missing.
pub fn propylon(folder: &Path, tags: &[&str], label: &str) -> Result<Image> {
    let user = format!("{PROPYLON_USER}:{PROPYLON_USER}");
    let mut image = accounts(Image::new(tags).user(&user)).label("dev.propylon.build", label);
    for (path, capability) in PROPYLON_PROGRAMS {
        let source = folder.join(path.trim_start_matches('/'));
        ensure!(
            source.is_file(),
            "{} is not built: `cargo build --workspace` does",
            source.display()
        );
        image = image.program(path, &source)?;
        if let Some(capability) = capability {
            image = image.capable_of(capability);
        }
    }
    if Path::new(PUBLIC_AUTHORITIES).is_file() {
        image = image.file(PUBLIC_AUTHORITIES, 0o644, Path::new(PUBLIC_AUTHORITIES));
    }
    Ok(image.entrypoint(&["/propylon"]))
}

/// Programs that agnhost's callers want, as they stand in the image and where Debian may keep them. busybox's own `nc`
/// must not win, and its `wget` crashes when it resolves a name.
const AGNHOST_PROGRAMS: [(&str, &[&str]); 10] = [
    ("/bin/sh", &["/usr/bin/dash", "/bin/dash"]),
    ("/bin/busybox", &["/usr/bin/busybox", "/bin/busybox"]),
    ("/usr/bin/curl", &["/usr/bin/curl"]),
    ("/usr/bin/nc", &["/usr/bin/nc.openbsd", "/bin/nc.openbsd"]),
    ("/usr/sbin/ip", &["/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip"]),
    ("/usr/bin/ss", &["/usr/bin/ss", "/bin/ss"]),
    ("/usr/bin/dig", &["/usr/bin/dig"]),
    ("/usr/bin/wget", &["/usr/bin/wget"]),
    ("/usr/bin/getent", &["/usr/bin/getent"]),
    ("/usr/sbin/conntrack", &["/usr/sbin/conntrack"]),
];

/// Of [`AGNHOST_PROGRAMS`], what tests can do without.
const DISPENSABLE: [&str; 1] = ["/usr/sbin/conntrack"];

/// Debian's packages that hold [`AGNHOST_PROGRAMS`].
pub const AGNHOST_PACKAGES: [&str; 9] = [
    "dash",
    "busybox",
    "curl",
    "netcat-openbsd",
    "iproute2",
    "bind9-dnsutils",
    "wget",
    "libc-bin",
    "binutils",
];

/// agnhost, under the names that Kubernetes 1.36's tests ask for; also in place of glibc-dns-testing. `folder` keeps the
/// certificate for `localhost` that its TLS servers read from the image's root.
///
/// # Errors
/// When agnhost or one of the machine's programs is missing: the message names [`AGNHOST_PACKAGES`].
pub fn agnhost(agnhost: &Path, folder: &Path) -> Result<Image> {
    let (certificate, key) = localhost_certificate(folder)?;
    let mut image = Image::new(&[
        AGNHOST,
        "registry.k8s.io/e2e-test-images/agnhost:2.55",
        "registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0",
    ]);
    image = accounts(image.entrypoint(&["/agnhost"]).command(&["pause"]))
        .environment("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/")
        .folder("/uploads", 0o1777)
        .folder("/var", 0o755)
        .folder("/run", 0o755)
        .file("/localhost.crt", 0o644, &certificate)
        .file("/localhost.key", 0o644, &key)
        .link("/agnhost-2", "/agnhost")
        .program("/agnhost", agnhost)?;
    for (path, sources) in AGNHOST_PROGRAMS {
        match sources.iter().map(Path::new).find(|source| source.is_file()) {
            Some(source) => image = image.program(path, source)?,
            None if DISPENSABLE.contains(&path) => {}
            None => bail!("{path} of agnhost is missing: install {}", AGNHOST_PACKAGES.join(" ")),
        }
    }
    for applet in busybox_applets()? {
        let taken = image
            .paths()
            .iter()
            .any(|path| path.rsplit('/').next() == Some(applet.as_str()));
        if !taken {
            image = image.link(&format!("/bin/{applet}"), "/bin/busybox");
        }
    }
    Ok(image)
}

fn busybox_applets() -> Result<Vec<String>> {
    let output = Command::new("busybox")
        .arg("--list")
        .output()
        .context("running busybox")?;
    ensure!(output.status.success(), "busybox --list failed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().map(ToOwned::to_owned).collect())
}

/// A certificate for `localhost` and its key, made once.
fn localhost_certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let paths = (folder.join("localhost.crt"), folder.join("localhost.key"));
    if paths.0.is_file() && paths.1.is_file() {
        return Ok(paths);
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 12, 31);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    fs::write(&paths.1, key.serialize_pem()).context("writing the key")?;
    fs::write(&paths.0, certificate.pem()).context("writing the certificate")?;
    Ok(paths)
}

/// The accounts, the name service switch and `/tmp`.
fn accounts(image: Image) -> Image {
    image
        .folder("/tmp", 0o1777)
        .text(
            "/etc/passwd",
            0o644,
            "root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/false\n",
        )
        .text("/etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n")
        .text("/etc/nsswitch.conf", 0o644, "hosts: files dns\n")
}

/// A copy of a program without its debug information, in `folder`: a node holds an image twice, and three nodes six
/// times. Made anew where the program is younger. The program itself where `strip` is missing or does not know it.
///
/// # Errors
/// When the program is missing, or the folder cannot be written.
pub fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let built = changed(program).with_context(|| format!("{} is not built", program.display()))?;
    let name = program.file_name().context("a program has a name")?;
    let out = folder.join(name);
    if changed(&out).is_ok_and(|made| made > built) {
        return Ok(out);
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let result = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&out)
        .arg(program)
        .output();
    if result.is_ok_and(|result| result.status.success()) {
        return Ok(out);
    }
    Ok(program.to_owned())
}
