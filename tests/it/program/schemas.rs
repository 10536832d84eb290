//! What the program writes as JSON, against the schemas that it prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use jsonschema::Validator;
use keeplive::server::{Behaviour, Running, Server};
use serde_json::{Value, json};

use super::{alone, program, saved};

/// A result as the program wrote it before `search`, `timeline`, `stages`, `targets` and `proxy_ns` were in it. It
/// stays as it is.
const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/program/schemas/result-of-2026-11-22.json");

/// What `keeplive schema` prints under a name, or under a document's `schema`.
fn printed(name: &str) -> Value {
    let output = program().args(["schema", name]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn validator(document: &Value) -> Validator {
    jsonschema::draft202012::new(&printed(document["schema"].as_str().unwrap())).unwrap()
}

#[track_caller]
fn is_valid(document: &Value, schema: &str) {
    assert_eq!(document["schema"], schema);
    let faults: Vec<String> = validator(document)
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{schema}: {faults:#?}");
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn serving() -> Running {
    Server::new(Behaviour::default().idle_timeout(Duration::from_millis(600))).start().unwrap()
}

/// Runs a verb; what it printed, and what it saved.
fn written(words: &[&str]) -> [Value; 2] {
    let folder = tempfile::tempdir().unwrap();
    let output =
        program().args(words).args(["--format", "json", "--out"]).arg(folder.path()).output().unwrap();
    [document(&output), saved(folder.path())]
}

/// Every place of a single value in a document, as a JSON pointer; of an array the first element stands for all.
fn places(document: &Value, at: &str) -> Vec<String> {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match document {
        Value::Object(object) => {
            object.iter().flat_map(|(key, value)| places(value, &format!("{at}/{}", escaped(key)))).collect()
        }
        Value::Array(all) => all.first().map_or_else(Vec::new, |first| places(first, &format!("{at}/0"))),
        _ => vec![at.to_owned()],
    }
}

/// Changes a document in every place to what can stand nowhere, and takes away each key that it must have.
#[track_caller]
fn is_refused_when_it_is_wrong(document: &Value) {
    let validator = validator(document);
    for place in places(document, "") {
        let mut wrong = document.clone();
        *wrong.pointer_mut(&place).unwrap() = json!({ "wrong": {} });
        assert!(!validator.is_valid(&wrong), "{place} may be anything");
    }
    let schema = printed(document["schema"].as_str().unwrap());
    let required = schema["required"].as_array().unwrap();
    assert!(required.len() > 3, "{required:?}");
    for key in required.iter().map(|key| key.as_str().unwrap()) {
        let mut wrong = document.clone();
        wrong.as_object_mut().unwrap().remove(key).unwrap();
        assert!(!validator.is_valid(&wrong), "without {key}");
    }
}

#[test]
fn results_and_summaries_of_compare_and_load_are_what_their_schemas_say() {
    let _alone = alone();
    let server = serving();
    let (one, other) = (server.url(), server.url() + "other");
    let common = ["--seed", "1", "--allow-invalid", "-c", "4"];
    let compare = ["compare", &one, "--rounds", "2", "--slot", "200ms", "--washout", "50ms"];
    let several = ["load", &one, &other, "-z", "1s", "--think", "1ms", "--expect-status", "2xx"];
    let stages = ["load", &one, "--stage", "1s:50", "--stage", "1s:50..100"];
    let missed = ["load", &one, "--search", "p99<1us", "--look", "100ms", "-z", "1s"];
    for words in [&compare[..], &several, &stages, &missed] {
        let [summary, result] = written(&[words, &common].concat());
        is_valid(&summary, "keeplive.summary/1");
        is_valid(&result, "keeplive.result/1");
        is_refused_when_it_is_wrong(&summary);
        is_refused_when_it_is_wrong(&result);
    }
}

#[test]
fn a_gate_is_what_its_schema_says() {
    let _alone = alone();
    let servers = [serving(), serving()];
    let [base, head] = servers.each_ref().map(Running::url);
    let words =
        ["gate", "--base", &base, "--head", &head, "--budget", "3s", "--slot", "60ms", "--washout", "20ms"];
    for gate in written(&[&words[..], &["-c", "4", "--rate", "400"]].concat()) {
        is_valid(&gate, "keeplive.gate/1");
        is_refused_when_it_is_wrong(&gate);
    }
}

#[test]
fn a_probe_and_a_soak_are_what_their_schemas_say() {
    let server = serving();
    let url = server.url();
    let probe = [
        "probe",
        &url,
        "--requests",
        "0",
        "--max-idle",
        "2s",
        "--expect-idle",
        ">=1s",
        "--client-idle",
        "1s",
    ];
    for probe in written(&probe) {
        is_valid(&probe, "keeplive.probe/1");
        is_refused_when_it_is_wrong(&probe);
    }
    for idle in ["300ms", "900ms"] {
        for soak in written(&["soak", &url, "--idle", idle, "-c", "5"]) {
            is_valid(&soak, "keeplive.soak/1");
            is_refused_when_it_is_wrong(&soak);
        }
    }
}

#[test]
fn a_result_of_an_older_version_is_valid_and_is_shown_in_every_form() {
    let old = read(OLD);
    for (place, key) in [("", "search"), ("/slots/0", "timeline"), ("/slots/0/phases", "proxy_ns")] {
        assert!(old.pointer(place).unwrap().get(key).is_none(), "the fixture has {key}");
    }
    is_valid(&old, "keeplive.result/1");
    is_refused_when_it_is_wrong(&old);
    let text = program().args(["report", OLD]).output().unwrap();
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    assert!(String::from_utf8(text.stdout).unwrap().starts_with("Keep-alive saves"));
    let summary = document(&program().args(["report", OLD, "--format", "json"]).output().unwrap());
    is_valid(&summary, "keeplive.summary/1");
    assert_eq!(summary["started"], old["started"]);
    let row = document(&program().args(["report", OLD, OLD, "--format", "json"]).output().unwrap());
    is_valid(&row, "keeplive.side_by_side/1");
    is_refused_when_it_is_wrong(&row);
}

#[test]
fn every_result_that_is_kept_in_the_repository_is_valid() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let folders = entries(&results).into_iter().filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| entries(&folder));
    let documents: Vec<Value> =
        files.filter(|path| path.extension().is_some_and(|it| it == "json")).map(read).collect();
    // What other tools wrote, and tables of many runs, have no `schema`.
    let ours: Vec<&Value> = documents.iter().filter(|it| it.get("schema").is_some()).collect();
    assert!(ours.len() >= 12, "{}", ours.len());
    for document in ours {
        is_valid(document, document["schema"].as_str().unwrap());
    }
}

#[test]
fn a_key_of_a_later_version_is_no_fault() {
    let mut newer = read(OLD);
    newer["of_a_later_version"] = json!(1);
    newer["slots"][0]["of_a_later_version"] = json!({});
    is_valid(&newer, "keeplive.result/1");
}

#[test]
fn schemas_are_listed_and_an_unknown_one_is_refused_with_their_names() {
    let list = program().arg("schema").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for line in list.lines() {
        let name = line.split(' ').next().unwrap();
        jsonschema::meta::validate(&printed(name)).unwrap();
    }
    assert_eq!(list.lines().count(), 6, "{list}");
    let unknown = program().args(["schema", "results"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let stderr = String::from_utf8(unknown.stderr).unwrap();
    assert!(stderr.contains("result, summary, side_by_side, gate, probe, soak"), "{stderr}");
}
