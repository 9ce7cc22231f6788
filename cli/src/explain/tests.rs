//! Golden outputs: `golden/manifests.yaml` and its change, explained. `UPDATE_GOLDEN=1` writes them anew.

use std::{fs, path::PathBuf};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ExplainArgs,
}

/// A folder with one file of manifests.
struct Site(tempfile::TempDir);

impl Site {
    fn new(manifests: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("site.yaml"), manifests).unwrap();
        Self(folder)
    }

    fn old() -> Self {
        Self::new(MANIFESTS)
    }

    /// As [`Site::old`], with other words here and there.
    fn new_version() -> Self {
        let changes = [
            ("{name: cart, port: {name: http}}", "{name: web, port: {number: 80}}"),
            ("host: \"*.example\"", "host: \"*.test\""),
            ("connect-timeout: 2s", "connect-timeout: 5s"),
        ];
        let text = changes.iter().fold(MANIFESTS.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        Self::new(&text)
    }

    fn explain(&self, arguments: &[&str]) -> Explanation {
        let folder = self.0.path().to_str().unwrap();
        let args = parse(&[&["-f", folder], arguments].concat());
        let query = query(&args);
        offline::explain(self.0.path(), args.compile, args.serving, &query).unwrap()
    }
}

fn parse(arguments: &[&str]) -> ExplainArgs {
    Command::try_parse_from([&["explain"], arguments].concat())
        .unwrap()
        .args
}

fn is_golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/explain/golden")
        .join(name);
    #[expect(clippy::disallowed_methods, reason = "the switch of a test, not configuration")]
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == found, "{name}\n--- wanted\n{wanted}\n--- found\n{found}");
}

#[test]
fn a_request_is_told_from_listener_to_backend() {
    let site = Site::old();
    let forwarded = site.explain(&["http://shop.example/cart/items?x=1", "-H", "Cookie: a=b"]);
    is_golden("forward.txt", &text::of(&forwarded));
    is_golden("forward.json", &json(&forwarded));
    let refused = site.explain(&["http://shop.example/gone", "-X", "POST", "--client-ip", "2001:db8::1"]);
    is_golden("refused.txt", &text::of(&refused));
    let ambiguous = site.explain(&["http://shop.example/%2fcart"]);
    is_golden("ambiguous.txt", &text::of(&ambiguous));
    let redirected = site.explain(&["http://secure.example/a?b", "--https-public-port", "443"]);
    is_golden("redirect.txt", &text::of(&redirected));
    let unknown = site.explain(&["http://nowhere.test/"]);
    is_golden("no-host.txt", &text::of(&unknown));
}

#[test]
fn a_change_is_told_by_classes_of_requests() {
    let (old, new) = (Site::old(), Site::new_version());
    let compile = CompileArgs::default();
    let changes = changes::between(old.0.path(), new.0.path(), &compile).unwrap();
    is_golden("diff.txt", &changes::text(&changes));
    is_golden("diff.json", &json(&changes));
    let none = changes::between(old.0.path(), old.0.path(), &compile).unwrap();
    assert_eq!(
        changes::text(&none),
        "no difference: every request is served as before\n"
    );
}

#[test]
fn the_exit_code_says_whether_there_is_a_difference() {
    let (old, new) = (Site::old(), Site::new_version());
    let code = |one: &Site, other: &Site| {
        let folders = [&one.0, &other.0].map(|folder| folder.path().to_str().unwrap());
        explain(parse(&["--diff", folders[0], folders[1]])).unwrap()
    };
    assert_eq!(code(&old, &old), ExitCode::SUCCESS);
    assert_eq!(code(&old, &new), ExitCode::FAILURE);
}

#[test]
fn errors_say_what_to_do_next() {
    for (arguments, words) in [
        (&["ftp://a/", "-f", "."][..], "begin it with http:// or https://"),
        (&["http:///x", "-f", "."], "write http://HOST/PATH"),
        (
            &["http://a/", "-f", "/propylon/absent"],
            "/propylon/absent cannot be read",
        ),
        (&["http://a/", "--admin", "nonsense"], "write HOST:PORT"),
        (&["--diff", "/propylon/absent", "."], "/propylon/absent cannot be read"),
    ] {
        let error = explain(parse(arguments)).unwrap_err().to_string();
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    for arguments in [
        &["http://a/"][..],
        &["-f", "."],
        &["http://a/", "-f", ".", "--admin", "127.0.0.1:1"],
        &["http://a/", "--diff", ".", "."],
        &["http://a/", "-f", ".", "-H", "nonsense"],
        &["http://a/", "-f", ".", "--client-ip", "here"],
    ] {
        assert!(
            Command::try_parse_from([&["explain"], arguments].concat()).is_err(),
            "{arguments:?}"
        );
    }
}

#[test]
fn no_text_of_a_manifest_or_a_request_reaches_the_terminal_raw() {
    let mut explanation = Site::old().explain(&["http://shop.example/"]);
    explanation.notes = vec!["a\nb\u{1b}[31m".to_owned()];
    let text = text::of(&explanation);
    assert!(text.contains("a\\nb\\u{1b}[31m"), "{text}");
}

const MANIFESTS: &str = include_str!("golden/manifests.yaml");
