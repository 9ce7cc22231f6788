//! Where what is reported stands: file, document and line.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use propylon_model::{Kind, ObjectRef, Report, ReportReason};
use propylon_translate::{
    admit::admit,
    manifest::{Document, Item, Lines, ManifestError, Object, parse_documents},
};

use super::Finding;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file as the user would write it.
    pub(super) file: PathBuf,
    /// The line, from 1.
    pub(super) line: u64,
    /// The document, from 1 among those of the file that hold something; none where no document is meant.
    pub(super) document: Option<u64>,
}

/// The objects of all files, and where they stand.
#[derive(Debug)]
pub(super) struct Places<'a> {
    files: Vec<File<'a>>,
    spots: BTreeMap<ObjectRef, Vec<Spot>>,
}

#[derive(Debug)]
struct File<'a> {
    /// As the user would write it.
    shown: &'a Path,
    /// Within the folder: the name of its reports.
    within: &'a Path,
    documents: Vec<(Document<'a>, OnceCell<Lines>)>,
}

/// One place of one object.
#[derive(Clone, Copy, Debug)]
struct Spot {
    file: usize,
    document: usize,
    item: usize,
    is_admitted: bool,
}

impl<'a> Places<'a> {
    /// Finds the objects of files, given as their paths as they are shown, their paths within the folder, and their texts.
    pub(super) fn of(texts: &'a [(PathBuf, PathBuf, String)]) -> Self {
        let files = texts.iter().map(|(shown, within, text)| File {
            shown,
            within,
            documents: parse_documents(text)
                .into_iter()
                .map(|document| (document, OnceCell::new()))
                .collect(),
        });
        let mut places = Self {
            files: files.collect(),
            spots: BTreeMap::new(),
        };
        for (file, found) in places.files.iter().enumerate() {
            for (document, (found, _)) in found.documents.iter().enumerate() {
                for (item, found) in found.items.iter().enumerate() {
                    let Ok(object) = &found.object else { continue };
                    let Some(key) = object.key() else { continue };
                    places.spots.entry(key).or_default().push(Spot {
                        file,
                        document,
                        item,
                        is_admitted: admit(object.clone()).is_ok(),
                    });
                }
            }
        }
        places
    }

    /// How many objects there are.
    pub(super) fn objects(&self) -> usize {
        let documents = self.files.iter().flat_map(|file| &file.documents);
        let items = documents.flat_map(|(document, _)| &document.items);
        items.filter(|item| item.object.is_ok()).count()
    }

    /// The place that a report speaks of; none where its object is in no file.
    pub(super) fn find(&self, report: &Report) -> Option<Place> {
        if report.object.kind == Kind::File {
            return self.find_mistake(report);
        }
        let spot = self.spot(report)?;
        let field = match report.field() {
            Some(field) => field,
            // What is said of a Service's ports begins with the port.
            None if report.object.kind == Kind::Service && report.message.starts_with("port ") => "spec.ports",
            None => "",
        };
        self.place(spot, field)
    }

    /// The objects of other controllers and APIs that route traffic, and that nobody serves here.
    pub(super) fn unsupported(&self) -> impl Iterator<Item = Finding> {
        let documents = self
            .files
            .iter()
            .flat_map(|file| file.documents.iter().map(move |document| (file, document)));
        let items =
            documents.flat_map(|(file, document)| document.0.items.iter().map(move |item| (file, document, item)));
        items.filter_map(|(file, (document, lines), item)| {
            let Ok(Object::Other { api_version, kind, name }) = &item.object else {
                return None;
            };
            let group = api_version.split('/').next()?;
            let (_, what_next) = ROUTING.iter().find(|(routing, _)| *routing == group)?;
            let message = format!(
                "{kind} '{name}' of {api_version} is not read by this version, so that nothing of it is served; {what_next}"
            );
            let object = ObjectRef::new(Kind::File, "", file.within.to_string_lossy());
            Some(Finding {
                report: Report::new(object, ReportReason::KindUnsupported, message),
                place: Some(file.place(document, lines, &item.path)),
            })
        })
    }

    /// The place of what does not parse; none where the file could not be read at all.
    fn find_mistake(&self, report: &Report) -> Option<Place> {
        let file = self
            .files
            .iter()
            .find(|file| *file.within.to_string_lossy() == *report.object.name)?;
        let mistakes = file
            .documents
            .iter()
            .flat_map(|document| document.0.items.iter().map(move |item| (document, item)));
        let found = mistakes.filter_map(|(document, item)| Some((document, item, item.object.as_ref().err()?)));
        let mut found =
            found.filter(|(_, _, error)| report.message.starts_with(&crate::folder::one_line(&error.to_string())));
        let ((document, lines), item, error) = found.next()?;
        Some(match error {
            ManifestError::Syntax { line, .. } => Place {
                file: file.shown.to_path_buf(),
                line: *line,
                document: Some(document.number),
            },
            ManifestError::Field { path, .. } => file.place(document, lines, &below(item, path)),
            ManifestError::WrongApiVersion { .. } => file.place(document, lines, &below(item, "apiVersion")),
            ManifestError::NotAnObject { .. } => file.place(document, lines, &item.path),
        })
    }

    /// Which of the places of an object a report is about.
    fn spot(&self, report: &Report) -> Option<Spot> {
        let spots = self.spots.get(&report.object)?;
        let names = |spot: &&Spot, before: &str, behind: &str| {
            let file = self.files.get(spot.file).map(|file| file.within.display());
            file.is_some_and(|file| report.message.contains(&format!("{before}{file}{behind}")))
        };
        let found = match report.reason {
            // The copy that does not count: `it stands in A and in B; ...`, `it stands more than once in A; ...`.
            ReportReason::DuplicateObject => spots.iter().skip(1).find(|spot| names(spot, "in ", "; ")),
            // `MISTAKES (FILE); its last good version ...`.
            ReportReason::InvalidObject => spots.iter().find(|spot| !spot.is_admitted && names(spot, "(", "); ")),
            _ => None,
        };
        let in_force = || spots.iter().find(|spot| spot.is_admitted);
        found.or_else(in_force).or_else(|| spots.first()).copied()
    }

    fn place(&self, spot: Spot, field: &str) -> Option<Place> {
        let file = self.files.get(spot.file)?;
        let (document, lines) = file.documents.get(spot.document)?;
        let item = document.items.get(spot.item)?;
        Some(file.place(document, lines, &below(item, field)))
    }
}

impl File<'_> {
    fn place(&self, document: &Document<'_>, lines: &OnceCell<Lines>, field: &str) -> Place {
        Place {
            file: self.shown.to_path_buf(),
            line: lines.get_or_init(|| Lines::of(document)).line(field),
            document: Some(document.number),
        }
    }
}

/// A field of an item, as a field of its document.
fn below(item: &Item, field: &str) -> String {
    format!("{}.{field}", item.path)
}

/// API groups whose objects route traffic, and what to do instead.
const ROUTING: &[(&str, &str)] = &[
    ("configuration.konghq.com", "write an Ingress"),
    ("gateway.networking.k8s.io", "write an Ingress"),
    ("k8s.nginx.org", "write an Ingress"),
    ("networking.istio.io", "write an Ingress"),
    ("projectcontour.io", "write an Ingress"),
    ("traefik.containo.us", "write an Ingress"),
    ("traefik.io", "write an Ingress"),
];
