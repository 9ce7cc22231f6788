//! `propylon lint`: what there is to say about manifests, without serving them.
//!
//! The same objects as `propylon run` reads, compiled by the same code; beyond the reports of that it says what is
//! probably not meant. Each finding has a code, a file and a line.

mod json;
mod places;
mod sarif;
mod text;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use propylon_model::{Kind, Report, ReportReason, Severity};

use crate::{
    compiler::Compiler,
    failure::Failure,
    folder::{Folder, FolderError},
    printer,
    run::CompileArgs,
};

use places::{Place, Places};

/// Flags of `propylon lint`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LintArgs {
    /// Folder of manifests (*.yaml, *.yml, *.json; names with a leading dot are skipped), one file, or - for standard input
    #[arg(value_name = "DIR|-")]
    source: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// Exit 1 where a finding is as bad as this, or worse
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
    /// Settings of the compile
    #[command(flatten)]
    compile: CompileArgs,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One line each, for people and editors.
    #[default]
    Text,
    /// One object, for scripts.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// What makes the exit status 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Errors, as with `propylon run --once`.
    #[default]
    Error,
    /// Warnings and errors.
    Warning,
    /// Any finding.
    Notice,
}

impl FailOn {
    const fn worst_allowed(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Notice => Severity::Notice,
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug)]
struct Finding {
    report: Report,
    /// Where; none where it is of no file, such as a flag that names what does not exist.
    place: Option<Place>,
}

/// What a run found, and of how much.
#[derive(Debug, Default)]
struct Findings {
    /// What was read: the argument.
    source: PathBuf,
    /// By file, line, code and message.
    list: Vec<Finding>,
    /// Files that were read.
    files: usize,
    /// Objects that they hold, those of kinds that are not read included.
    objects: usize,
}

impl Findings {
    fn count(&self, severity: Severity) -> usize {
        self.list
            .iter()
            .filter(|finding| finding.report.severity() == severity)
            .count()
    }
}

/// Where the documentation of a code is.
fn help_uri(reason: ReportReason) -> String {
    let repository = env!("CARGO_PKG_REPOSITORY");
    format!("{repository}/blob/main/docs/reference/problems/{}.md", reason.code())
}

/// Checks manifests, and writes what it found to standard output.
pub(crate) fn lint(args: LintArgs) -> Result<ExitCode, Failure> {
    let findings = Input::read(&args.source)?.check(args.compile);
    let output = match args.output {
        Form::Text => text::render(&findings),
        Form::Json => json::render(&findings),
        Form::Sarif => sarif::render(&findings),
    };
    print(&output)?;
    printer::line(&text::summary(&findings));
    let worst_allowed = args.fail_on.worst_allowed();
    let fails = findings
        .list
        .iter()
        .any(|finding| finding.report.severity() <= worst_allowed);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Who closes the output early, such as `head`, has seen enough; findings that are lost otherwise are no success.
fn print(output: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(Failure::System {
            attempt: "write to standard output",
            source,
        }),
        _ => Ok(()),
    }
}

/// Manifests that were read.
struct Input {
    source: PathBuf,
    folder: Folder,
    /// By the paths as they are shown, and within the folder.
    texts: Vec<(PathBuf, PathBuf, String)>,
}

impl Input {
    fn read(source: &Path) -> Result<Self, Failure> {
        if source == Path::new("-") {
            let mut text = String::new();
            io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map_err(|source| Failure::System {
                    attempt: "read standard input",
                    source,
                })?;
            return Ok(Self::of_text(Path::new(STANDARD_INPUT), text));
        }
        if fs::metadata(source).is_ok_and(|metadata| metadata.is_file()) {
            let text = fs::read_to_string(source).map_err(|error| FolderError::Unreadable {
                named: NAMED,
                path: source.to_path_buf(),
                source: error,
            })?;
            return Ok(Self::of_text(source, text));
        }
        let mut folder = Folder::open_named(NAMED, source)?;
        folder.read();
        let texts = folder.texts().into_iter();
        Ok(Self {
            source: source.to_path_buf(),
            texts: texts.map(|(path, text)| (shown(source, &path), path, text)).collect(),
            folder,
        })
    }

    fn of_text(name: &Path, text: String) -> Self {
        Self {
            source: name.to_path_buf(),
            folder: Folder::of_text(name, &text),
            texts: vec![(name.to_path_buf(), name.to_path_buf(), text)],
        }
    }

    fn check(&self, compile: CompileArgs) -> Findings {
        let world = self.folder.world();
        let mut compiler = Compiler::new(compile.into_options(Vec::new()));
        let step = compiler.step(world);
        let places = Places::of(&self.texts);
        let said = self
            .folder
            .reports()
            .into_iter()
            .chain(step.reports)
            .chain(compiler.lint(world));
        // The same may be said twice, of a third copy of an object.
        let said: BTreeSet<_> = said
            .map(|report| (report.object, report.reason, report.message))
            .collect();
        let said = said
            .into_iter()
            .map(|(object, reason, message)| Report::new(object, reason, message));
        let mut list: Vec<Finding> = said
            .map(|report| Finding {
                place: places.find(&report).or_else(|| self.whole_file(&report)),
                report,
            })
            .chain(places.unsupported())
            .collect();
        list.sort_by(|left, right| {
            let key = |finding: &Finding| (finding.place.clone(), finding.report.reason.code());
            key(left)
                .cmp(&key(right))
                .then_with(|| left.report.message.cmp(&right.report.message))
        });
        Findings {
            source: self.source.clone(),
            list,
            files: self.texts.len(),
            objects: places.objects(),
        }
    }

    /// The place of what is said of a file, or a directory, as a whole.
    fn whole_file(&self, report: &Report) -> Option<Place> {
        (report.object.kind == Kind::File).then(|| Place {
            file: shown(&self.source, Path::new(&*report.object.name)),
            line: 1,
            document: None,
        })
    }
}

/// The path of a file as the user would write it: behind that of the folder.
fn shown(folder: &Path, file: &Path) -> PathBuf {
    match folder.to_str() {
        Some(".") => file.to_path_buf(),
        Some(STANDARD_INPUT) => folder.to_path_buf(),
        _ if file == Path::new(".") => folder.to_path_buf(),
        _ => folder.join(file),
    }
}

/// How errors name the argument.
const NAMED: &str = "DIR";

/// The name of what has no file.
const STANDARD_INPUT: &str = "<stdin>";

#[cfg(test)]
mod tests;
