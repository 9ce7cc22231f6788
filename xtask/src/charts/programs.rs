//! What the containers run: arguments and environment that the programs know, and a file of settings that can be read.

use std::collections::BTreeSet;

use clap::Command;
use propylon_controller::config::{ConfigFile, Settings};
use serde_json::Value;

use super::documents::Document;

/// Environment variables that are read by what every program is built from, not by a flag.
const GENERAL: &[&str] = &["RUST_BACKTRACE", "TZ"];

/// Arguments that a program refuses, and environment variables that it does not read.
pub(super) fn faults(documents: &[Document]) -> Vec<String> {
    let mut faults = Vec::new();
    for document in documents {
        if let Some(Err(error)) = settings(document) {
            faults.push(format!(
                "{}: the controller cannot read its settings: {error}",
                document.title()
            ));
        }
        let Some(spec) = document.pod().and_then(|pod| pod.get("spec")) else {
            continue;
        };
        let containers = ["initContainers", "containers"]
            .into_iter()
            .flat_map(|key| list(spec, key));
        for container in containers {
            let of_container = container_faults(container).into_iter();
            faults.extend(of_container.map(|fault| format!("{}: {fault}", document.title())));
        }
    }
    faults
}

/// The controller's file of settings, as it will read it; none where the document has none.
fn settings(document: &Document) -> Option<Result<Settings, String>> {
    let text = document.value.pointer("/data/propylon.yaml").and_then(Value::as_str)?;
    let file = ConfigFile::parse(text);
    Some(file.and_then(|file| Settings::new(file).map_err(|error| error.to_string())))
}

fn container_faults(container: &Value) -> Vec<String> {
    let command = strings(container.get("command"));
    let Some((path, rest)) = command.split_first() else {
        return vec!["a container has no command".to_owned()];
    };
    let Some(program) = program(path) else {
        return vec![format!("{path} is no program of ours")];
    };
    let mut faults = Vec::new();
    let arguments: Vec<String> = rest.iter().chain(&strings(container.get("args"))).cloned().collect();
    faults.extend(refused(&program, path, &arguments));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let command = strings(container.get(probe).and_then(|probe| probe.pointer("/exec/command")));
        if let Some((path, arguments)) = command.split_first() {
            faults.extend(refused(&program, path, arguments));
        }
    }
    let known = variables(&program);
    for variable in list(container, "env") {
        let name = variable.get("name").and_then(Value::as_str).unwrap_or_default();
        if !known.contains(name) && !GENERAL.contains(&name) {
            faults.push(format!("{path} reads no variable {name}"));
        }
    }
    faults
}

/// The flags of a program, which stand in its own code.
fn program(path: &str) -> Option<Command> {
    match path {
        "/propylon" => Some(propylon_cli::command()),
        "/propylon-controller" => Some(propylon_controller::command()),
        "/propylon-proxy" => Some(propylon_proxy::program::command()),
        _ => None,
    }
}

fn refused(program: &Command, path: &str, arguments: &[String]) -> Option<String> {
    let line = [path.to_owned()].into_iter().chain(arguments.iter().cloned());
    let error = program.clone().try_get_matches_from(line).err()?;
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    Some(format!("{path} {}: {first}", arguments.join(" ")))
}

/// The variables of the flags of a program and of its commands.
fn variables(program: &Command) -> BTreeSet<String> {
    let own = program.get_arguments().filter_map(|flag| flag.get_env()?.to_str());
    let mut names: BTreeSet<String> = own.map(ToOwned::to_owned).collect();
    for command in program.get_subcommands() {
        names.extend(variables(command));
    }
    names
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_and_variables_that_nobody_reads_are_found() {
        let probe = json!({"exec": {"command": ["/propylon-proxy", "probe", "redyz"]}});
        let container = json!({
            "command": ["/propylon-proxy"], "args": ["--htp=0.0.0.0:80"], "readinessProbe": probe,
            "env": [{"name": "PROPYLON_NODE"}, {"name": "PROPYLON_NOD"}],
        });
        let faults = container_faults(&container);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(
            faults[0].contains("--htp") && faults[1].contains("redyz") && faults[2].contains("PROPYLON_NOD"),
            "{faults:?}"
        );
        let right = json!({"command": ["/propylon-proxy"], "args": ["--http=0.0.0.0:80", "--http=[::]:80"]});
        assert_eq!(container_faults(&right), [""; 0]);
    }

    #[test]
    fn settings_are_read_as_the_controller_reads_them() {
        let document = |text: &str| Document {
            value: json!({"data": {"propylon.yaml": text}}),
        };
        assert!(matches!(
            settings(&document("lb: {pools: [{name: a, nodeAddresses: true}]}")),
            Some(Ok(_))
        ));
        let Some(Err(error)) = settings(&document("lb: {pols: []}")) else {
            panic!("an unknown field is taken");
        };
        assert!(error.contains("pols"), "{error}");
    }

    #[test]
    fn a_program_of_somebody_else_is_found() {
        assert_eq!(
            container_faults(&json!({"command": ["sh", "-c"]})),
            ["sh is no program of ours"]
        );
        assert_eq!(container_faults(&json!({})), ["a container has no command"]);
    }
}
