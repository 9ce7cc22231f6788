use clap::{CommandFactory as _, Parser};

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ControllerArgs,
}

fn config(flags: &[&str]) -> Config {
    let flags = std::iter::once("propylon-controller").chain(flags.iter().copied());
    Command::try_parse_from(flags).unwrap().args.into_config("host-1")
}

fn settings(flags: &[&str], file: &str) -> Result<Settings, String> {
    let file = ConfigFile::parse(file)?;
    Settings::new(config(flags).flags.or(file)).map_err(|error| error.to_string())
}

#[test]
fn every_flag_has_an_environment_variable() {
    let command = Command::command();
    command.clone().debug_assert();
    for flag in command.get_arguments().filter(|flag| flag.get_id() != "help") {
        assert!(flag.get_env().is_some(), "{}", flag.get_id());
    }
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let file = "ingressClasses: [a]\nstatus: {mode: Never}\npublishService: x/y\nlb: {serveClassless: false}\n";
    let both = settings(&["--status-mode", "Yield", "--ingress-class", "b,c"], file).unwrap();
    assert_eq!(both.ingress_classes, ["b", "c"]);
    assert_eq!(both.status_mode, StatusMode::Yield);
    assert_eq!(both.publish_service, Some(Key::new("x", "y")));
    assert!(!both.lb.serve_classless);
    let default = settings(&[], "").unwrap();
    assert_eq!(default.status_mode, StatusMode::Always);
    assert!(default.lb.serve_classless && !default.external_name && !default.allow_local_endpoints);
    assert_eq!(config(&[]).pod_name, "host-1");
}

#[test]
fn pools_of_the_file_keep_their_spec_for_their_owner() {
    let file = "lb:\n  pools:\n  - name: edge\n    addresses: [192.0.2.0/28]\n    autoAssign: true\n";
    let settings = settings(&[], file).unwrap();
    let pool = &settings.lb.pools[0];
    assert_eq!(pool.name, "edge");
    assert_eq!(pool.spec["addresses"], serde_json::json!(["192.0.2.0/28"]));
    assert_eq!(pool.spec["autoAssign"], serde_json::json!(true));
}

#[test]
fn what_is_wrong_in_the_file_is_named() {
    let unknown = settings(&[], "ingresClasses: [a]\n").unwrap_err();
    assert!(unknown.contains("ingresClasses"), "{unknown}");
    let name = settings(&[], "publishService: web\n").unwrap_err();
    assert!(name.contains("'web': write NAMESPACE/NAME"), "{name}");
    let ports = settings(&[], "lb: {nodeAddressPorts: ['9000-80']}\n").unwrap_err();
    assert!(ports.contains("'9000-80'"), "{ports}");
}

#[test]
fn the_default_ports_leave_out_those_of_kubernetes_and_ours() {
    let settings = settings(&[], "").unwrap();
    let open = |port: u16| settings.lb.node_address_ports.iter().any(|range| range.contains(port));
    for port in [
        80, 443, 1023, 2379, 2380, 6443, 7443, 7444, 8081, 9902, 9903, 10248, 10250, 10256, 10259, 30000,
    ] {
        assert!(!open(port), "{port}");
    }
    for port in [1024, 5432, 8080, 9000, 29999] {
        assert!(open(port), "{port}");
    }
}
