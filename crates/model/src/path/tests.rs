use std::ptr;

use super::*;

fn normal(raw: &str) -> String {
    RequestPath::parse(raw).unwrap().normal().to_owned()
}

fn forward(raw: &str) -> String {
    RequestPath::parse(raw).unwrap().forward().to_owned()
}

fn refusal(raw: &str) -> PathError {
    RequestPath::parse(raw).expect_err(raw)
}

#[test]
fn a_plain_path_is_borrowed() {
    let raw = "/api/v1/items/a.b:c@d,e=f+g*h";
    let path = RequestPath::parse(raw).unwrap();
    assert!(ptr::eq(path.normal(), raw) && ptr::eq(path.forward(), raw));
    assert!(!path.has_encoded_slash() && path.readings().is_empty());
}

#[test]
fn a_path_that_does_not_change_is_borrowed() {
    for raw in [
        "/.well-known/acme-challenge/x",
        "/a;jsessionid=1/b",
        "/a%20b/%C3%A9",
        "/...",
        "/a/..b",
    ] {
        let path = RequestPath::parse(raw).unwrap();
        assert!(ptr::eq(path.normal(), raw) && ptr::eq(path.forward(), raw), "{raw}");
    }
}

#[test]
fn octets_that_may_stand_in_a_segment_are_decoded() {
    assert_eq!(normal("/%61%7e%21%3b%3A%40"), "/a~!;:@");
    assert_eq!(forward("/%61%7e%21%3b%3A%40"), "/%61%7e%21%3b%3A%40");
}

#[test]
fn other_escapes_are_put_in_upper_case() {
    assert_eq!(normal("/a%2fb%c3%a9%20%25"), "/a%2Fb%C3%A9%20%25");
}

#[test]
fn octets_that_belong_escaped_are_escaped() {
    assert_eq!(normal("/{a}|é\"<>^`[]"), "/%7Ba%7D%7C%C3%A9%22%3C%3E%5E%60%5B%5D");
    assert_eq!(forward("/{a}|é"), "/{a}|é");
}

#[test]
fn an_escape_is_decoded_once() {
    assert_eq!(normal("/%252e%252E/%2561"), "/%252e%252E/%2561");
}

#[test]
fn dot_segments_are_removed_encoded_ones_too() {
    for (raw, expected) in [
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b/%2e/c", "/b/c"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/.", "/"),
    ] {
        assert_eq!(
            (normal(raw), forward(raw)),
            (expected.to_owned(), expected.to_owned()),
            "{raw}"
        );
    }
}

#[test]
fn slashes_are_merged_for_matching_only() {
    assert_eq!(
        (normal("//a///b//"), forward("//a///b//")),
        ("/a/b/".to_owned(), "//a///b//".to_owned())
    );
    assert_eq!(
        (normal("/a//./b"), forward("/a//./b")),
        ("/a/b".to_owned(), "/a//b".to_owned())
    );
    assert_eq!(normal("//"), "/");
}

#[test]
fn forwarded_segments_keep_the_bytes_of_the_client() {
    assert_eq!(forward("/x/../%61//%c3%a9"), "/%61//%c3%a9");
}

#[test]
fn dangerous_paths_are_refused() {
    for raw in ["/a\\b", "/a%5cb", "/%5C", "/..%5c"] {
        assert_eq!(refusal(raw), PathError::Backslash, "{raw}");
    }
    for raw in ["/a%00", "/%00/b", "/a\0"] {
        assert_eq!(refusal(raw), PathError::Nul, "{raw}");
    }
    for raw in ["/%", "/%4", "/%zz", "/a%2", "/%u002f", "/%%41", "/%é"] {
        assert_eq!(refusal(raw), PathError::BadEscape, "{raw}");
    }
    for raw in ["/a b", "/a\tb", "/a\u{7f}", "/a#b", "/a?b"] {
        assert_eq!(refusal(raw), PathError::Character, "{raw}");
    }
    for raw in ["", "a", "*", "%2Fa"] {
        assert_eq!(refusal(raw), PathError::NotAbsolute, "{raw}");
    }
}

#[test]
fn an_encoded_slash_next_to_a_dot_segment_is_refused() {
    for raw in [
        "/a%2f..",
        "/a/..%2fb",
        "/%2f%2e%2e/b",
        "/a%2F.%2Fb",
        "/.%2f",
        "/%2e%2e%2Fadmin",
    ] {
        assert_eq!(refusal(raw), PathError::EncodedSlashAtDotSegment, "{raw}");
    }
}

#[test]
fn an_empty_segment_before_dot_dot_is_refused() {
    for raw in ["/a//../b", "//..", "/a//./%2e%2e", "/a//b/../..", "/a%2f/.."] {
        assert_eq!(refusal(raw), PathError::EmptyBeforeDotDot, "{raw}");
    }
}

#[test]
fn a_dot_segment_with_parameters_is_refused() {
    for raw in ["/..;/a", "/a/..;x=1", "/%2e%2e;/", "/..%3b", "/.;/a", "/a%2F..;x"] {
        assert_eq!(refusal(raw), PathError::DotSegmentParameter, "{raw}");
    }
    assert_eq!(normal("/a;x/b"), "/a;x/b");
}

#[test]
fn readings_hold_what_other_orders_make_of_encoded_slashes() {
    let readings = |raw| RequestPath::parse(raw).unwrap().readings();
    assert_eq!(readings("/a%2fb"), ["/a/b"]);
    assert_eq!(readings("/a/%2fb"), ["/a/b", "/a//b"]);
    assert_eq!(readings("/a%2fb/../c"), ["/a/c"]);
}

#[test]
fn rules_get_the_form_of_requests() {
    let rule = |raw| NormalPath::parse_rule(raw).map(|path| path.as_str().to_owned());
    assert_eq!(rule("/%7e{id}/*"), Ok("/~%7Bid%7D/*".to_owned()));
    assert_eq!(rule("/a/../é/"), Ok("/%C3%A9/".to_owned()));
    assert_eq!(rule("/a%2fb"), Err(PathError::EncodedSlashInRule));
    assert_eq!(rule("a"), Err(PathError::NotAbsolute));
    assert_eq!(rule("/a%"), Err(PathError::BadEscape));
}

#[test]
fn the_normal_form_of_a_normal_form_is_itself() {
    for raw in ["/a/../%61//{b}%2f", "/%25%32%65/..b;c", "//é/./"] {
        let once = normal(raw);
        assert_eq!(normal(&once), once, "{raw}");
    }
}
