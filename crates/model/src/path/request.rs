//! The path of a request: how it is matched, and what goes upstream.

use std::borrow::Cow;

use super::{
    PathError, readings,
    segment::{Segment, is_pchar},
};

/// The path of a request, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    normal: Cow<'a, str>,
    forward: Cow<'a, str>,
    /// The segments in normal form with nothing removed or merged; only where one holds an encoded slash.
    unresolved: Option<Box<str>>,
}

impl<'a> RequestPath<'a> {
    /// Reads the path of a request: the request target without the query.
    ///
    /// # Errors
    /// Where two readers may understand the path differently, whatever the rules are. Paths that only some rules make
    /// ambiguous are accepted here: see [`Self::readings`]. Not retryable.
    ///
    /// # Cost
    /// One scan and no allocation for a path without `%`, `//`, `/.`, `;` and octets that belong escaped.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        if is_plain(raw) {
            return Ok(Self {
                normal: Cow::Borrowed(raw),
                forward: Cow::Borrowed(raw),
                unresolved: None,
            });
        }
        let relative = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let segments = relative.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let resolved = without_dot_segments(&segments)?;
        let forward = if resolved.len() == segments.len() && !segments.iter().any(Segment::is_dots) {
            Cow::Borrowed(raw)
        } else {
            Cow::Owned(joined(resolved.iter().map(|segment| segment.raw)))
        };
        let normal = readings::merge_slashes(&joined(resolved.iter().map(|segment| &*segment.normal)));
        let normal = if normal == raw {
            Cow::Borrowed(raw)
        } else {
            Cow::Owned(normal)
        };
        let unresolved = segments
            .iter()
            .any(Segment::has_encoded_slash)
            .then(|| joined(segments.iter().map(|segment| &*segment.normal)).into_boxed_str());
        Ok(Self {
            normal,
            forward,
            unresolved,
        })
    }

    /// The normal form, which rules are compared with; see [`super::NormalPath`].
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// What goes upstream: dot segments removed, encoded ones too, otherwise the client's bytes.
    pub fn forward(&self) -> &str {
        &self.forward
    }

    /// Whether a segment holds a `%2F`; where none does, every backend reads [`Self::normal`].
    pub fn has_encoded_slash(&self) -> bool {
        self.unresolved.is_some()
    }

    /// The other paths, each once, that a backend may read, by the order in which it decodes, merges slashes and removes
    /// dot segments, encoded slashes decoded; escaped as in the normal form. If one selects another rule than
    /// [`Self::normal`] does, the path is ambiguous.
    ///
    /// # Cost
    /// Nothing where [`Self::has_encoded_slash`] is false, else linear in the path.
    pub fn readings(&self) -> Vec<String> {
        let mut readings = self.unresolved.as_deref().map_or_else(Vec::new, readings::readings);
        readings.retain(|reading| *reading != self.normal);
        readings
    }
}

/// Whether the path is its own normal form, as a scan can tell.
fn is_plain(raw: &str) -> bool {
    let mut previous = 0;
    raw.starts_with('/')
        && raw.bytes().all(|octet| {
            let plain = match octet {
                b'/' | b'.' => previous != b'/',
                b';' => false,
                octet => is_pchar(octet),
            };
            previous = octet;
            plain
        })
}

/// RFC 3986 5.2.4; a dot segment at the end leaves an empty one.
fn without_dot_segments<'s, 'a>(segments: &'s [Segment<'a>]) -> Result<Vec<&'s Segment<'a>>, PathError> {
    let mut resolved: Vec<&Segment<'a>> = Vec::with_capacity(segments.len());
    for segment in segments {
        if !segment.is_dots() {
            resolved.push(segment);
        } else if segment.normal == ".." && resolved.pop().is_some_and(Segment::ends_empty) {
            return Err(PathError::EmptyBeforeDotDot);
        }
    }
    if segments.last().is_some_and(Segment::is_dots) {
        resolved.push(&Segment::EMPTY);
    }
    Ok(resolved)
}

fn joined<'t>(segments: impl Iterator<Item = &'t str>) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(segment);
    }
    path
}
