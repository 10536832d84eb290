//! The advice's snippets, given to the programs that they are for.

#[path = "snippets/hyper.rs"]
#[allow(unreachable_pub, reason = "a snippet is pasted where it is reachable")]
mod hyper_server;
#[path = "snippets/keeplive.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod keeplive_pool;
#[path = "snippets/reqwest.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod reqwest_client;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keeplive::advice::snippets::{Snippet, snippets};
use keeplive::advice::{Ordering, TcpKeepalive};

use crate::support::process;

fn seconds(client: f64, proxy: f64, here: f64, behind: f64) -> Ordering {
    let [client, proxy, here, behind] = [client, proxy, here, behind].map(Duration::from_secs_f64);
    Ordering { client, proxy, here, behind }
}

/// For a timer of 75 s, and for one so short that its advice has tenths of a second.
fn orders() -> [Ordering; 2] {
    [seconds(74.0, 68.0, 75.0, 83.0), seconds(2.5, 2.5, 3.5, 9.0)]
}

fn all(order: &Ordering) -> Vec<Snippet> {
    let every = Duration::from_secs(25);
    let user_timeout = every * 4;
    snippets(order, Some(TcpKeepalive { idle: every, interval: every, count: 3, user_timeout }))
}

fn text(order: &Ordering, product: &str) -> String {
    let found = all(order).into_iter().find(|one| one.product == product);
    found.unwrap_or_else(|| panic!("no snippet for {product}")).text
}

/// Runs a check of the program and expects it to be content.
fn accepts(program: &str, package: &str, arguments: &[&str], file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    let mut command: Command = process::command(None, program, package);
    let output = command.args(arguments).arg(file).current_dir(file.parent().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}\n{text}");
    assert!(!said.to_lowercase().contains("warning"), "{program}: {said}\n{text}");
}

#[test]
fn nginx_accepts_its_snippet() {
    let folder = tempfile::tempdir().unwrap();
    for order in orders() {
        let config = format!(
            "pid {}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{}}}\n",
            folder.path().display(),
            text(&order, "nginx").replace("    location /", "    listen 127.0.0.1:8000;\n    location /")
        );
        let file = folder.path().join("nginx.conf");
        accepts("nginx", "nginx-light", &["-t", "-q", "-c"], &file, &config);
    }
}

#[test]
fn haproxy_accepts_its_snippet() {
    let folder = tempfile::tempdir().unwrap();
    for order in orders() {
        let file = folder.path().join("haproxy.cfg");
        accepts("haproxy", "haproxy", &["-c", "-q", "-f"], &file, &text(&order, "HAProxy"));
    }
}

#[test]
fn apache_accepts_its_snippet() {
    let folder = tempfile::tempdir().unwrap();
    let module = |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_http"].map(module).concat();
    let order = orders()[0];
    let own = format!("ServerName localhost\nServerRoot {0}\nPidFile {0}/pid\n", folder.path().display());
    let config = format!(
        "{own}ErrorLog /dev/stderr\nListen 127.0.0.1:8000\n{modules}{}",
        text(&order, "Apache httpd")
    );
    accepts("apache2", "apache2-bin", &["-t", "-f"], &folder.path().join("apache.conf"), &config);
}

#[test]
fn caddy_accepts_its_snippet() {
    let folder = tempfile::tempdir().unwrap();
    for order in orders() {
        let arguments = ["adapt", "--validate", "--adapter", "caddyfile", "--config"];
        let file = folder.path().join("Caddyfile");
        std::fs::write(&file, text(&order, "Caddy")).unwrap();
        let mut command = process::command(None, "caddy", "caddy");
        command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path());
        let output = command.args(arguments).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let adapted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let idle = adapted.pointer("/apps/http/servers/srv0/idle_timeout").and_then(|it| it.as_u64());
        assert_eq!(idle, Some(u64::try_from(order.behind.as_nanos()).unwrap()), "{adapted}");
    }
}

#[test]
fn node_accepts_its_snippets() {
    let folder = tempfile::tempdir().unwrap();
    for order in orders() {
        for product in ["Node.js server", "Node.js undici (fetch)"] {
            let file = folder.path().join("snippet.mjs");
            accepts("node", "nodejs", &["--check"], &file, &text(&order, product));
        }
    }
}

#[test]
fn go_accepts_its_snippet_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    for order in orders() {
        let snippet = text(&order, "Go");
        let file = folder.path().join("snippet.go");
        std::fs::write(&file, &snippet).unwrap();
        let formatted = process::command(None, "gofmt", "golang-go").arg("-d").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&formatted.stdout) + String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success() && said.is_empty(), "{said}");
        // Whoever pastes it has a program around it.
        let program = format!("{snippet}\nfunc main() {{\n\t_, _ = server, client()\n}}\n");
        std::fs::write(&file, &program).unwrap();
        let mut vet = process::command(None, "go", "golang-go");
        vet.args(["vet", "snippet.go"]).current_dir(folder.path());
        vet.env("HOME", folder.path()).env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
        let output = vet.output().unwrap();
        assert!(output.status.success(), "{}\n{program}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn shells_accept_their_snippets() {
    let folder = tempfile::tempdir().unwrap();
    for product in ["AWS Application Load Balancer", "TCP keepalive"] {
        accepts("bash", "bash", &["-n"], &folder.path().join("snippet.sh"), &text(&orders()[0], product));
    }
}

/// The one value at a path of keys, in any document of a YAML text.
fn yaml(text: &str, path: &[&str]) -> String {
    use saphyr::{LoadableYamlNode, Yaml};
    let documents = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let found = documents.iter().find_map(|document| {
        path.iter().try_fold(document, |node, key| node.as_mapping_get(key)).and_then(|node| {
            node.as_str().map(str::to_owned).or_else(|| node.as_integer().map(|number| number.to_string()))
        })
    });
    found.unwrap_or_else(|| panic!("no {path:?} in:\n{text}"))
}

#[test]
fn yaml_snippets_are_yaml_with_the_numbers_in_their_places() {
    let [long, short] = orders();
    let envoy = [
        "typed_extension_protocol_options",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options",
        "idle_timeout",
    ];
    assert_eq!(yaml(&text(&long, "Envoy"), &envoy), "68s");
    assert_eq!(yaml(&text(&short, "Envoy"), &envoy), "2.500s", "protobuf's durations have no ms");
    assert_eq!(yaml(&text(&long, "Envoy"), &envoy[2..]), "83s");
    let traefik = text(&short, "Traefik");
    assert_eq!(yaml(&traefik, &["serversTransport", "forwardingTimeouts", "idleConnTimeout"]), "2500ms");
    let web = ["entryPoints", "web", "transport", "respondingTimeouts", "idleTimeout"];
    assert_eq!(yaml(&traefik, &web), "9s");
    let ingress = text(&long, "Kubernetes ingress-nginx");
    assert_eq!(yaml(&ingress, &["data", "keep-alive"]), "83");
    assert_eq!(yaml(&ingress, &["data", "upstream-keepalive-timeout"]), "68");
}

#[test]
fn rust_snippets_are_compiled_and_run() {
    let order = orders()[0];
    assert_eq!(text(&order, "keeplive"), include_str!("snippets/keeplive.rs"));
    assert_eq!(text(&order, "hyper server"), include_str!("snippets/hyper.rs"));
    assert_eq!(text(&order, "reqwest"), include_str!("snippets/reqwest.rs"));
    keeplive_pool::pool().unwrap();
    reqwest_client::client().unwrap();
    let _ = hyper_server::server();
}

#[test]
fn a_timer_below_what_a_product_can_express_has_no_snippet_for_it() {
    let products = |order| all(&order).iter().map(|one| one.product).collect::<Vec<_>>();
    let short = products(seconds(0.5, 0.5, 1.0, 6.0));
    for product in ["Apache httpd", "AWS Application Load Balancer", "Kubernetes ingress-nginx"] {
        assert!(!short.contains(&product), "{product} knows whole seconds only");
        assert!(products(orders()[0]).contains(&product));
    }
}
