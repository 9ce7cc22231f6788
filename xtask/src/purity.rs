//! `cargo xtask purity`: which way the dependencies point, what pure crates and the proxy link, where `unsafe` stands.
//!
//! Dependencies are those of `cargo metadata` with every feature on, normal and build ones; what only tests use does not
//! count.

mod graph;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    repository::{self, SourceFile},
    source::{code_of, words},
};
use graph::Graph;

/// One crate of the workspace: what it may use of the workspace, and whether it is pure.
struct Layer {
    package: &'static str,
    folder: &'static str,
    uses: &'static [&'static str],
    purity: Purity,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purity {
    /// Sees no runtime, socket, clock, environment or random source.
    Pure,
    /// Holds I/O.
    Shell,
}

const MODEL: &str = "propylon-model";
const ROUTING: &str = "propylon-routing";
const TRANSLATE: &str = "propylon-translate";
const KIT: &str = "propylon-kit";
const TESTKIT: &str = "propylon-testkit";
const WIRE: &str = "propylon-wire";
const CRDS: &str = "propylon-crds";
const CONTROLLER: &str = "propylon-controller";
const PROXY: &str = "propylon-proxy";
const CLI: &str = "propylon-cli";

/// The layers, lowest first. A crate that is not here needs an ADR and a line.
const LAYERS: &[Layer] = &[
    layer(MODEL, "crates/model", &[], Purity::Pure),
    layer(ROUTING, "crates/routing", &[MODEL], Purity::Pure),
    layer(TRANSLATE, "crates/translate", &[MODEL, ROUTING], Purity::Pure),
    layer(KIT, "crates/kit", &[MODEL], Purity::Shell),
    layer(TESTKIT, "crates/testkit", &[MODEL], Purity::Shell),
    layer(WIRE, "crates/wire", &[KIT, MODEL], Purity::Shell),
    layer(CRDS, "crds", &[MODEL], Purity::Shell),
    layer(
        CONTROLLER,
        "controller",
        &[CRDS, KIT, MODEL, ROUTING, TRANSLATE, WIRE],
        Purity::Shell,
    ),
    layer(PROXY, "proxy", &[KIT, MODEL, ROUTING, WIRE], Purity::Shell),
    layer(
        CLI,
        "cli",
        &[CONTROLLER, CRDS, KIT, MODEL, PROXY, ROUTING, TESTKIT, TRANSLATE, WIRE],
        Purity::Shell,
    ),
    layer("propylon-e2e", "e2e", TOP, Purity::Shell),
    layer("propylon-bench", "bench", BENCH, Purity::Shell),
    layer("propylon-xtask", "xtask", TOP, Purity::Shell),
];

/// What the crates that ship nothing may use.
const TOP: &[&str] = &[
    CLI, CONTROLLER, CRDS, KIT, MODEL, PROXY, ROUTING, TESTKIT, TRANSLATE, WIRE,
];

/// As [`TOP`], and the real API server of the tests.
const BENCH: &[&str] = &["propylon-e2e", MODEL, PROXY];

/// Crates that no pure crate links, at any depth: runtimes, sockets, cluster clients, random sources.
const IMPURE: &[&str] = &[
    "async-std",
    "fastrand",
    "futures-executor",
    "getrandom",
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "notify",
    "rand",
    "rand_chacha",
    "rand_core",
    "reqwest",
    "rustix",
    "signal-hook",
    "smol",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tower",
];

/// Words that no pure crate's code says outside its tests.
const IMPURE_WORDS: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "async",
    "await",
    "thread_rng",
];

/// Paths that no pure crate's code says outside its tests.
const IMPURE_PATHS: &[&str] = &["std::env", "std::fs", "std::os", "std::process", "std::thread"];

/// Where `unsafe` may stand: one documented module per binary that calls the system.
const UNSAFE_PLACES: &[&str] = &[
    "proxy/src/sys.rs",
    "proxy/src/sys/",
    "agent/src/sys.rs",
    "agent/src/sys/",
];

/// Checks all of it.
///
/// # Errors
///
/// Where cargo or git cannot be run.
pub(crate) fn check() -> Result<ExitCode> {
    let graph = Graph::of_workspace()?;
    let files = repository::rust_files()?;
    let mut faults = layer_faults(&graph);
    faults.extend(link_faults(&graph));
    faults.extend(files.iter().flat_map(unsafe_faults));
    faults.extend(files.iter().flat_map(word_faults));
    let checked = format!(
        "purity: {} crates of the workspace, {} linked crates, {} files",
        graph.members().count(),
        graph.len(),
        files.len()
    );
    Ok(repository::verdict(&faults, &checked))
}

const fn layer(package: &'static str, folder: &'static str, uses: &'static [&'static str], purity: Purity) -> Layer {
    Layer {
        package,
        folder,
        uses,
        purity,
    }
}

/// Dependencies between crates of the workspace that point the wrong way.
fn layer_faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for member in graph.members() {
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == member) else {
            faults.push(format!(
                "{member}: not in the layers of xtask/src/purity.rs (a new crate needs an ADR)"
            ));
            continue;
        };
        for used in graph.direct(member) {
            if graph.is_member(used) && !layer.uses.contains(&used) {
                faults.push(format!(
                    "{member}: must not depend on {used}; it may use {}",
                    layer.uses.join(", ")
                ));
            }
        }
    }
    faults
}

/// What pure crates and the proxy link and must not.
fn link_faults(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for layer in LAYERS.iter().filter(|layer| layer.purity == Purity::Pure) {
        for name in IMPURE {
            faults.extend(chain_fault(graph, layer.package, |linked| linked == *name));
        }
        faults.extend(chain_fault(graph, layer.package, is_kube_client));
    }
    faults.extend(chain_fault(graph, PROXY, |linked| {
        is_kube_client(linked) || linked == "k8s-openapi"
    }));
    faults
}

fn is_kube_client(name: &str) -> bool {
    name == "kube" || name.starts_with("kube-")
}

fn chain_fault(graph: &Graph, package: &str, is_banned: impl Fn(&str) -> bool) -> Option<String> {
    let chain = graph.chain(package, is_banned)?;
    Some(format!(
        "{package}: must not link {}: {}",
        chain.last()?,
        chain.join(" -> ")
    ))
}

/// `unsafe` outside its places.
fn unsafe_faults(file: &SourceFile) -> Vec<String> {
    if UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let is_unsafe = |line: &str| words(line).any(|word| word == "unsafe");
    lines_where(file, is_unsafe, "`unsafe` outside proxy/src/sys")
}

/// What the code of a pure crate must not say.
fn word_faults(file: &SourceFile) -> Vec<String> {
    let in_source = |layer: &Layer| file.path.starts_with(&format!("{}/src/", layer.folder));
    let is_pure = LAYERS
        .iter()
        .any(|layer| layer.purity == Purity::Pure && in_source(layer));
    if !is_pure || file.path.ends_with("tests.rs") || file.path.contains("/tests/") {
        return Vec::new();
    }
    let is_impure = |line: &str| {
        words(line).any(|word| IMPURE_WORDS.contains(&word)) || IMPURE_PATHS.iter().any(|path| line.contains(path))
    };
    lines_where(
        file,
        is_impure,
        "no runtime, clock, socket, file or environment in a pure crate",
    )
}

/// A fault for each line of code that the test holds for, up to the file's tests.
fn lines_where(file: &SourceFile, is_fault: impl Fn(&str) -> bool, why: &str) -> Vec<String> {
    let code = code_of(&file.text);
    let lines = code.lines().zip(1..).filter(|(line, _)| is_fault(line));
    lines
        .map(|(line, number)| format!("{}:{number}: {why}: {}", file.path, line.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn unsafe_has_its_place() {
        let text = "// unsafe\nfn f() { unsafe { g() } }\n";
        let faults = unsafe_faults(&file("proxy/src/edge.rs", text));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("proxy/src/edge.rs:2: "), "{}", faults[0]);
        assert!(unsafe_faults(&file("proxy/src/sys.rs", text)).is_empty());
        assert!(unsafe_faults(&file("proxy/src/edge.rs", "#![deny(unsafe_code)]")).is_empty());
    }

    #[test]
    fn a_pure_crate_reads_no_clock_and_no_file() {
        for text in [
            "let now = Instant::now();",
            "use std::fs;",
            "async fn f() {}",
            "std::env::var(\"A\")",
        ] {
            assert_eq!(
                word_faults(&file("crates/routing/src/table.rs", text)).len(),
                1,
                "{text}"
            );
            assert!(word_faults(&file("proxy/src/table.rs", text)).is_empty(), "{text}");
            assert!(
                word_faults(&file("crates/routing/src/table/tests.rs", text)).is_empty(),
                "{text}"
            );
        }
        assert!(
            word_faults(&file(
                "crates/routing/src/table.rs",
                "// std::fs\nlet std = \"Instant\";"
            ))
            .is_empty()
        );
    }

    #[test]
    fn the_wrong_direction_is_a_fault() {
        let graph = Graph::from_edges(&[
            (MODEL, &[ROUTING, "thiserror"]),
            (ROUTING, &["thiserror"]),
            (PROXY, &["middle"]),
            ("middle", &["k8s-openapi"]),
        ]);
        assert_eq!(layer_faults(&graph).len(), 1);
        assert_eq!(
            link_faults(&graph),
            ["propylon-proxy: must not link k8s-openapi: propylon-proxy -> middle -> k8s-openapi"]
        );
        let graph = Graph::from_edges(&[(ROUTING, &["a"]), ("a", &["tokio"]), ("propylon-new", &[])]);
        assert_eq!(link_faults(&graph).len(), 1);
        assert!(layer_faults(&graph)[0].contains("propylon-new"));
    }
}
