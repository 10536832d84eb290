//! Real servers of which only their timers matter: each is one function, started with short ones.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::link::Link;
use super::process::{self, Process};

/// A server at work until it is dropped.
pub(crate) struct Running {
    // Declared first, so that the process has ended when its folder goes.
    _process: Process,
    _folder: TempDir,
    address: SocketAddr,
}

impl Running {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }
}

/// Starts a program in a folder of its own: `describe` writes what it reads and tells its arguments.
fn start(
    program: (&str, &str),
    describe: impl Fn(&Path, SocketAddr) -> Vec<String>,
    up: impl Fn(&Path) -> bool,
) -> Running {
    start_at(None, program, describe, up)
}

/// The same, at the server's end of a link.
fn start_at(
    link: Option<&Link>,
    (program, package): (&str, &str),
    describe: impl Fn(&Path, SocketAddr) -> Vec<String>,
    up: impl Fn(&Path) -> bool,
) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    // Some servers give up root.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("the folder is ours");
    let command = |address| -> Command {
        let errors = std::fs::File::create(path.join("errors")).expect("a file in the folder");
        let mut command = process::command(link, program, package);
        command.args(describe(path, address)).current_dir(path);
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        command
    };
    let (process, address) = process::start(link, command, || up(path), &path.join("errors"));
    Running { _process: process, _folder: folder, address }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file in the temporary folder");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Apache httpd with its event MPM.
pub(crate) fn apache(keep_alive_timeout: Duration, max_requests: u64) -> Running {
    let describe = |folder: &Path, address: SocketAddr| {
        // Debian builds these apart; other builds have them inside.
        let modules: String = ["mpm_event", "authz_core"]
            .map(|name| (name, format!("/usr/lib/apache2/modules/mod_{name}.so")))
            .into_iter()
            .filter(|(_, path)| Path::new(path).exists())
            .map(|(name, path)| format!("LoadModule {name}_module {path}\n"))
            .collect();
        let folder_name = folder.display();
        let text = format!(
            "{modules}Listen {address}
ServerName localhost
User #65534
Group #65534
PidFile apache.pid
DefaultRuntimeDir {folder_name}
ErrorLog error.log
DocumentRoot {folder_name}
KeepAlive On
KeepAliveTimeout {}ms
MaxKeepAliveRequests {max_requests}
",
            keep_alive_timeout.as_millis()
        );
        write(folder, "apache.conf", &text);
        write(folder, "index.txt", "Hello, world!");
        let (folder, file) = (folder.display().to_string(), folder.join("apache.conf").display().to_string());
        words(&["-d", &folder, "-f", &file, "-DFOREGROUND"])
    };
    start(("apache2", "apache2-bin"), describe, |folder| folder.join("apache.pid").exists())
}

/// `node:http` as it comes.
pub(crate) fn node(keep_alive_timeout: Duration, max_requests: u64) -> Running {
    node_at(None, keep_alive_timeout, max_requests)
}

/// The same, at the server's end of a link.
pub(crate) fn node_at(link: Option<&Link>, keep_alive_timeout: Duration, max_requests: u64) -> Running {
    const PROGRAM: &str = "
const [port, host, timeout, requests] = process.argv.slice(2);
const server = require('node:http').createServer((request, response) => response.end('Hello, world!'));
server.keepAliveTimeout = Number(timeout);
server.maxRequestsPerSocket = Number(requests);
server.listen(Number(port), host, () => require('node:fs').writeFileSync('up', ''));
";
    let describe = |folder: &Path, address: SocketAddr| {
        write(folder, "server.js", PROGRAM);
        let (port, host) = (address.port().to_string(), address.ip().to_string());
        let (timeout, requests) = (keep_alive_timeout.as_millis().to_string(), max_requests.to_string());
        words(&["server.js", &port, &host, &timeout, &requests])
    };
    start_at(link, ("node", "nodejs"), describe, |folder| folder.join("up").exists())
}

/// gunicorn with threads, which looks at its idle connections once in a second.
pub(crate) fn gunicorn(keep_alive_s: u64) -> Running {
    const PROGRAM: &str = "
def app(environ, start):
    start('200 OK', [('Content-Length', '2')])
    return [b'hi']
def when_ready(server):
    open('up', 'w').close()
";
    let describe = |folder: &Path, address: SocketAddr| {
        write(folder, "app.py", PROGRAM);
        let (address, keep) = (address.to_string(), keep_alive_s.to_string());
        let config = "python:app";
        words(&[
            "-k",
            "gthread",
            "--threads",
            "4",
            "--keep-alive",
            &keep,
            "-b",
            &address,
            "-c",
            config,
            "app:app",
        ])
    };
    start(("gunicorn", "gunicorn"), describe, |folder| folder.join("up").exists())
}

/// Caddy, whose server is Go's.
pub(crate) fn caddy(idle: Duration) -> Running {
    let describe = |folder: &Path, address: SocketAddr| {
        let text = format!(
            "{{
  admin unix/{}/admin.sock
  servers {{
    timeouts {{
      idle {}ms
    }}
  }}
}}
http://{address} {{
  respond \"Hello, world!\"
}}
",
            folder.display(),
            idle.as_millis()
        );
        write(folder, "Caddyfile", &text);
        words(&["run", "--config", "Caddyfile", "--adapter", "caddyfile"])
    };
    // Its own socket comes first; the port follows at once.
    start(("caddy", "caddy"), describe, |folder| folder.join("admin.sock").exists())
}

/// uvicorn, which looks after each connection with a timer of its own.
pub(crate) fn uvicorn(keep_alive_s: u64) -> Running {
    const PROGRAM: &str = "
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            event = await receive()
            if event['type'] == 'lifespan.startup':
                open('up', 'w').close()
            await send({'type': event['type'] + '.complete'})
            if event['type'] == 'lifespan.shutdown':
                return
    await receive()
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
    await send({'type': 'http.response.body', 'body': b'hi'})
";
    let describe = |folder: &Path, address: SocketAddr| {
        write(folder, "app.py", PROGRAM);
        let (host, port, keep) =
            (address.ip().to_string(), address.port().to_string(), keep_alive_s.to_string());
        words(&[
            "--host",
            &host,
            "--port",
            &port,
            "--timeout-keep-alive",
            &keep,
            "--lifespan",
            "on",
            "app:app",
        ])
    };
    // It has started its application before it listens, by a moment.
    let up = |folder: &Path| folder.join("up").exists();
    start(("uvicorn", "uvicorn"), describe, up)
}

/// Varnish, which answers by itself.
pub(crate) fn varnish(timeout_idle: Duration) -> Running {
    const PROGRAM: &str = "vcl 4.1;
backend none none;
sub vcl_recv { return (synth(200)); }
";
    let describe = |folder: &Path, address: SocketAddr| {
        write(folder, "answer.vcl", PROGRAM);
        let (folder, address) = (folder.display().to_string(), address.to_string());
        let idle = format!("timeout_idle={:.3}", timeout_idle.as_secs_f64());
        let listen = format!("{address},HTTP");
        let vcl = format!("{folder}/answer.vcl");
        words(&["-F", "-n", &folder, "-a", &listen, "-f", &vcl, "-s", "malloc,16m", "-p", &idle])
    };
    // Its parent listens; its child, which answers, says so when it starts.
    let up = |folder: &Path| process::read(&folder.join("errors")).contains("said Child starts");
    start(("varnishd", "varnish"), describe, up)
}

/// nginx in front of another server, with its timeouts towards clients and towards that server.
pub(crate) fn nginx_before(origin: SocketAddr, keepalive_timeout: Duration, upstream: Duration) -> Running {
    let describe = |folder: &Path, address: SocketAddr| {
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("  {name}_temp_path {name};\n"))
            .concat();
        let text = format!(
            "daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
{temporary}
  keepalive_timeout {}ms;
  upstream behind {{ server {origin}; keepalive 64; keepalive_timeout {}ms; }}
  server {{
    listen {address};
    listen unix:{}/up.sock;
    location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
",
            keepalive_timeout.as_millis(),
            upstream.as_millis(),
            folder.display()
        );
        write(folder, "nginx.conf", &text);
        let _ = std::fs::remove_file(folder.join("up.sock"));
        let folder = folder.display().to_string();
        words(&["-p", &folder, "-e", "error.log", "-c", "nginx.conf"])
    };
    let up = |folder: &Path| std::os::unix::net::UnixStream::connect(folder.join("up.sock")).is_ok();
    start(("nginx", "nginx-light"), describe, up)
}
