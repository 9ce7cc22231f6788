//! Applications, Ingresses and Secrets as users write them.

use propylon_testkit::certs::Leaf;
use serde_json::{Value, json};

use crate::image::catalog;

/// A Deployment of echo servers and its Service, port 80 and named `http`.
#[derive(Clone, Debug)]
pub struct App {
    /// Of both.
    pub name: String,
    /// Pods.
    pub replicas: usize,
    /// Further arguments of the echo server.
    pub arguments: Vec<String>,
    /// Whether the Service speaks HTTP/2 in the clear (`appProtocol: kubernetes.io/h2c`), as gRPC needs it.
    pub speaks_h2c: bool,
}

impl App {
    /// So many pods that serve for two seconds more after a signal to end.
    pub fn new(name: &str, replicas: usize) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            arguments: vec!["--shutdown-delay-ms=2000".to_owned()],
            speaks_h2c: false,
        }
    }

    /// The objects, as JSON that kubectl applies.
    pub fn manifest(&self) -> String {
        json!({"apiVersion": "v1", "kind": "List", "items": [self.deployment(), self.service()]}).to_string()
    }

    fn deployment(&self) -> Value {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut arguments = vec!["serve".to_owned(), format!("--name={}", self.name)];
        arguments.extend(self.arguments.iter().cloned());
        let container = json!({
            "name": "echo",
            "image": catalog::ECHO,
            "imagePullPolicy": "IfNotPresent",
            "args": arguments,
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("NODE_NAME", "spec.nodeName"),
            ],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
        });
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": {"app": self.name}},
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 30},
                },
            },
        })
    }

    fn service(&self) -> Value {
        let mut port = json!({"name": "http", "port": 80, "targetPort": 8080});
        if self.speaks_h2c
            && let Some(members) = port.as_object_mut()
        {
            members.insert("appProtocol".to_owned(), "kubernetes.io/h2c".into());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"selector": {"app": self.name}, "ports": [port]},
        })
    }
}

/// An Ingress of our class for everything of one host; with TLS from this Secret where one is named.
pub fn ingress(name: &str, host: &str, service: &str, secret: Option<&str>) -> Value {
    let backend = json!({"service": {"name": service, "port": {"name": "http"}}});
    let tls = secret.map_or_else(|| json!([]), |secret| json!([{"hosts": [host], "secretName": secret}]));
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "propylon",
            "tls": tls,
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}

/// A Secret of the type `kubernetes.io/tls`.
pub fn tls_secret(name: &str, leaf: &Leaf) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "stringData": {"tls.crt": leaf.cert_pem, "tls.key": leaf.key_pem},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_a_deployment_and_its_service() {
        let app = App {
            speaks_h2c: true,
            ..App::new("web", 2)
        };
        let list: Value = serde_json::from_str(&app.manifest()).unwrap();
        let [deployment, service] = [&list["items"][0], &list["items"][1]];
        assert_eq!(
            deployment["spec"]["template"]["metadata"]["labels"],
            service["spec"]["selector"]
        );
        assert_eq!(service["spec"]["ports"][0]["appProtocol"], "kubernetes.io/h2c");
        assert_eq!(deployment["spec"]["replicas"], 2);
    }

    #[test]
    fn an_ingress_has_tls_where_a_secret_is_named() {
        assert_eq!(ingress("a", "a.example", "web", None)["spec"]["tls"], json!([]));
        let tls = &ingress("a", "a.example", "web", Some("cert"))["spec"]["tls"][0];
        assert_eq!(tls, &json!({"hosts": ["a.example"], "secretName": "cert"}));
    }
}
