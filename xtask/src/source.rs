//! Rust source without what is not code.

/// The source with comments and the contents of string and character literals blanked out; the lines stay.
///
/// Known limits: a lifetime is told from a character literal by the missing closing quote.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, previous).unwrap_or(0);
        if length == 0 {
            code.push(first);
            previous = first;
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        } else {
            let (gone, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
            code.push(' ');
            code.extend(gone.chars().filter(|character| *character == '\n'));
            previous = ' ';
            rest = left;
        }
    }
    code
}

/// The identifiers and keywords of a line of code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty())
}

/// The bytes that the comment or literal at the start of `rest` takes; none where there is none.
fn skipped(rest: &str, previous: char) -> Option<usize> {
    let in_word = previous.is_alphanumeric() || previous == '_';
    match rest.as_bytes() {
        [b'/', b'/', ..] => Some(rest.find('\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(block_comment(rest)),
        [b'"', ..] => Some(1 + quoted(rest.get(1..)?)),
        [b'b' | b'c', b'"', ..] if !in_word => Some(2 + quoted(rest.get(2..)?)),
        [b'r', b'"' | b'#', ..] if !in_word => raw(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => raw(rest, 2),
        [b'\'', b'\\', ..] => Some(1 + character(rest.get(1..)?)),
        [b'\'', ..] => {
            let literal = rest.chars().nth(1)?;
            let end = 1 + literal.len_utf8();
            (rest.as_bytes().get(end) == Some(&b'\'')).then_some(end + 1)
        }
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..) {
            Some([b'/', b'*', ..]) => {
                depth += 1;
                at += 2;
            }
            Some([b'*', b'/', ..]) => {
                depth = depth.saturating_sub(1);
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a string's inside with its closing quote.
fn quoted(inside: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

/// The length of an escaped character's inside with its closing quote.
fn character(inside: &str) -> usize {
    // The escaped character itself may be a quote.
    inside
        .char_indices()
        .skip(2)
        .find(|(_, character)| *character == '\'')
        .map_or(inside.len(), |(at, _)| at + 1)
}

/// The length of a raw string whose prefix has `prefix` letters; none for a raw identifier.
fn raw(rest: &str, prefix: usize) -> Option<usize> {
    let hashes = rest.get(prefix..)?.bytes().take_while(|byte| *byte == b'#').count();
    let start = prefix + hashes + 1;
    if rest.as_bytes().get(start - 1) != Some(&b'"') {
        return None;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = rest.get(start..)?;
    Some(start + inside.find(&closing).map_or(inside.len(), |at| at + closing.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(source: &str) -> Vec<String> {
        words(&code_of(source)).map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(finds("a // unsafe\nb"), ["a", "b"]);
        assert_eq!(finds("a /* unsafe /* unsafe */ unsafe */ b"), ["a", "b"]);
        assert_eq!(finds(r#"a "unsafe \" unsafe" b"#), ["a", "b"]);
        assert_eq!(
            finds("a r\"unsafe\\\" b r##\"unsafe \"# unsafe\"## c br#\"unsafe\"# d"),
            ["a", "b", "c", "d"]
        );
        assert_eq!(finds("a b\"unsafe\" '\"' b"), ["a", "b"]);
    }

    #[test]
    fn code_is_kept() {
        assert_eq!(finds("unsafe { f::<'a>('x', '\\'', '\\u{41}') }"), ["unsafe", "f", "a"]);
        assert_eq!(
            finds("r#unsafe fn br(xr: &'static str)"),
            ["r", "unsafe", "fn", "br", "xr", "static", "str"]
        );
        assert_eq!(finds("expect(unsafe_code)"), ["expect", "unsafe_code"]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let code = code_of("/* one\ntwo */ a\n\"x\ny\" b");
        assert_eq!(code.lines().map(str::trim).collect::<Vec<_>>(), ["", "a", "", "b"]);
    }
}
