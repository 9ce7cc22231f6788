use std::{fs, os::unix::fs::symlink};

use propylon_testkit::{
    manifest::{ingress, service},
    wait::PATIENCE,
};
use propylon_translate::Key;
use tempfile::TempDir;

use super::*;

/// What users are promised.
const LIVE: Duration = Duration::from_secs(1);

struct Fixture {
    directory: TempDir,
    watch: Watch,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let watch = Watch::start(Folder::open(directory.path()).unwrap());
        Self { directory, watch }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn services(&self) -> Vec<String> {
        self.watch
            .folder()
            .world()
            .services
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    fn reports(&self) -> Vec<String> {
        self.watch.folder().reports().iter().map(ToString::to_string).collect()
    }

    fn port(&self, name: &str) -> Option<i32> {
        let key = Key::new("default", name);
        let service = self.watch.folder().world().services.get(&key)?;
        service.spec.as_ref()?.ports.as_ref()?.first().map(|port| port.port)
    }

    /// Follows the folder until the condition holds; how long that took.
    fn until(&mut self, condition: impl Fn(&Self) -> bool) -> Duration {
        let start = clock::now();
        while !condition(self) {
            assert!(start.elapsed() < PATIENCE, "{:?} {:?}", self.services(), self.reports());
            self.watch.next(Duration::from_millis(100));
        }
        start.elapsed()
    }

    /// Follows the folder for a time, and holds that the condition never fails.
    fn always(&mut self, time: Duration, condition: impl Fn(&Self) -> bool) {
        let start = clock::now();
        while start.elapsed() < time {
            self.watch.next(Duration::from_millis(20));
            assert!(condition(self), "{:?} {:?}", self.services(), self.reports());
        }
    }
}

fn web(port: u16) -> String {
    service("default", "web", port, "")
}

#[test]
fn documents_lists_and_json_are_read() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 1}]}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n";
    let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"ports":[{"port":1}]}}"#;
    let two = format!(
        "{}{}",
        service("n", "c", 1, ""),
        ingress("n", "i").prefix("h.example", "/", "c", 1).yaml()
    );
    let fixture = Fixture::new(&[("list.yaml", list), ("b.json", json), ("two.yml", &two)]);
    assert_eq!(fixture.services(), ["default/a", "default/b", "n/c"]);
    assert_eq!(fixture.watch.folder().world().ingresses.len(), 1);
    assert_eq!(fixture.reports(), Vec::<String>::new());
}

#[test]
fn an_edit_in_place_is_live_within_a_second() {
    let mut fixture = Fixture::new(&[("web.yaml", &web(1))]);
    fixture.write("web.yaml", &web(2));
    assert!(fixture.until(|folder| folder.port("web") == Some(2)) < LIVE);
}

#[test]
fn an_atomic_rename_is_live_within_a_second() {
    let mut fixture = Fixture::new(&[("web.yaml", &web(1))]);
    fixture.write(".web.yaml.swp", &web(2));
    fs::rename(fixture.path(".web.yaml.swp"), fixture.path("web.yaml")).unwrap();
    assert!(fixture.until(|folder| folder.port("web") == Some(2)) < LIVE);
}

#[test]
fn a_swapped_symlink_is_live_within_a_second() {
    let mut fixture = Fixture::new(&[]);
    for (version, port) in [("..1", 1), ("..2", 2)] {
        fs::create_dir(fixture.path(version)).unwrap();
        fixture.write(&format!("{version}/web.yaml"), &web(port));
    }
    symlink("..1", fixture.path("..data")).unwrap();
    symlink("..data/web.yaml", fixture.path("web.yaml")).unwrap();
    fixture.until(|folder| folder.port("web") == Some(1));
    symlink("..2", fixture.path("..data_tmp")).unwrap();
    fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
    assert!(fixture.until(|folder| folder.port("web") == Some(2)) < LIVE);
}

#[test]
fn directories_may_appear_and_vanish() {
    let mut fixture = Fixture::new(&[]);
    fs::create_dir_all(fixture.path("a/b")).unwrap();
    fixture.write("a/b/web.yaml", &web(1));
    assert!(fixture.until(|folder| folder.port("web") == Some(1)) < LIVE);
    fixture.write("a/b/web.yaml", &web(2));
    assert!(fixture.until(|folder| folder.port("web") == Some(2)) < LIVE);
    fs::remove_dir_all(fixture.path("a")).unwrap();
    assert!(fixture.until(|folder| folder.services().is_empty()) < LIVE);
}

#[test]
fn a_deleted_file_drops_its_objects() {
    let mut fixture = Fixture::new(&[
        ("web.yaml", &web(1)),
        ("other.yaml", &service("default", "other", 1, "")),
    ]);
    fs::remove_file(fixture.path("web.yaml")).unwrap();
    assert!(fixture.until(|folder| folder.services() == ["default/other"]) < LIVE);
}

#[test]
fn a_file_that_is_written_anew_is_never_missed() {
    let mut fixture = Fixture::new(&[("web.yaml", &web(1))]);
    fs::remove_file(fixture.path("web.yaml")).unwrap();
    fixture.always(Duration::from_millis(30), |folder| folder.port("web").is_some());
    fixture.write("web.yaml", &web(2));
    fixture.always(Duration::from_millis(200), |folder| folder.port("web").is_some());
    fixture.until(|folder| folder.port("web") == Some(2));
}

#[test]
fn a_broken_file_keeps_what_it_gave_until_it_is_mended() {
    let mut fixture = Fixture::new(&[("web.yaml", &web(1))]);
    fixture.write("web.yaml", "kind: [");
    assert!(fixture.until(|folder| !folder.reports().is_empty()) < LIVE);
    assert!(
        fixture.reports()[0].starts_with("error web.yaml File: InvalidManifest: "),
        "{:?}",
        fixture.reports()
    );
    assert_eq!(fixture.port("web"), Some(1));
    fixture.write("web.yaml", &web(2));
    assert!(fixture.until(|folder| folder.reports().is_empty() && folder.port("web") == Some(2)) < LIVE);
}

#[test]
fn one_broken_document_takes_nothing_from_the_others() {
    let both = format!("{}{}", web(1), service("default", "other", 1, ""));
    let mut fixture = Fixture::new(&[("a.yaml", &both)]);
    fixture.write("a.yaml", &format!("{}---\nkind: [\n", web(2)));
    fixture.until(|folder| folder.port("web") == Some(2));
    assert_eq!(
        fixture.services(),
        ["default/other", "default/web"],
        "the broken document may be the other one"
    );
    assert_eq!(fixture.reports().len(), 1);
}

#[test]
fn an_object_that_is_refused_keeps_its_last_good_version() {
    let mut fixture = Fixture::new(&[("web.yaml", &web(1))]);
    fixture.write(
        "web.yaml",
        &format!(
            "{}{}",
            web(1).replace("port: 1", "port: 99999"),
            service("default", "b", 1, "")
        ),
    );
    fixture.until(|folder| folder.services().len() == 2);
    assert_eq!(fixture.port("web"), Some(1));
    let report = &fixture.reports()[0];
    assert!(
        report.starts_with("error default/web Service: InvalidObject: spec.ports[0].port: "),
        "{report}"
    );
}

#[test]
fn the_first_path_wins_a_duplicate_and_the_next_takes_over() {
    let mut fixture = Fixture::new(&[("b.yaml", &web(2)), ("a.yaml", &web(1)), ("c.yaml", &web(3))]);
    assert_eq!(fixture.port("web"), Some(1));
    let reports = fixture.reports();
    assert_eq!(reports.len(), 2);
    assert!(reports[0].starts_with("error default/web Service: DuplicateObject: it stands in a.yaml and in b.yaml;"));
    fs::remove_file(fixture.path("a.yaml")).unwrap();
    fixture.until(|folder| folder.port("web") == Some(2) && folder.reports().len() == 1);
    fixture.write("a.yaml", &web(4));
    fixture.until(|folder| folder.port("web") == Some(4) && folder.reports().len() == 2);
}

#[test]
fn a_repeated_object_within_a_file_is_reported() {
    let fixture = Fixture::new(&[("a.yaml", &format!("{}{}", web(1), web(2)))]);
    assert_eq!(fixture.port("web"), Some(1));
    assert!(fixture.reports()[0].contains("DuplicateObject: it stands more than once in a.yaml"));
}

#[test]
fn a_renamed_file_reports_nothing_and_drops_nothing() {
    let mut fixture = Fixture::new(&[("b.yaml", &web(1))]);
    fs::rename(fixture.path("b.yaml"), fixture.path("c.yaml")).unwrap();
    fixture.always(Duration::from_millis(400), |folder| {
        folder.port("web") == Some(1) && folder.reports().is_empty()
    });
}

#[test]
fn a_half_written_file_takes_nothing_away() {
    let both = format!("{}{}", web(1), service("default", "other", 1, ""));
    let mut fixture = Fixture::new(&[("a.yaml", &both)]);
    for text in ["", &web(1)] {
        fixture.write("a.yaml", text);
        fixture.always(Duration::from_millis(100), |folder| folder.services().len() == 2);
    }
    fixture.write("a.yaml", &both);
    fixture.always(Duration::from_millis(500), |folder| folder.services().len() == 2);
    fixture.write("a.yaml", &web(1));
    assert!(
        fixture.until(|folder| folder.services() == ["default/web"]) < LIVE,
        "what stands still is believed"
    );
}

#[test]
fn files_that_are_no_text_are_reported() {
    let mut fixture = Fixture::new(&[]);
    fs::write(fixture.path("latin.yaml"), b"name: \xe4").unwrap();
    fs::File::create(fixture.path("huge.yaml"))
        .unwrap()
        .set_len(17 * 1024 * 1024)
        .unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fixture.path("pipe.yaml"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    fixture.until(|folder| folder.reports().len() == 3);
    let reports = fixture.reports();
    assert!(
        reports[0].contains("huge.yaml File: InvalidManifest: is longer than 16 MiB"),
        "{reports:?}"
    );
    assert!(
        reports[1].contains("latin.yaml File: InvalidManifest: is not UTF-8 (byte 6)"),
        "{reports:?}"
    );
    assert!(
        reports[2].contains("pipe.yaml File: InvalidManifest: is no regular file"),
        "{reports:?}"
    );
}

#[test]
fn a_vanished_folder_keeps_everything_until_it_is_back() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("manifests");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("web.yaml"), web(1)).unwrap();
    let watch = Watch::start(Folder::open(&root).unwrap());
    let mut fixture = Fixture {
        directory: parent,
        watch,
    };
    fs::rename(&root, fixture.path("away")).unwrap();
    fixture.until(|folder| !folder.reports().is_empty());
    assert!(fixture.reports()[0].starts_with("error . File: InvalidManifest: cannot be read"));
    assert_eq!(fixture.port("web"), Some(1));
    fs::rename(fixture.path("away"), &root).unwrap();
    fixture.until(|folder| folder.reports().is_empty());
    fs::write(root.join("web.yaml"), web(2)).unwrap();
    assert!(fixture.until(|folder| folder.port("web") == Some(2)) < LIVE);
}

#[test]
fn a_folder_that_cannot_be_read_is_a_start_error() {
    let missing = Folder::open(Path::new("/nonexistent")).unwrap_err().to_string();
    assert!(
        missing.starts_with("--manifests /nonexistent cannot be read: "),
        "{missing}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Folder::open(file.path()).unwrap_err();
    assert!(matches!(error, FolderError::NotADirectory { .. }), "{error}");
}

#[test]
fn a_storm_of_edits_in_place_is_followed_and_takes_nothing_away() {
    let mut fixture = Fixture::new(&[("web.yaml", &web(1))]);
    let path = fixture.path("web.yaml");
    let writer = std::thread::spawn(move || {
        let start = clock::now();
        let mut port = 1;
        while start.elapsed() < Duration::from_secs(2) {
            port += 1;
            fs::write(&path, web(port)).unwrap();
            propylon_testkit::wait::until(Duration::from_millis(10), || false);
        }
        port
    });
    let mut seen = Vec::new();
    while !writer.is_finished() {
        fixture.watch.next(Duration::from_millis(50));
        let port = fixture.port("web").unwrap();
        if seen.last() != Some(&port) {
            seen.push(port);
        }
    }
    let last = i32::from(writer.join().unwrap());
    // Two seconds of edits, each live within one, also where the machine is busy.
    assert!(seen.len() >= 3, "followed while it goes on: {seen:?}");
    assert!(fixture.until(|folder| folder.port("web") == Some(last)) < LIVE);
    assert_eq!(fixture.reports(), Vec::<String>::new());
}
