//! A world that changes: what is made anew is what making everything anew gives.

use std::{collections::BTreeSet, net::IpAddr};

use proptest::prelude::*;
use propylon_model::{Kind, Resources};
use propylon_translate::{
    Compiler, Key, Memory, Options, ReportsByObject,
    admit::admit,
    cluster::{Node, Pod},
    compile,
    manifest::{Object, parse},
};

use crate::objects::{object, object_on_host, options};

/// What happens to a world.
#[derive(Clone, Debug)]
enum Change {
    Insert(String),
    /// Nodes, pods and grants come and go.
    Cluster(u8),
    /// The options become other ones.
    Options(u8),
    Remove(usize, usize, usize),
    /// Only time goes by.
    Wait,
}

const KINDS: [Kind; 6] = [
    Kind::Ingress,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::IngressClass,
];

fn change(object: impl Strategy<Value = String>) -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => object.prop_map(Change::Insert),
        4 => (0..KINDS.len(), 0..3usize, 0..2usize).prop_map(|(kind, name, namespace)| Change::Remove(kind, name, namespace)),
        2 => any::<u8>().prop_map(Change::Cluster),
        1 => (0..4u8).prop_map(Change::Options),
        1 => Just(Change::Wait),
    ]
}

/// Puts or removes something that decides about addresses or names of other namespaces.
fn cluster(choice: u8, compiler: &mut Compiler) {
    let addresses: BTreeSet<IpAddr> = [IpAddr::from([10, 0, 0, choice / 8 % 4 + 1])].into();
    let name = ["a", "b"][usize::from(choice / 32 % 2)];
    let namespace = ["x1", "y1"][usize::from(choice / 64 % 2)];
    let key = Key::new(namespace, name);
    match choice % 8 {
        0 => drop(compiler.remove(Kind::Node, &Key::new("", name))),
        1 => drop(compiler.remove(Kind::Pod, &key)),
        2 => drop(compiler.remove(Kind::ReferenceGrant, &key)),
        3 | 4 => compiler.insert(Object::Node(Box::new(Node {
            name: name.to_owned(),
            addresses,
        }))),
        5 | 6 => compiler.insert(Object::Pod(Box::new(Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses,
            host_network: true,
        }))),
        _ => {
            let text = format!(
                "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: {name}, namespace: \
                 {namespace}}}, spec: {{from: [{{group: networking.k8s.io, kind: Ingress, namespace: x1}}, {{kind: Service, \
                 namespace: y1}}], to: [{{kind: Secret, name: a}}]}}}}"
            );
            apply(&Change::Insert(text), compiler, &mut options());
        }
    }
}

fn other_options(choice: u8) -> Options {
    let options = options();
    match choice {
        0 => options,
        1 => Options {
            local_addresses: ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()].into(),
            ..options
        },
        2 => Options {
            ingress_classes: vec!["a".to_owned()],
            default_tls_secret: None,
            ..options
        },
        _ => Options {
            external_name: false,
            tcp_services: None,
            default_tls_secret: Some(Key::new("y1", "b")),
            ..options
        },
    }
}

fn apply(change: &Change, compiler: &mut Compiler, wanted: &mut Options) {
    match change {
        Change::Cluster(choice) => cluster(*choice, compiler),
        Change::Insert(text) => {
            for object in parse(text) {
                let object: Object = admit(object.unwrap()).unwrap();
                compiler.insert(object);
            }
        }
        Change::Options(choice) => {
            *wanted = other_options(*choice);
            compiler.set_options(wanted.clone());
        }
        Change::Remove(kind, name, namespace) => {
            let kind = KINDS[*kind];
            let namespace = if kind == Kind::IngressClass {
                ""
            } else {
                ["x1", "y1"][*namespace]
            };
            compiler.remove(kind, &Key::new(namespace, ["a", "b", "c"][*name]));
        }
        Change::Wait => {}
    }
}

/// Steps of some changes each, and the time at which each is compiled.
type Steps = Vec<(Vec<Change>, i64)>;

fn steps(object: impl Strategy<Value = String>) -> impl Strategy<Value = Steps> {
    let changes = prop::collection::vec(change(object), 1..4);
    prop::collection::vec((changes, 0..200_000_000i64), 1..24)
}

/// Goes through all steps with a compiler, and compares with what making everything anew gives.
fn check(steps: Steps, mut wanted: Options) -> Result<(), TestCaseError> {
    let mut compiler = Compiler::new(wanted.clone());
    let mut memory = Memory::default();
    let (mut live, mut said) = (Resources::default(), ReportsByObject::new());
    for (changes, later_s) in steps {
        for change in &changes {
            apply(change, &mut compiler, &mut wanted);
        }
        let now_unix_s = 1_750_000_000 + later_s;
        let step = compiler.compile(now_unix_s);
        for (name, group) in &step.delta.groups {
            prop_assert!(live.groups.get(name) != group.as_ref(), "{name} did not change");
        }
        live.apply(&step.delta);
        for (object, reports) in step.reports {
            if reports.is_empty() {
                prop_assert!(said.remove(&object).is_some(), "{object} had none");
            } else {
                said.insert(object, reports);
            }
        }
        let options = Options {
            now_unix_s,
            ..wanted.clone()
        };
        let compiled = compile(compiler.world(), &options, &mut memory);
        prop_assert_eq!(&compiled.resources, compiler.resources());
        prop_assert_eq!(&compiled.resources, &live);
        let reports: Vec<_> = said.values().flat_map(|reports| reports.iter()).cloned().collect();
        prop_assert_eq!(&compiled.reports, &reports);
        prop_assert_eq!(&said, compiler.reports());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_made_anew_is_what_everything_anew_gives(steps in steps(object())) {
        check(steps, options())?;
    }

    #[test]
    fn hosts_are_made_anew_as_everything_anew_gives(steps in steps(object_on_host())) {
        let options = Options { default_tls_secret: None, ..options() };
        check(steps, options)?;
    }
}
