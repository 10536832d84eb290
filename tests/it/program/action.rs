//! `action.yml`: its shell steps as a runner runs them, in a clean clone of a project with a base and a head.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use saphyr::{LoadableYamlNode, Yaml};

use keeplive::server::{Behaviour, Profile, Server};

use super::{alone, tries};

const ACTION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/action.yml"));

fn git(folder: &Path, words: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(identity).args(words).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A project of two commits, whose server answers as slowly as its file `profile` says, and a clean clone of it; a
/// shallow one knows the last commit only.
fn project(folder: &Path, head: &str, shallow: bool) {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "--quiet"]);
    for (profile, tag) in [("const:2ms", "base"), (head, "head")] {
        std::fs::write(origin.join("profile"), profile).unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "--quiet", "--allow-empty", "-m", tag]);
        git(&origin, &["tag", tag]);
    }
    let url = format!("file://{}", origin.display());
    let depth: &[&str] = if shallow { &["--depth=1"] } else { &[] };
    git(folder, &[&["clone", "--quiet"], depth, &[&url, "clone"]].concat());
}

/// The name of the first commit, as CI systems name a base.
fn base_commit(folder: &Path) -> String {
    let output =
        Command::new("git").current_dir(folder.join("origin")).args(["rev-parse", "base"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A program of this name that does this, in a folder that is to be looked at first.
fn stand_in(folder: &Path, name: &str, script: &str) {
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let file = bin.join(name);
    std::fs::write(&file, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn path_with(folder: &Path) -> OsString {
    let mut path = folder.join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    path
}

/// The steps that a runner would run, with inputs and earlier steps' outputs put in where `env` asks for them.
struct Runner<'a> {
    folder: &'a Path,
    inputs: HashMap<String, String>,
    outputs: HashMap<String, String>,
}

impl<'a> Runner<'a> {
    fn new(folder: &'a Path, action: &Yaml, given: &[(&str, &str)]) -> Runner<'a> {
        let declared = action["inputs"].as_mapping().unwrap().iter();
        let mut inputs: HashMap<String, String> = declared
            .map(|(name, input)| (name.as_str().unwrap().into(), input["default"].as_str().unwrap().into()))
            .collect();
        for (name, value) in given {
            assert!(inputs.insert((*name).into(), (*value).into()).is_some(), "no input {name}");
        }
        Runner { folder, inputs, outputs: HashMap::new() }
    }

    fn expression(&self, text: &str) -> String {
        let inner = text.strip_prefix("${{ ").and_then(|text| text.strip_suffix(" }}")).expect(text);
        match inner.strip_prefix("inputs.") {
            Some(name) => self.inputs[name].clone(),
            None => self.outputs.get(inner).cloned().unwrap_or_default(),
        }
    }

    fn step(&mut self, step: &Yaml) -> Output {
        let id = step["id"].as_str().unwrap();
        let (out, summary) = (self.folder.join(format!("{id}.out")), self.folder.join("summary.md"));
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()]);
        bash.current_dir(self.folder.join("clone")).env("RUNNER_TEMP", self.folder);
        bash.env("GITHUB_OUTPUT", &out).env("GITHUB_STEP_SUMMARY", &summary);
        bash.env("GITHUB_ACTION_PATH", env!("CARGO_MANIFEST_DIR")).env("PATH", path_with(self.folder));
        for (name, value) in step["env"].as_mapping().unwrap() {
            bash.env(name.as_str().unwrap(), self.expression(value.as_str().unwrap()));
        }
        let output = bash.output().unwrap();
        for line in std::fs::read_to_string(out).unwrap_or_default().lines() {
            let (name, value) = line.split_once('=').unwrap();
            self.outputs.insert(format!("steps.{id}.outputs.{name}"), value.into());
        }
        output
    }
}

const KEEPLIVE: &str = env!("CARGO_BIN_EXE_keeplive");

/// What every use of the action here says.
const USUAL: [(&str, &str); 4] = [
    ("metrics", "p50 errors"),
    ("detect", "p50=20%"),
    ("budget", "5s"),
    ("args", "--slot 60ms --washout 20ms -c 4 --rate 300 --seed 1"),
];

/// The command that starts the server that was built in its folder.
fn serve() -> String {
    format!("exec {KEEPLIVE} serve --listen 127.0.0.1:{{port}} --profile \"$(cat built)\"")
}

/// Runs the whole action in the clone in this folder, until the machine let the generator keep its schedule: its last
/// exit code and its verdict.
fn run_action(
    prepare: impl Fn(&Path),
    given: impl Fn(&Path) -> Vec<(&'static str, String)>,
) -> (Option<i32>, String) {
    for _ in tries() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let given = given(folder.path());
        let given = given.iter().map(|(name, value)| (*name, value.as_str()));
        let (code, verdict) =
            run_action_once(folder.path(), &USUAL.into_iter().chain(given).collect::<Vec<_>>());
        assert_eq!(code == Some(4), verdict == "INVALID", "what is invalid fails the job");
        if verdict != "INVALID" {
            return (code, verdict);
        }
    }
    panic!("six runs in which the generator was the limit");
}

fn run_action_once(folder: &Path, given: &[(&str, &str)]) -> (Option<i32>, String) {
    let documents = Yaml::load_from_str(ACTION).unwrap();
    let action = &documents[0];
    let mut runner = Runner::new(folder, action, given);
    let mut code = None;
    for step in action["runs"]["steps"].as_sequence().unwrap() {
        let output = runner.step(step);
        code = output.status.code();
        let is_gate = step["id"].as_str() == Some("gate");
        assert!(is_gate || code == Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(code != Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let of = |name: &str| runner.expression(action["outputs"][name]["value"].as_str().unwrap());
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert!(read(&of("html")).contains("Has it become worse?"));
    assert!(read(&of("junit")).contains("<testcase name=\"p50\""));
    let summary = read(folder.join("summary.md").to_str().unwrap());
    assert!(summary.contains(&format!("keeplive gate: {}", of("verdict"))), "{summary}");
    (code, of("verdict"))
}

/// Base and head built from the project's two commits.
fn gated(head: &str, inconclusive: &str) -> (Option<i32>, String) {
    run_action(
        |folder| project(folder, head, false),
        |_| {
            vec![
                ("keeplive", KEEPLIVE.into()),
                ("base-ref", "base".into()),
                ("build", "cp profile built".into()),
                ("head-cmd", serve()),
                ("inconclusive", inconclusive.into()),
            ]
        },
    )
}

#[test]
fn no_step_of_the_action_lets_an_expression_into_its_shell() {
    let documents = Yaml::load_from_str(ACTION).unwrap();
    let steps = documents[0]["runs"]["steps"].as_sequence().unwrap();
    for step in steps {
        let run = step["run"].as_str().unwrap();
        assert!(!run.contains("${{"), "{run}");
        assert!(run.starts_with("set -euo pipefail\n"), "{run}");
    }
}

/// Every block of YAML in the advice, read.
#[test]
fn the_snippets_are_yaml_and_use_only_inputs_that_the_action_has() {
    let advice = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/ci.md"));
    let blocks: Vec<&str> =
        advice.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [github, gitlab] = blocks[..] else { panic!("GitHub and GitLab") };
    let action = Yaml::load_from_str(ACTION).unwrap();
    let github = Yaml::load_from_str(github).unwrap();
    let steps = github[0]["jobs"]["gate"]["steps"].as_sequence().unwrap();
    let gate = steps.iter().find(|step| step.as_mapping_get("id").is_some()).unwrap();
    for (name, _) in gate["with"].as_mapping().unwrap() {
        assert!(action[0]["inputs"].as_mapping_get(name.as_str().unwrap()).is_some(), "{name:?}");
    }
    let gitlab = Yaml::load_from_str(gitlab).unwrap();
    assert_eq!(gitlab[0]["gate"]["artifacts"]["reports"]["junit"].as_str(), Some("gate.xml"));
    assert!(gitlab[0]["gate"]["script"].as_sequence().unwrap().iter().all(|line| line.as_str().is_some()));
}

#[test]
fn the_action_fails_a_head_that_has_become_slower() {
    let _alone = alone();
    assert_eq!(gated("const:5ms", "pass"), (Some(1), "REGRESSED".into()));
}

#[test]
fn the_action_does_not_fail_a_head_that_is_its_base() {
    let _alone = alone();
    let (code, verdict) = gated("const:2ms", "pass");
    assert_eq!(code, Some(0), "{verdict}");
    assert!(["PASS", "INCONCLUSIVE"].contains(&verdict.as_str()), "{verdict}");
}

/// What `actions/checkout` makes is shallow, and names its base by a commit that it does not have.
#[test]
fn the_action_fetches_a_base_that_a_shallow_clone_does_not_know_and_starts_it_by_its_own_command() {
    let _alone = alone();
    let (code, verdict) = run_action(
        |folder| project(folder, "const:5ms", true),
        |folder| {
            vec![
                ("keeplive", KEEPLIVE.into()),
                ("base-ref", base_commit(folder)),
                ("build", "cp profile built".into()),
                ("base-cmd", format!("test \"$(cat built)\" = const:2ms && {}", serve())),
                ("head-cmd", format!("test \"$(cat built)\" = const:5ms && {}", serve())),
            ]
        },
    );
    assert_eq!((code, verdict.as_str()), (Some(1), "REGRESSED"));
}

/// cargo is stood in for: to build the program takes minutes, and the arguments are what can be wrong.
#[test]
fn the_action_installs_its_own_program_and_gates_servers_that_run_already() {
    let _alone = alone();
    let servers = ["const:2ms", "const:2ms"].map(|profile| {
        Server::new(Behaviour::default().profile(profile.parse::<Profile>().unwrap())).start().unwrap()
    });
    let [base, head] = servers.each_ref().map(|server| server.url());
    let (code, verdict) = run_action(
        |folder| {
            project(folder, "const:2ms", false);
            let script = format!(
                "[ \"$1 $2 $3\" = 'install --locked --path' ] && [ -f \"$4/Cargo.toml\" ] && [ \"$5\" = --root ]\n\
                 mkdir -p \"$6/bin\"\nln -s {KEEPLIVE} \"$6/bin/keeplive\""
            );
            stand_in(folder, "cargo", &script);
        },
        |_| vec![("base", base.clone()), ("head", head.clone()), ("inconclusive", "pass".into())],
    );
    assert_eq!(code, Some(0), "{verdict}");
}

/// The lines of the snippet as a GitLab runner runs them: in a shallow clone, one after the other, until one fails.
#[test]
fn the_snippet_for_gitlab_builds_base_and_head_and_fails_a_head_that_has_become_slower() {
    let _alone = alone();
    let advice = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/ci.md"));
    let gitlab = advice.split("```yaml\n").nth(2).unwrap().split("```").next().unwrap();
    let gitlab = Yaml::load_from_str(gitlab).unwrap();
    let lines = gitlab[0]["gate"]["script"].as_sequence().unwrap().iter();
    let script: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
    for _ in tries() {
        let folder = tempfile::tempdir().unwrap();
        project(folder.path(), "const:5ms", true);
        // The project's build makes a server that takes --port; the program measures for a shorter time than by default.
        let server = format!("exec {KEEPLIVE} serve --listen \"127.0.0.1:$2\" --profile \"$(cat profile)\"");
        let build = format!(
            "[ \"$*\" = 'build --release --locked' ]\nmkdir -p target/release\n\
             printf '#!/bin/sh\\n%s\\n' '{server}' > target/release/server\nchmod +x target/release/server"
        );
        stand_in(folder.path(), "cargo", &build);
        let shorter = USUAL[3].1;
        stand_in(
            folder.path(),
            "keeplive",
            &format!("exec {KEEPLIVE} \"$@\" --budget 5s --metric p50 --detect p50=20% {shorter}"),
        );
        let output = Command::new("bash")
            .args(["-eo", "pipefail", "-c", &script.join("\n")])
            .current_dir(folder.path().join("clone"))
            .env("PATH", path_with(folder.path()))
            .env("CI_MERGE_REQUEST_DIFF_BASE_SHA", base_commit(folder.path()))
            .output()
            .unwrap();
        if output.status.code() == Some(4) {
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        for kept in ["gate.html", "gate.xml"] {
            assert!(folder.path().join("clone").join(kept).exists(), "{kept}");
        }
        return;
    }
    panic!("six runs in which the generator was the limit");
}
