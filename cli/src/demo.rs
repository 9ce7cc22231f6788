//! `propylon demo`: the proxy, two echo backends and a few manifests in one process.

mod manifests;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};

use clap::Args;
use propylon_proxy::{Addresses, config::DataPlaneArgs};
use propylon_testkit::echo::{EchoOptions, EchoServer};
use propylon_translate::ServiceMap;

use crate::{
    failure::Failure,
    folder::Folder,
    run::{self, CompileArgs},
};

/// Flags of `propylon demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// Flags of the data plane
    #[command(flatten)]
    data_plane: DataPlaneArgs,
}

/// Runs the demo until a signal ends it.
pub(crate) fn demo(args: DemoArgs) -> Result<ExitCode, Failure> {
    let failed = |attempt| move |source| Failure::Demo { attempt, source };
    let config = args
        .data_plane
        .into_config(propylon_proxy::process::raise_file_limit())?;
    let folder = tempfile::Builder::new()
        .prefix("propylon-demo-")
        .tempdir()
        .map_err(failed("make a folder"))?;
    for (name, text) in manifests::FILES {
        fs::write(folder.path().join(name), text).map_err(failed("write its manifests"))?;
    }
    let web = EchoServer::start(EchoOptions::named("web")).map_err(failed("start an echo backend"))?;
    let shop = EchoServer::start(EchoOptions::named("shop")).map_err(failed("start an echo backend"))?;
    let map = [("web", web.address), ("shop", shop.address)].map(|(service, address)| ServiceMap {
        namespace: "demo".into(),
        service: service.into(),
        port: None,
        address,
    });
    let compile = CompileArgs {
        map: map.to_vec(),
        ..CompileArgs::default()
    };
    let path = folder.path().to_path_buf();
    let announce = |addresses: &Addresses| print(&guide(addresses, &path));
    // The folder is removed, and the backends stop, when this returns.
    run::serve(Folder::open(folder.path())?, compile, config, folder.path(), announce)
}

/// What to try, as lines that can be pasted.
fn guide(addresses: &Addresses, folder: &Path) -> String {
    let mut lines = vec![
        String::new(),
        "Propylon is serving. In another terminal, try:".to_owned(),
    ];
    if let Some(address) = addresses.http.first() {
        let base = format!("http://HOST:{}", address.port());
        lines.extend([
            "  # two hosts, one of them split by path".to_owned(),
            curl("", "demo.localhost", &base, "/", *address),
            curl("", "shop.demo.localhost", &base, "/", *address),
            curl("", "shop.demo.localhost", &base, "/cart/items", *address),
            "  # no rule: 404".to_owned(),
            curl("-i ", "demo.localhost", &base, "/", *address).replace("demo.localhost", "other.localhost"),
            "  # a WebSocket that echoes (say: hello)".to_owned(),
            format!("  websocat -H 'Host: demo.localhost' ws://{}/chat", reachable(*address)),
        ]);
    }
    if let Some(address) = addresses.https.first() {
        let base = format!("https://HOST:{}", address.port());
        lines.extend([
            "  # HTTPS and HTTP/2; the Secret is missing, so the certificate is self-signed (-k)".to_owned(),
            curl("-k ", "demo.localhost", &base, "/", *address),
        ]);
    }
    if let Some(admin) = addresses.admin {
        lines.push("  # what is live, and the metrics".to_owned());
        lines.push(format!("  curl http://{admin}/routes"));
        lines.push(format!("  curl http://{admin}/metrics"));
    }
    lines.extend([
        "Then edit a manifest and ask again; it is live within a second:".to_owned(),
        format!("  {}", folder.join(manifests::EDIT).display()),
        "Ctrl-C ends the demo and removes the folder. The lines below are the access log.".to_owned(),
        String::new(),
    ]);
    lines.join("\n")
}

fn curl(options: &str, host: &str, base: &str, path: &str, address: SocketAddr) -> String {
    let address = reachable(address);
    let (port, ip) = (address.port(), address.ip());
    let ip = if ip.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    format!(
        "  curl {options}--resolve {host}:{port}:{ip} {}{path}",
        base.replace("HOST", host)
    )
}

/// An address that a client on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        address => address,
    }
}

fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // A closed standard output is no reason to stop serving.
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

#[cfg(test)]
mod tests {
    use propylon_translate::{Memory, World, admit::admit, compile, manifest::parse};

    use super::*;

    #[test]
    fn the_manifests_compile_and_say_no_more_than_that_the_secret_is_missing() {
        let mut world = World::default();
        for (name, text) in manifests::FILES {
            for object in parse(text) {
                world.insert(admit(object.expect(name)).expect(name));
            }
        }
        let address = ([127, 0, 0, 1], 1).into();
        let map = |service: &str| ServiceMap {
            namespace: "demo".into(),
            service: service.into(),
            port: None,
            address,
        };
        let options = propylon_translate::Options {
            maps: vec![map("web"), map("shop")],
            ..Default::default()
        };
        let compiled = compile(&world, &options, &mut Memory::default());
        let reports: Vec<String> = compiled.reports.iter().map(ToString::to_string).collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("TLSSecretNotFound"), "{reports:?}");
        assert_eq!(compiled.resources.groups.len(), 2);
    }

    #[test]
    fn the_lines_name_what_is_served_and_can_be_pasted() {
        let addresses = Addresses {
            http: vec![([0, 0, 0, 0], 8080).into()],
            https: vec!["[::1]:8443".parse().unwrap()],
            ..Addresses::default()
        };
        let guide = guide(&addresses, Path::new("/demo"));
        assert!(guide.contains(
            "  curl --resolve shop.demo.localhost:8080:127.0.0.1 http://shop.demo.localhost:8080/cart/items\n"
        ));
        assert!(guide.contains("  curl -k --resolve demo.localhost:8443:[::1] https://demo.localhost:8443/\n"));
        assert!(guide.contains("--resolve other.localhost:8080:127.0.0.1 http://other.localhost:8080/\n"));
    }
}
