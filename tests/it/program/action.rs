//! `action.yml`: its shell steps as a runner runs them, in a clean clone of a project with a base and a head.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

use saphyr::{LoadableYamlNode, Yaml};

use super::{alone, tries};

const ACTION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/action.yml"));

fn git(folder: &Path, words: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(identity).args(words).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A project of two commits, whose server answers as slowly as its file `profile` says, and a clean clone of it.
fn project(folder: &Path, head: &str) {
    let origin = folder.join("origin");
    std::fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "--quiet"]);
    for (profile, tag) in [("const:2ms", "base"), (head, "head")] {
        std::fs::write(origin.join("profile"), profile).unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "--quiet", "--allow-empty", "-m", tag]);
        git(&origin, &["tag", tag]);
    }
    git(folder, &["clone", "--quiet", "origin", "clone"]);
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

/// Runs the whole action: its last exit code, its verdict, and whether it left its reports.
fn gated(head: &str, inconclusive: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), head);
    let documents = Yaml::load_from_str(ACTION).unwrap();
    let action = &documents[0];
    let keeplive = env!("CARGO_BIN_EXE_keeplive");
    let serve = format!("exec {keeplive} serve --listen 127.0.0.1:{{port}} --profile \"$(cat built)\"");
    let mut runner = Runner::new(
        folder.path(),
        action,
        &[
            ("keeplive", keeplive),
            ("base-ref", "base"),
            ("build", "cp profile built"),
            ("head-cmd", &serve),
            ("metrics", "p50 errors"),
            ("detect", "p50=20%"),
            ("budget", "5s"),
            ("args", "--slot 60ms --washout 20ms -c 4 --rate 300 --seed 1"),
            ("inconclusive", inconclusive),
        ],
    );
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
    let summary = read(folder.path().join("summary.md").to_str().unwrap());
    assert!(summary.contains(&format!("keeplive gate: {}", of("verdict"))), "{summary}");
    (code, of("verdict"))
}

/// Until the machine let the generator keep its schedule.
fn gated_until_valid(head: &str, inconclusive: &str) -> (Option<i32>, String) {
    for _ in tries() {
        let (code, verdict) = gated(head, inconclusive);
        assert_eq!(code == Some(4), verdict == "INVALID", "what is invalid fails the job");
        if verdict != "INVALID" {
            return (code, verdict);
        }
    }
    panic!("six runs in which the generator was the limit");
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
    assert_eq!(gated_until_valid("const:5ms", "pass"), (Some(1), "REGRESSED".into()));
}

#[test]
fn the_action_does_not_fail_a_head_that_is_its_base() {
    let _alone = alone();
    let (code, verdict) = gated_until_valid("const:2ms", "pass");
    assert_eq!(code, Some(0), "{verdict}");
    assert!(["PASS", "INCONCLUSIVE"].contains(&verdict.as_str()), "{verdict}");
}
