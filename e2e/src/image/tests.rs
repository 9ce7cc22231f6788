use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use serde_json::Value;

use super::*;

/// What one path of a layer is.
#[derive(Debug)]
struct Found {
    kind: tar::EntryType,
    mode: u32,
    link: Option<String>,
    bytes: Vec<u8>,
    capability: Option<Vec<u8>>,
}

fn read_archive(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    });
    entries.collect()
}

fn read_layer(bytes: &[u8]) -> Vec<(String, Found)> {
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
        let extensions = entry.pax_extensions().unwrap();
        let capability = extensions.and_then(|mut list| {
            list.find_map(|record| {
                let record = record.ok()?;
                (record.key().ok()? == layer::CAPABILITY_RECORD).then(|| record.value_bytes().to_vec())
            })
        });
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let found = Found {
            kind: entry.header().entry_type(),
            mode: entry.header().mode().unwrap(),
            link: entry.link_name().unwrap().map(|link| link.display().to_string()),
            bytes,
            capability,
        };
        (entry.path().unwrap().display().to_string(), found)
    });
    entries.collect()
}

/// The configuration and the one layer of an archive, its hashes checked.
fn read_image(path: &Path) -> (Value, Value, Vec<(String, Found)>) {
    let files = read_archive(path);
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let manifest = manifest[0].clone();
    let config_name = manifest["Config"].as_str().unwrap();
    let config = &files[config_name];
    assert_eq!(config_name, format!("{}.json", digest::of_bytes(config)));
    let config: Value = serde_json::from_slice(config).unwrap();
    let layer = &files[manifest["Layers"][0].as_str().unwrap()];
    let digest = format!("sha256:{}", digest::of_bytes(layer));
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([digest]));
    (manifest, config, read_layer(layer))
}

fn sample(source: &Path) -> Image {
    Image::new(&["localhost/a:1", "localhost/b:2"])
        .entrypoint(&["/bin/web"])
        .command(&["--port", "80"])
        .environment("COLOUR", "blue")
        .user("65532:65532")
        .label("build", "one")
        .folder("/tmp", 0o1777)
        .text("/etc/motd", 0o640, "hello\n")
        .link("/bin/again", "/bin/web")
        .file("/bin/web", 0o755, source)
        .capable_of(Capability::NetBindService)
}

#[test]
fn what_was_put_in_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("web");
    fs::write(&source, vec![7; 70_000]).unwrap();
    let out = folder.path().join("image.tar");
    sample(&source).write(&out).unwrap();
    let (manifest, config, layer) = read_image(&out);
    assert_eq!(
        manifest["RepoTags"],
        serde_json::json!(["localhost/a:1", "localhost/b:2"])
    );
    let config = &config["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/web"]));
    assert_eq!(config["Cmd"], serde_json::json!(["--port", "80"]));
    assert_eq!(config["Env"], serde_json::json!(["COLOUR=blue"]));
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Labels"]["build"], "one");
    let paths: Vec<&str> = layer.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["bin/", "bin/again", "bin/web", "etc/", "etc/motd", "tmp/"]);
    let of = |path: &str| &layer.iter().find(|(name, _)| name == path).unwrap().1;
    assert_eq!((of("tmp/").kind, of("tmp/").mode), (tar::EntryType::Directory, 0o1777));
    assert_eq!(
        (of("etc/motd").mode, of("etc/motd").bytes.as_slice()),
        (0o640, b"hello\n".as_slice())
    );
    assert_eq!(of("bin/again").link.as_deref(), Some("/bin/web"));
    assert_eq!((of("bin/web").mode, of("bin/web").bytes.len()), (0o755, 70_000));
}

#[test]
fn a_capability_is_a_record_of_revision_2_and_of_that_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("web");
    fs::write(&source, "program").unwrap();
    let out = folder.path().join("image.tar");
    sample(&source).write(&out).unwrap();
    let capable: Vec<(String, Vec<u8>)> = read_image(&out)
        .2
        .into_iter()
        .filter_map(|(path, found)| Some((path, found.capability?)))
        .collect();
    // As `setcap cap_net_bind_service=+ep` writes it: `getfattr -d -m - -e hex` shows 0x01000002 0x00040000, and zeros.
    let expected = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(capable, [("bin/web".to_owned(), expected)]);
}

#[test]
fn the_same_content_makes_the_same_bytes_and_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("web");
    fs::write(&source, "one").unwrap();
    let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
    sample(&source).write(&first).unwrap();
    sample(&source).write(&second).unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());

    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let stored = sample(&source).store(folder.path(), "web-image").unwrap();
    // Held open: a file that is replaced then has another number for sure.
    let (held, before) = (fs::File::open(&stored).unwrap(), inode(&stored));
    sample(&source).store(folder.path(), "web-image").unwrap();
    assert_eq!(inode(&stored), before, "nothing has changed");
    fs::write(&source, "two").unwrap();
    sample(&source).store(folder.path(), "web-image").unwrap();
    assert_ne!(inode(&stored), before, "a source has changed");
    let before = inode(&stored);
    sample(&source)
        .label("build", "other")
        .store(folder.path(), "web-image")
        .unwrap();
    assert_ne!(inode(&stored), before, "a label has changed");
    drop(held);
}

#[test]
fn a_missing_source_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let image = sample(&folder.path().join("absent"));
    let error = format!("{:#}", image.store(folder.path(), "web-image").unwrap_err());
    assert!(error.contains("absent") && error.contains("/bin/web"), "{error}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn long_paths_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("/usr/share/{}/{}", "a".repeat(90), "b".repeat(120));
    let out = folder.path().join("image.tar");
    Image::new(&["x:1"]).text(&path, 0o644, "x").write(&out).unwrap();
    let layer = read_image(&out).2;
    assert!(layer.iter().any(|(name, _)| format!("/{name}") == path));
}

#[test]
fn a_program_brings_its_libraries() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let image = Image::new(&["x:1"]).program("/test", &program).unwrap();
    let out = image.store(folder.path(), "x").unwrap();
    let layer = read_image(&out).2;
    assert!(
        layer.iter().any(|(name, _)| name.ends_with("/libc.so.6")),
        "{:?}",
        image.paths()
    );
}

#[test]
fn propylon_is_three_programs_of_which_one_may_bind_low_ports() {
    let folder = tempfile::tempdir().unwrap();
    let error = catalog::propylon(folder.path(), &["p:1"], "a").unwrap_err();
    assert!(error.to_string().contains("propylon is not built"), "{error}");
    for (path, _) in catalog::PROPYLON_PROGRAMS {
        fs::copy(
            std::env::current_exe().unwrap(),
            folder.path().join(path.trim_start_matches('/')),
        )
        .unwrap();
    }
    let image = catalog::propylon(folder.path(), &["p:1"], "a").unwrap();
    let (_, config, layer) = read_image(&image.store(folder.path(), "p").unwrap());
    assert_eq!(config["config"]["User"], "65532:65532");
    let capable: Vec<&str> = layer
        .iter()
        .filter(|(_, found)| found.capability.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(capable, ["propylon-proxy"]);
}

/// The instructions of the last stage of the `Dockerfile`, with their arguments.
fn last_stage() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    let text = fs::read_to_string(path).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let instructions = lines.filter_map(|line| line.trim().split_once(' '));
    let all: Vec<(String, String)> = instructions
        .map(|(name, arguments)| {
            (
                name.to_owned(),
                arguments.split_whitespace().collect::<Vec<_>>().join(" "),
            )
        })
        .collect();
    let last = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
    all[last..].to_vec()
}

#[test]
fn the_dockerfile_copies_what_the_lab_imports() {
    let stage = last_stage();
    let of = |wanted: &str| -> Vec<&str> {
        let found = stage.iter().filter(|(name, _)| name == wanted);
        found.map(|(_, arguments)| arguments.as_str()).collect()
    };
    let copied: Vec<String> = catalog::PROPYLON_PROGRAMS
        .iter()
        .map(|(path, _)| format!("--from=build /out{path} {path}"))
        .collect();
    assert_eq!(of("COPY"), copied);
    assert_eq!(of("USER"), [format!("{0}:{0}", catalog::PROPYLON_USER)]);
    assert_eq!(of("ENTRYPOINT"), [r#"["/propylon"]"#]);
    assert!(of("RUN").is_empty(), "distroless has no shell");
    assert!(of("FROM")[0].starts_with("gcr.io/distroless/"), "{stage:?}");
}

#[test]
fn the_dockerfile_gives_the_same_capabilities() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    let text = fs::read_to_string(path).unwrap();
    let given: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("RUN setcap "))
        .collect();
    let capable = catalog::PROPYLON_PROGRAMS.iter().filter_map(|(path, capability)| {
        capability.map(|Capability::NetBindService| format!("cap_net_bind_service=+ep /out{path}"))
    });
    assert_eq!(given, capable.collect::<Vec<_>>());
}
