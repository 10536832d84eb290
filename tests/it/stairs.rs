//! The rule of the stairs: a file uses only what stands above it on the map in `src/docs/architecture.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module on the map, with its place from the top.
fn map() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let first_block = text.split("```").nth(1).unwrap();
    let names = first_block.lines().filter_map(|line| line.split(' ').next()?.strip_suffix(".rs"));
    names.map(str::to_owned).zip(0..).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file of the library, with the module it belongs to: its own name, or its folder's.
fn files() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, module: Option<&str>, found: &mut Vec<(String, PathBuf)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let module = module.unwrap_or(&name);
            if path.is_dir() && !["bin", "docs"].contains(&name.as_str()) {
                walk(&path, Some(module), found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "lib" {
                found.push((module.to_owned(), path));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), None, &mut found);
    found
}

/// The modules that a file names as `crate::module`, leaving out its tests and comments.
fn uses(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let after = lines.flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>());
    let names = after.map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
    names.filter(|name: &String| !name.is_empty()).collect()
}

#[test]
fn every_file_of_the_library_stands_on_the_map_and_every_name_on_the_map_is_a_file() {
    let map = map();
    let mut modules: Vec<String> = files().into_iter().map(|(module, _)| module).collect();
    modules.sort_unstable();
    modules.dedup();
    let on_map: Vec<String> = map.keys().cloned().collect();
    assert_eq!(modules, on_map);
}

#[test]
fn a_file_uses_only_what_stands_above_it() {
    let map = map();
    for (module, path) in files() {
        for used in uses(&fs::read_to_string(&path).unwrap()) {
            let below = map.get(&used).is_some_and(|place| *place > map[&module]);
            assert!(!below, "{} uses crate::{used}, which stands below {module}.rs", path.display());
        }
    }
}
