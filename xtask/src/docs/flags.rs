//! The page of the flags.

use clap::{Arg, Args as _, Command};
use propylon_proxy::config::DataPlaneArgs;

use super::table::{self, code, table};

/// Flags of the programs by command; those of the data plane once.
pub(super) fn page() -> String {
    let data_plane = DataPlaneArgs::augment_args(Command::new("data-plane"));
    // Another command may have a flag of the same name that means something else, or has another default.
    let is_same = |one: &Arg, other: &Arg| {
        one.get_id() == other.get_id()
            && plain_help(one) == plain_help(other)
            && one.get_default_values() == other.get_default_values()
    };
    let is_shared = |flag: &Arg| data_plane.get_arguments().any(|shared| is_same(shared, flag));
    let mut parts = vec![
        "Every flag of `propylon run`, `propylon-controller` and `propylon-proxy` is also an environment variable; the flag wins. Lists are separated by commas, \
         and repeatable flags may be given several times. Durations are written `250ms`, `10s`, `5m`, `1h`."
            .to_owned(),
    ];
    let mut section = |title: &str, command: &Command| {
        parts.push(format!("## `{title}`\n\n{}.", about(command).trim_end_matches('.')));
        let own: Vec<&Arg> = shown(command).filter(|flag| !is_shared(flag)).collect();
        let shares = shown(command).any(is_shared);
        if !own.is_empty() {
            parts.push(flag_table(own));
        }
        if shares {
            parts.push("Also the flags of the data plane, below.".to_owned());
        }
    };
    for command in propylon_cli::command().get_subcommands() {
        section(&format!("propylon {}", command.get_name()), command);
    }
    for program in [propylon_controller::command(), propylon_proxy::program::command()] {
        section(program.get_name(), &program);
        // `serve` is what a program does without a command.
        for command in program
            .get_subcommands()
            .filter(|command| command.get_name() != "serve")
        {
            section(&format!("{} {}", program.get_name(), command.get_name()), command);
        }
    }
    parts.push("## Data plane\n\nShared by `propylon run` and the proxy in a cluster.".to_owned());
    parts.push(flag_table(shown(&data_plane).collect()));
    let sources = "the `Args` structs of `cli/src`, `controller/src` and `proxy/src`";
    table::page("Flags", sources, &parts)
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn plain_help(flag: &Arg) -> Option<String> {
    flag.get_help().map(ToString::to_string)
}

/// The flags that help shows, without help itself.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_own = |flag: &&Arg| !flag.is_hide_set() && !matches!(flag.get_id().as_str(), "help" | "version");
    command.get_arguments().filter(is_own)
}

fn flag_table(flags: Vec<&Arg>) -> String {
    let rows = flags.into_iter().map(|flag| {
        [
            code(&name(flag)),
            default(flag),
            flag.get_env()
                .and_then(|name| name.to_str())
                .map(code)
                .unwrap_or_default(),
            flag.get_help().map(ToString::to_string).unwrap_or_default(),
        ]
    });
    table(["flag", "default", "environment", "meaning"], rows)
}

/// The flag with the names of its values, or with its values where they are a choice.
fn name(flag: &Arg) -> String {
    let Some(long) = flag.get_long() else {
        let names = flag.get_value_names().unwrap_or_default();
        return names
            .first()
            .map_or_else(|| flag.get_id().to_string(), ToString::to_string);
    };
    let short = flag.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    if !flag.get_action().takes_values() {
        return format!("{short}--{long}");
    }
    let choice: Vec<String> = flag
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    if choice.is_empty() {
        let names = flag.get_value_names().unwrap_or_default();
        return format!(
            "{short}--{long} {}",
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        );
    }
    format!("{short}--{long} {}", choice.join("|"))
}

/// The default value; a flag that is a switch has none.
fn default(flag: &Arg) -> String {
    if !flag.get_action().takes_values() {
        return String::new();
    }
    let values: Vec<String> = flag
        .get_default_values()
        .iter()
        .map(|value| code(&value.to_string_lossy()))
        .collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_their_values_and_defaults() {
        let text = page();
        for row in [
            "| `--manifests DIR` |",
            "| `--access-log-format json\\|upstreaminfo` | `json` | `PROPYLON_ACCESS_LOG_FORMAT` |",
            "| `--max-headers N` | `100` | `PROPYLON_MAX_HEADERS` |",
            "| `--once` |  | `PROPYLON_ONCE` |",
            "| `--ca-lifetime DURATION` | `8760h` | `PROPYLON_CA_LIFETIME` |",
            "| `--http ADDR:PORT` | `0.0.0.0:80`, `[::]:80` | `PROPYLON_HTTP` |",
            "| `--token-file FILE` |",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
        assert_eq!(
            text.matches("`--workers N`").count(),
            1,
            "the data plane's flags stand once"
        );
        assert!(!text.contains("--help"));
    }
}
