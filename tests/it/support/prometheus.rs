//! Prometheus' text format 0.0.4, read by its rules: also what the unit tests of what keeplive writes use.

use std::collections::BTreeMap;

/// By name and labels, as they are written, the values of a page that keeps the rules: `name{label="value",...} number`,
/// every name announced by HELP and TYPE, no series twice, and a histogram's buckets cumulative, the last of them its
/// count.
pub(crate) fn read(text: &str) -> BTreeMap<String, f64> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut buckets: Vec<(String, f64)> = Vec::new();
    assert!(text.ends_with('\n'), "the last line has an end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let words: Vec<_> = rest.splitn(3, ' ').collect();
            match words[..] {
                ["HELP", _, _] => {}
                ["TYPE", name, kind] => assert_eq!(kinds.insert(name, kind), None, "{name} has two types"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_histogram = family.is_some_and(|family| kinds.get(family) == Some(&"histogram"));
        assert!(kinds.contains_key(name) || is_histogram, "{line}: its name was not announced");
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let all = || labels.split(',').filter(|label| !label.is_empty());
        assert!(all().all(|label| label.split_once("=\"").is_some_and(|(_, v)| v.ends_with('"'))), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(samples.insert(series.to_owned(), value), None, "{series} is there twice");
        if is_histogram && name.ends_with("_bucket") {
            let others: Vec<_> = all().filter(|label| !label.starts_with("le=")).collect();
            let whole = format!("{}_count{{{}}}", family.unwrap_or_default(), others.join(","));
            if let Some((_, before)) = buckets.last().filter(|(other, _)| *other == whole) {
                assert!(*before <= value, "{line}: less than the bucket before");
            }
            buckets.push((whole, value));
        }
    }
    // The last bucket of each is all there is.
    let last: BTreeMap<_, _> = buckets.into_iter().collect();
    assert!(last.iter().all(|(whole, value)| samples.get(whole) == Some(value)), "{last:?}");
    samples
}
