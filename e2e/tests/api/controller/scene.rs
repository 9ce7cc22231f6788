//! A release beside an API server, and what the tests ask of it.

use std::{path::PathBuf, time::Duration};

use propylon_e2e::{
    lab::{ApiServer, Release, Running},
    programs,
};
use propylon_testkit::wait;

/// Far above what anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct Scene<'s> {
    pub(super) release: Release<'s>,
    server: &'s ApiServer,
}

impl<'s> Scene<'s> {
    /// The chart's accounts and rights; the class `propylon` and a Service without endpoints, `default/web`.
    pub(super) async fn install(server: &'s ApiServer) -> Self {
        let release = Release::install(server, &binaries(), &[]).await.unwrap();
        let scene = Self { release, server };
        scene.kubectl(&[
            "create",
            "service",
            "clusterip",
            "web",
            "--tcp=80:8080",
            "--namespace=default",
        ]);
        scene
    }

    /// Runs kubectl, which must succeed; what it printed.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> String {
        let finished = self.server.kubectl(arguments);
        assert!(finished.succeeded(), "kubectl {arguments:?}: {}", finished.text());
        finished.stdout()
    }

    /// Makes an Ingress of one host for the Service without endpoints.
    pub(super) fn ingress(&self, name: &str, host: &str) {
        let rule = format!("{host}/*=web:80");
        let rule = format!("--rule={rule}");
        self.kubectl(&[
            "create",
            "ingress",
            name,
            "--class=propylon",
            &rule,
            "--namespace=default",
        ]);
    }

    /// The status that the proxy answers with: 404 where it does not know the host, 503 where it does.
    pub(super) fn code(&self, proxy: &Running, host: &str) -> String {
        let url = format!("http://{}/", proxy.address);
        let header = format!("Host: {host}");
        programs::curl(&[
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--header",
            &header,
            &url,
        ])
        .stdout()
    }

    pub(super) fn until_served(&self, proxy: &Running, host: &str) {
        let served = wait::until(PATIENCE, || self.code(proxy, host) == "503");
        assert!(
            served.is_some(),
            "{host} answers {}\n{}",
            self.code(proxy, host),
            proxy.log()
        );
    }

    pub(super) fn leads(&self, controller: &Running) -> bool {
        self.metric(controller, "propylon_leader ") == Some(1.0)
    }

    /// The value of the first series that begins so.
    pub(super) fn metric(&self, controller: &Running, series: &str) -> Option<f64> {
        let metrics = controller.metrics();
        let line = metrics.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// All that it logged.
    pub(super) fn log(&self, controller: &Running) -> String {
        let file = self.release.folder().join(format!("{}.log", controller.pod));
        std::fs::read_to_string(file).unwrap()
    }

    pub(super) fn is_ready(&self, controller: &Running) -> bool {
        programs::curl(&["--fail", &format!("http://{}/readyz", controller.status)]).succeeded()
    }
}

/// The folder of the built binaries, as `cargo xtask test api` names it.
fn binaries() -> PathBuf {
    let named = std::env::var_os("PROPYLON_BIN_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().to_owned()
    })
}
