//! `src/docs/behaviours.md` names the test of each behaviour and of each setting: here it is held to it.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text() -> String {
    read("src/docs/behaviours.md")
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The source of a module named as in the text, its own and what its `tests` and `model` keep apart.
fn source(module: &str) -> String {
    let Some(module) = module.strip_prefix("src/") else {
        return read(&format!("tests/it/pool/{module}.rs"));
    };
    let mut text = read(&format!("src/{module}.rs"));
    for part in ["tests", "model"] {
        let path = format!("src/{module}/{part}.rs");
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists() {
            text += &read(&path);
        }
    }
    text
}

/// Whether that source has a test of that name, which nobody has put aside.
fn has_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    // Up to the item before it.
    let marks = before.rsplit("\n\n").next().unwrap_or_default();
    (marks.contains("#[test]") || marks.contains("#[tokio::test")) && !marks.contains("#[ignore")
        // A property test stands in its macro.
        || before.contains("proptest! {") && marks.contains("#[test]")
}

#[test]
fn every_test_that_the_behaviours_name_exists() {
    let text = text();
    let named: Vec<_> = quoted(&text).filter_map(|name| name.split_once("::")).collect();
    assert!(named.len() > 150, "{}", named.len());
    for (module, name) in named.into_iter().filter(|(module, _)| *module != "file") {
        assert!(has_test(&source(module), name), "there is no test {name} in {module}");
    }
}

#[test]
fn every_behaviour_has_its_number_and_a_test() {
    let text = text();
    let rows = text.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some((number.parse::<usize>().ok()?, rest))
    });
    let mut numbers = Vec::new();
    for (number, rest) in rows {
        assert!(quoted(rest).any(|name| name.contains("::")), "{number} has no test");
        numbers.push(number);
    }
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    assert!(numbers.len() >= 56);
}

/// The settings of the pool, each with its documentation.
fn settings() -> Vec<(String, String)> {
    let config = read("src/config.rs");
    let fields = config.split_once("pub struct PoolConfig {").expect("the settings").1;
    let fields = fields.split_once("\n}\n").expect("the end of the settings").0;
    let (mut settings, mut docs) = (Vec::new(), String::new());
    for line in fields.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs += doc;
        } else if let Some(field) = line.strip_prefix("pub ") {
            let name = field.split(':').next().expect("a name");
            settings.push((name.to_owned(), std::mem::take(&mut docs)));
        }
    }
    assert!(settings.len() > 30, "{settings:?}");
    settings
}

#[test]
fn every_setting_of_the_pool_is_among_them() {
    let text = text();
    let (_, tests) = text.split_once("## Settings").expect("a section of the settings");
    for (name, _) in settings() {
        assert!(tests.contains(&format!("\n| `{name}` | `")), "{name} has no test");
    }
}

#[test]
fn every_setting_of_the_pool_tells_its_default() {
    for (name, docs) in settings() {
        assert!(docs.contains("Default: "), "{name}: {docs}");
    }
}
