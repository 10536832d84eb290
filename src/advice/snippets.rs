//! Settings to paste, with the numbers of an [`Ordering`]: for what stands behind the probed hop, and for what
//! connects to it. The tests give each to the program that it is for, where a system package has that.

use std::time::Duration;

use serde::Serialize;

use super::{Ordering, TcpKeepalive};

/// A piece of configuration or code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snippet {
    /// What it is for.
    pub product: &'static str,
    /// Its language, as a highlighter names it.
    pub language: &'static str,
    /// The text, with comments that say which side is which.
    pub text: String,
}

/// Settings for every product that we know them of. Where the numbers are below what a product can express (whole
/// seconds), it is left out.
pub fn snippets(order: &Ordering, keepalive: Option<TcpKeepalive>) -> Vec<Snippet> {
    let sides = Sides::of(order);
    let mut all = vec![nginx(&sides), haproxy(&sides), envoy(&sides)];
    all.extend(apache(&sides));
    all.extend([caddy(&sides), traefik(&sides), node(&sides), undici(&sides), go(&sides)]);
    all.extend([hyper(&sides), reqwest(&sides, keepalive), keeplive(&sides)]);
    all.extend(alb(&sides));
    all.extend(ingress_nginx(&sides));
    all.extend(keepalive.map(sysctl));
    all
}

/// The numbers of an ordering, in the units that configurations want.
struct Sides {
    client: Duration,
    proxy: Duration,
    behind: Duration,
}

impl Sides {
    fn of(order: &Ordering) -> Sides {
        Sides { client: order.client, proxy: order.proxy, behind: order.behind }
    }

    /// The proxy's side in whole seconds, rounded down; `None` below one.
    fn proxy_seconds(&self) -> Option<u64> {
        Some(self.proxy.as_secs()).filter(|seconds| *seconds > 0)
    }
}

/// `74s` or `500ms`: the form that nginx, HAProxy, Caddy and Traefik share.
fn unit(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

fn rust(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("Duration::from_secs({})", duration.as_secs()),
        _ => format!("Duration::from_millis({})", duration.as_millis()),
    }
}

fn go_time(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} * time.Second", duration.as_secs()),
        _ => format!("{} * time.Millisecond", duration.as_millis()),
    }
}

fn nginx(sides: &Sides) -> Snippet {
    let (behind, proxy) = (unit(sides.behind), unit(sides.proxy));
    let text = format!(
        r#"# behind the probed hop, in http or server
keepalive_timeout {behind};

# in front of it
upstream probed {{
    server 127.0.0.1:8080;
    keepalive 32;
    keepalive_timeout {proxy};
}}
server {{
    location / {{
        proxy_pass http://probed;
        proxy_http_version 1.1;           # the default since 1.29.7
        proxy_set_header Connection "";   # likewise
    }}
}}
"#
    );
    Snippet { product: "nginx", language: "nginx", text }
}

fn haproxy(sides: &Sides) -> Snippet {
    let behind = unit(sides.behind);
    // Half of the idle connections go at every interval.
    let purge = unit(Duration::from_secs((sides.proxy / 4).as_secs().max(1)));
    let text = format!(
        r"defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    # behind the probed hop
    timeout http-keep-alive {behind}

frontend here
    bind 127.0.0.1:8000
    default_backend probed

# in front of it: there is no idle timeout on this side; half of the idle
# connections are closed at every interval, and a client's first request never
# goes on a reused one
backend probed
    http-reuse safe
    server s1 127.0.0.1:8080 pool-purge-delay {purge}
"
    );
    Snippet { product: "HAProxy", language: "haproxy", text }
}

fn envoy(sides: &Sides) -> Snippet {
    let seconds = |duration: Duration| match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    };
    let (behind, proxy) = (seconds(sides.behind), seconds(sides.proxy));
    let text = format!(
        r#"# behind the probed hop: in the HttpConnectionManager
common_http_protocol_options:
  idle_timeout: {behind}
---
# in front of it: in the cluster
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    common_http_protocol_options:
      idle_timeout: {proxy}
    explicit_http_config:
      http_protocol_options: {{}}
"#
    );
    Snippet { product: "Envoy", language: "yaml", text }
}

fn apache(sides: &Sides) -> Option<Snippet> {
    let (behind, proxy) = (sides.behind.as_secs(), sides.proxy_seconds()?);
    let text = format!(
        r#"# behind the probed hop
KeepAlive On
KeepAliveTimeout {behind}

# in front of it (mod_proxy_http)
ProxyPass "/" "http://127.0.0.1:8080/" ttl={proxy}
"#
    );
    Some(Snippet { product: "Apache httpd", language: "apache", text })
}

fn caddy(sides: &Sides) -> Snippet {
    let (behind, proxy) = (unit(sides.behind), unit(sides.proxy));
    let text = format!(
        "{{
\tservers {{
\t\ttimeouts {{
\t\t\t# behind the probed hop
\t\t\tidle {behind}
\t\t}}
\t}}
}}

:8000 {{
\treverse_proxy 127.0.0.1:8080 {{
\t\ttransport http {{
\t\t\t# in front of it
\t\t\tkeepalive {proxy}
\t\t}}
\t}}
}}
"
    );
    Snippet { product: "Caddy", language: "caddyfile", text }
}

fn traefik(sides: &Sides) -> Snippet {
    let (behind, proxy) = (unit(sides.behind), unit(sides.proxy));
    let text = format!(
        r#"# static configuration
entryPoints:
  web:
    address: ":8000"
    transport:
      respondingTimeouts:
        idleTimeout: {behind} # behind the probed hop
serversTransport:
  forwardingTimeouts:
    idleConnTimeout: {proxy} # in front of it
"#
    );
    Snippet { product: "Traefik", language: "yaml", text }
}

fn node(sides: &Sides) -> Snippet {
    let behind = sides.behind.as_millis();
    let text = format!(
        r"import {{ createServer }} from 'node:http';

// behind the probed hop
const server = createServer((request, response) => response.end('hello'));
server.keepAliveTimeout = {behind};
server.headersTimeout = {}; // must be the longer one before Node.js 18.2
",
        behind + 1000
    );
    Snippet { product: "Node.js server", language: "js", text }
}

fn undici(sides: &Sides) -> Snippet {
    let client = sides.client.as_millis();
    let text = format!(
        r"import {{ Agent, setGlobalDispatcher }} from 'undici';

// a client of the probed hop; a shorter timeout that the server announces is kept, less the threshold
setGlobalDispatcher(new Agent({{
  keepAliveTimeout: {client},
  keepAliveMaxTimeout: {client},
  keepAliveTimeoutThreshold: 2000,
}}));
"
    );
    Snippet { product: "Node.js undici (fetch)", language: "js", text }
}

fn go(sides: &Sides) -> Snippet {
    let (behind, client) = (go_time(sides.behind), go_time(sides.client));
    let text = format!(
        r#"package main

import (
	"net/http"
	"time"
)

// behind the probed hop
var server = &http.Server{{
	IdleTimeout:       {behind},
	ReadHeaderTimeout: 10 * time.Second,
}}

// a client of it
func client() *http.Client {{
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.IdleConnTimeout = {client}
	return &http.Client{{Transport: transport}}
}}
"#
    );
    Snippet { product: "Go", language: "go", text }
}

fn hyper(sides: &Sides) -> Snippet {
    let behind = rust(sides.behind);
    let text = format!(
        r"use std::time::Duration;

use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioTimer;

/// Behind the probed hop. Since hyper 1.6 this is the idle timeout, too; without a timer there is none.
pub fn server() -> Builder {{
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout({behind});
    server
}}
"
    );
    Snippet { product: "hyper server", language: "rust", text }
}

fn reqwest(sides: &Sides, keepalive: Option<TcpKeepalive>) -> Snippet {
    let mut calls = format!("        .pool_idle_timeout({})\n", rust(sides.client));
    match keepalive {
        Some(it) => calls.push_str(&format!(
            "        .tcp_keepalive({})\n        .tcp_keepalive_interval({})\n        .tcp_keepalive_retries({})\n",
            rust(it.idle),
            rust(it.interval),
            it.count
        )),
        None => calls.push_str("        // no TCP keepalive: it was not shown to help on this path\n"),
    }
    let text = format!(
        r"use std::time::Duration;

/// A client of the probed hop.
pub fn client() -> reqwest::Result<reqwest::Client> {{
    reqwest::Client::builder()
{calls}        .build()
}}
"
    );
    Snippet { product: "reqwest", language: "rust", text }
}

fn keeplive(sides: &Sides) -> Snippet {
    let client = rust(sides.client);
    let text = format!(
        r"use std::time::Duration;

use keeplive::{{Error, Pool, PoolConfig}};

/// A client of the probed hop.
pub fn pool() -> Result<Pool, Error> {{
    Pool::new(PoolConfig::default().idle_timeout(Some({client})))
}}
"
    );
    Snippet { product: "keeplive", language: "rust", text }
}

/// An ALB may be told 1 to 4000 seconds.
fn alb(sides: &Sides) -> Option<Snippet> {
    let proxy = sides.proxy_seconds()?.min(4000);
    let text = format!(
        r#"# in front of the probed hop; the balancer has one timeout for both of its sides
aws elbv2 modify-load-balancer-attributes \
  --load-balancer-arn "$LOAD_BALANCER_ARN" \
  --attributes Key=idle_timeout.timeout_seconds,Value={proxy}
"#
    );
    Some(Snippet { product: "AWS Application Load Balancer", language: "sh", text })
}

fn ingress_nginx(sides: &Sides) -> Option<Snippet> {
    let (behind, proxy) = (sides.behind.as_secs(), sides.proxy_seconds()?);
    let text = format!(
        r#"# these settings belong to the controller: no annotation of a single Ingress sets them
apiVersion: v1
kind: ConfigMap
metadata:
  name: ingress-nginx-controller
  namespace: ingress-nginx
data:
  keep-alive: "{behind}" # behind the probed hop
  upstream-keepalive-timeout: "{proxy}" # in front of it
"#
    );
    Some(Snippet { product: "Kubernetes ingress-nginx", language: "yaml", text })
}

fn sysctl(keepalive: TcpKeepalive) -> Snippet {
    let TcpKeepalive { idle, interval, count, user_timeout } = keepalive;
    let text = format!(
        r"# Linux, for every socket that has SO_KEEPALIVE and no times of its own;
# TCP_USER_TIMEOUT has no such default: set {} ms on the socket
sysctl -w net.ipv4.tcp_keepalive_time={}
sysctl -w net.ipv4.tcp_keepalive_intvl={}
sysctl -w net.ipv4.tcp_keepalive_probes={count}
",
        user_timeout.as_millis(),
        idle.as_secs(),
        interval.as_secs()
    );
    Snippet { product: "TCP keepalive", language: "sh", text }
}
