//! Every form, read back by a reader of it.

use std::collections::BTreeMap;

use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::super::prometheus_rules;
use super::{Form, write};
use crate::compare::{arms, samples};
use crate::measurement::Measurement;

fn measured() -> Measurement {
    let mut measurement =
        samples::run(8, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0).measurement();
    for (nth, slot) in measurement.slots.iter_mut().enumerate() {
        slot.start_unix_ns = 1_767_323_045_000_000_000 + nth as u64 * 600_000_000;
    }
    measurement
}

fn written(form: Form) -> String {
    let measurement = measured();
    let mut out = Vec::new();
    write(form, &measurement, &arms(&measurement), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn markdown_opens_with_the_answer_and_its_tables_rows_are_all_as_wide_as_its_head() {
    let text = written(Form::Markdown);
    assert!(text.starts_with("### keeplive: "), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 11, "{text}");
    assert!(rows.iter().all(|row| row.matches('|').count() == 5), "{text}");
    assert!(text.contains("`on` saves 75"), "{text}");
}

#[test]
fn markdown_of_a_target_with_markup_in_its_name_is_still_one_table() {
    let mut measurement = measured();
    measurement.plan.target.url = "http://x/<script>|`a`*b*\nnew".into();
    let mut out = Vec::new();
    write(Form::Markdown, &measurement, &arms(&measurement), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("&lt;script&gt;\\|\\`a\\`\\*b\\* new") && !text.contains("<script>"), "{text}");
}

/// RFC 4180 in brief: no field here holds a comma.
#[test]
fn csv_has_a_row_for_each_slot_with_a_field_for_each_name() {
    let text = written(Form::Csv);
    let mut rows = text.split_terminator("\r\n").map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().unwrap();
    let place = |name| names.iter().position(|field| *field == name).unwrap();
    let slots = measured().slots;
    let mut n = 0;
    for (row, slot) in rows.zip(&slots) {
        assert_eq!(row.len(), names.len());
        assert_eq!(row[place("arm")], slot.arm);
        let p99 = slot.response.quantile(0.99).unwrap().as_nanos().to_string();
        assert_eq!(row[place("response_p99_ns")], p99);
        n += 1;
    }
    assert_eq!(n, slots.len());
}

/// A port of plotFiles.html: the lines with exactly four fields that do not begin with `#`; the fourth is read as a
/// number and the line is skipped when it is none.
#[test]
fn hgrm_is_read_by_the_plotters_rule() {
    let text = written(Form::Hgrm);
    let blocks: Vec<&str> = text.split("# arm ").skip(1).collect();
    assert_eq!(blocks.len(), 3);
    let measurement = measured();
    for (block, arm) in blocks.into_iter().zip(arms(&measurement).arms) {
        let rows: Vec<Vec<f64>> = block
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.len() == 4 && fields[0] != "Value")
            .map(|fields| fields.iter().map(|field| field.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
        assert!(rows.windows(2).all(|pair| pair[0][2] <= pair[1][2]), "counts only grow");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last[3]), (1.0, arm.response_histogram.len() as f64, f64::INFINITY));
        let max = arm.response_histogram.max().unwrap().as_secs_f64() * 1e3;
        assert!((last[0] - max).abs() < 0.001, "{last:?} {max}");
        for row in &rows[..rows.len() - 1] {
            assert!((row[3] * (1.0 - row[1]) - 1.0).abs() < 0.01, "{row:?}");
        }
    }
}

#[test]
fn hlog_is_read_back_by_the_histogram_librarys_own_reader() {
    let text = written(Form::Hlog);
    let slots = measured().slots;
    let mut read = 0;
    let mut times = BTreeMap::new();
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        match entry.unwrap() {
            LogEntry::StartTime(at) => drop(times.insert("start", at)),
            LogEntry::BaseTime(at) => drop(times.insert("base", at)),
            LogEntry::Interval(interval) => {
                let slot = &slots[read];
                assert_eq!(interval.tag().unwrap().as_str(), slot.arm);
                let bytes = base64::Engine::decode(
                    &base64::engine::general_purpose::STANDARD,
                    interval.encoded_histogram(),
                );
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.unwrap().as_slice()).unwrap();
                assert_eq!(histogram.len(), slot.response.len());
                assert_eq!(histogram.value_at_quantile(0.5), slot.response.counts().value_at_quantile(0.5));
                assert!((interval.start_timestamp().as_secs_f64() - 0.6 * read as f64).abs() < 0.002);
                read += 1;
            }
        }
    }
    assert_eq!(read, slots.len());
    assert_eq!(times["start"], times["base"]);
    assert!((times["base"].as_secs_f64() - 1_767_323_045.0).abs() < 0.01);
}

/// A port of benchfmt's rule: `key: value` lines, then `BenchmarkName iterations (value unit)+`.
#[test]
fn benchfmt_is_read_by_gos_rule() {
    let text = written(Form::Benchfmt);
    let mut lines_of: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("Benchmark") else {
            let (key, _) = line.split_once(": ").unwrap();
            assert!(
                key.starts_with(|c: char| c.is_lowercase()) && !key.contains(char::is_whitespace),
                "{line}"
            );
            continue;
        };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        assert!(fields[0].starts_with(|c: char| !c.is_lowercase()));
        assert!(fields[1].parse::<u64>().unwrap() > 0);
        let pairs = fields[2..].chunks(2);
        let units: Vec<&str> = pairs
            .map(|pair| {
                pair[0].parse::<f64>().unwrap();
                pair[1]
            })
            .collect();
        assert_eq!(units, ["ns/op", "p50-ns", "p90-ns", "p99-ns", "p99.9-ns", "answers/s", "cpu-ns/op"]);
        *lines_of.entry(fields[0].to_owned()).or_default() += 1;
    }
    assert_eq!(lines_of.len(), 3);
    assert!(lines_of.contains_key("Keeplive/arm=off-full") && lines_of.values().all(|n| *n == 8));
}

/// What github-action-benchmark's extract.ts demands of every entry: a name, a unit, and a number.
#[test]
fn the_github_benchmark_has_a_name_a_unit_and_a_number_in_every_entry() {
    let values: Vec<serde_json::Value> = serde_json::from_str(&written(Form::GithubBenchmark)).unwrap();
    assert_eq!(values.len(), 3 * 5);
    for value in &values {
        assert!(value["name"].is_string() && value["unit"].is_string() && value["value"].is_f64(), "{value}");
    }
    assert_eq!(values[0]["name"], "on: p50");
    assert!((values[0]["value"].as_f64().unwrap() - 1.0).abs() < 0.05);
}

#[test]
fn bencher_metrics_are_numbers_whose_bounds_enclose_them() {
    let value: BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>> =
        serde_json::from_str(&written(Form::Bencher)).unwrap();
    assert_eq!(value.keys().collect::<Vec<_>>(), ["off-full", "off-resumed", "on"]);
    let latency = &value["on"]["latency"];
    assert!(latency["lower_value"] <= latency["value"] && latency["value"] <= latency["upper_value"]);
    assert!(value["on"].contains_key("latency-p99-9") && value["on"]["throughput"]["value"] > 0.0);
}

#[test]
fn prometheus_text_keeps_the_formats_rules() {
    let samples = prometheus_rules::read(&written(Form::Prometheus));
    let sum = samples["keeplive_response_seconds_sum{arm=\"on\"}"];
    assert!((sum / 4.1 - 1.0).abs() < 0.1, "{sum}");
}
