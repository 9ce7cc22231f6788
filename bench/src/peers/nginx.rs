//! nginx: one worker, one `server` per host, `keepalive` to the backend; TCP and UDP by its stream module, where that
//! is installed.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::Site;
use crate::procs::Launch;

pub(super) fn launch(site: &Site<'_>, program: &Path) -> Result<Launch> {
    let config = site.write("nginx.conf", &config(site)?)?;
    let args = vec!["-p".into(), site.dir.clone().into(), "-c".into(), config.into()];
    Ok(site.launch("nginx", program, args))
}

fn config(site: &Site<'_>) -> Result<String> {
    let lab = site.lab;
    let log = if lab.access_log {
        format!("{} combined", site.path_text("access.log"))
    } else {
        "off".to_owned()
    };
    let module = Path::new(STREAM_MODULE);
    let load = if module.is_file() {
        format!("load_module {STREAM_MODULE};\n")
    } else {
        eprintln!(
            "nginx has no stream module and is left out for layer 4 ({})",
            crate::tools::PACKAGES
        );
        String::new()
    };
    let mut text = format!(
        "{load}user root;\ndaemon off;\nmaster_process {master};\nworker_processes 1;\nworker_rlimit_nofile {files};\n\
         pid {pid};\nerror_log {error_log} warn;\nevents {{ worker_connections 16384; }}\n",
        master = if site.single_process { "off" } else { "on" },
        files = lab.open_files,
        pid = site.path_text("pid"),
        error_log = site.path_text("error.log"),
    );
    write!(
        text,
        "http {{\n\
         access_log {log};\n\
         client_body_temp_path {body_temp};\nproxy_temp_path {proxy_temp};\nfastcgi_temp_path {other_temp};\n\
         uwsgi_temp_path {other_temp};\nscgi_temp_path {other_temp};\n\
         client_body_buffer_size 64k;\nsendfile on;\ntcp_nodelay on;\n\
         keepalive_timeout 75s;\nkeepalive_requests 1000000000;\n\
         server_names_hash_max_size 8192;\nserver_names_hash_bucket_size 128;\n\
         ssl_certificate {cert};\nssl_certificate_key {key};\nssl_protocols TLSv1.3;\nssl_ecdh_curve X25519;\n\
         ssl_session_tickets on;\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Real-IP $remote_addr;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\nproxy_set_header X-Forwarded-Host $http_host;\n\
         proxy_set_header X-Forwarded-Port $server_port;\nproxy_set_header X-Request-ID $request_id;\n\
         upstream echo {{ server {backend}; keepalive 512; keepalive_requests 1000000000; }}\n",
        body_temp = site.path_text("body"),
        proxy_temp = site.path_text("proxy"),
        other_temp = site.path_text("other"),
        cert = lab.certs.cert.display(),
        key = lab.certs.key.display(),
        backend = lab.backend_addr,
    )?;
    for host in &lab.hosts {
        writeln!(
            text,
            "server {{ listen {}; listen {} ssl http2; server_name {host}; location / {{ proxy_pass http://echo; }} }}",
            site.http, site.https,
        )?;
    }
    text.push_str("}\n");
    if !load.is_empty() {
        stream(site, &mut text)?;
    }
    Ok(text)
}

fn stream(site: &Site<'_>, text: &mut String) -> Result<()> {
    let (listen, backend) = (site.stream, site.lab.backend_addr);
    let log = if site.lab.access_log {
        format!("{} l4", site.path_text("stream.log"))
    } else {
        "off".to_owned()
    };
    write!(
        text,
        "stream {{\nlog_format l4 '$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received \
         $session_time \"$upstream_addr\"';\naccess_log {log};\ntcp_nodelay on;\nproxy_timeout 60s;\n\
         server {{ listen {listen}; proxy_pass {backend}; }}\n\
         server {{ listen {listen} udp reuseport; proxy_pass {backend}; }}\n}}\n"
    )?;
    Ok(())
}

/// Where Debian's `libnginx-mod-stream` puts it.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
