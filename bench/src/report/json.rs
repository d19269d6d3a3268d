//! The results as JSON, in the form that docs/REPORTS.md explains.
//!
//! The form has a number, [`FORMAT`]. A new field leaves it as it is; a field that goes, or means something else, raises
//! it. Units are in the names. A figure that does not exist, such as a quantile of nothing, is `null`, never zero.

use hdrhistogram::Histogram;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::figures::{Cost, Row, per_second, quantile, rows};
use crate::measured::{Counts, Measured, ProcessUse, Series};

/// Of the form.
const FORMAT: u32 = 1;

/// All runs as one document, with a line's end behind it.
pub(super) fn document(runs: &[Measured]) -> String {
    let document = Document { format: FORMAT, tool: TOOL, runs: runs.iter().map(Run::new).collect() };
    let mut text = serde_json::to_string_pretty(&document).expect("names are strings and no map has another key");
    text.push('\n');
    text
}

const TOOL: &str = concat!("millbench ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    tool: &'a str,
    runs: Vec<Run<'a>>,
}

#[derive(Serialize)]
struct Run<'a> {
    task: &'a str,
    target: &'a str,
    start_unix_ms: u64,
    elapsed_s: f64,
    settings: Texts<'a>,
    results: Texts<'a>,
    series: Vec<SeriesForm<'a>>,
    broker: Option<Process>,
    client: Process,
    findings: &'a [String],
}

/// An object, in the order in which its fields are explained.
struct Texts<'a>(&'a [(String, String)]);

#[derive(Serialize)]
struct SeriesForm<'a> {
    name: &'a str,
    #[serde(flatten)]
    counts: CountsForm,
    records_per_s: Option<f64>,
    bytes_per_s: Option<f64>,
    latency: Latency,
    seconds: Vec<Second>,
}

#[derive(Serialize)]
struct CountsForm {
    request_count: u64,
    record_count: u64,
    bytes: u64,
    error_count: u64,
}

#[derive(Serialize)]
struct Latency {
    sample_count: u64,
    min_ms: Option<f64>,
    mean_ms: Option<f64>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    p99_9_ms: Option<f64>,
    p99_99_ms: Option<f64>,
    max_ms: Option<f64>,
}

#[derive(Serialize)]
struct Second {
    start_s: u64,
    span_s: f64,
    #[serde(flatten)]
    counts: CountsForm,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

#[derive(Serialize)]
struct Process {
    cpu_s: f64,
    cpu_s_per_gb: Option<f64>,
    cpu_s_per_million_records: Option<f64>,
    resident_bytes_max: u64,
}

impl<'a> Run<'a> {
    fn new(run: &'a Measured) -> Self {
        Self {
            task: &run.task,
            target: &run.target,
            start_unix_ms: run.start_unix_ms,
            elapsed_s: run.elapsed.as_secs_f64(),
            settings: Texts(&run.settings),
            results: Texts(&run.results),
            series: run.series.iter().map(|series| SeriesForm::new(run, series)).collect(),
            broker: run.broker.map(|broker| Process::new(broker, run)),
            client: Process::new(run.client, run),
            findings: &run.findings,
        }
    }
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'a> SeriesForm<'a> {
    fn new(run: &Measured, series: &'a Series) -> Self {
        Self {
            name: &series.name,
            counts: series.counts.into(),
            records_per_s: per_second(series.counts.record_count, run.elapsed),
            bytes_per_s: per_second(series.counts.bytes, run.elapsed),
            latency: Latency::new(&series.latency),
            seconds: rows(series, run.elapsed).iter().map(Second::new).collect(),
        }
    }
}

impl From<Counts> for CountsForm {
    fn from(counts: Counts) -> Self {
        let Counts { request_count, record_count, bytes, error_count } = counts;
        Self { request_count, record_count, bytes, error_count }
    }
}

impl Latency {
    fn new(latency: &Histogram<u64>) -> Self {
        Self {
            sample_count: latency.len(),
            min_ms: quantile(latency, 0.0),
            mean_ms: (!latency.is_empty()).then(|| latency.mean() / 1e6),
            p50_ms: quantile(latency, 0.5),
            p90_ms: quantile(latency, 0.9),
            p99_ms: quantile(latency, 0.99),
            p99_9_ms: quantile(latency, 0.999),
            p99_99_ms: quantile(latency, 0.9999),
            max_ms: quantile(latency, 1.0),
        }
    }
}

impl Second {
    fn new(row: &Row) -> Self {
        let quantile_of_row = |at| row.latency.and_then(|latency| quantile(latency, at));
        Self {
            start_s: row.start.as_secs(),
            span_s: row.span.as_secs_f64(),
            counts: row.counts.into(),
            p50_ms: quantile_of_row(0.5),
            p99_ms: quantile_of_row(0.99),
            max_ms: quantile_of_row(1.0),
        }
    }
}

impl Process {
    fn new(process: ProcessUse, run: &Measured) -> Self {
        let Cost { cpu_s, cpu_s_per_gb, cpu_s_per_million_records } = Cost::of(process, run);
        Self { cpu_s, cpu_s_per_gb, cpu_s_per_million_records, resident_bytes_max: process.resident_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::report::samples::{HOSTILE, empty_run, hostile_run, run};

    fn parse(runs: &[Measured]) -> Value {
        serde_json::from_str(&document(runs)).expect("a document is JSON")
    }

    #[test]
    fn a_run_of_two_answers_has_this_form() {
        let mut run = run("produce", "127.0.0.1:9092", &[(100, 1), (1_100, 1)]);
        run.elapsed = std::time::Duration::from_millis(1_500);
        let ms = 1.000_447;
        let second = |start: u64, span: f64| {
            json!({ "start_s": start, "span_s": span, "request_count": 1, "record_count": 10, "bytes": 10_240,
                "error_count": 0, "p50_ms": 1.003_519, "p99_ms": 1.003_519, "max_ms": 1.003_519 })
        };
        let expected = json!({
            "format": 1,
            "tool": TOOL,
            "runs": [{
                "task": "produce",
                "target": "127.0.0.1:9092",
                "start_unix_ms": 1_700_000_000_250_u64,
                "elapsed_s": 1.5,
                "settings": { "record-bytes": "1024", "acks": "all" },
                "results": { "rolls": "7" },
                "series": [{
                    "name": "produce",
                    "request_count": 2, "record_count": 20, "bytes": 20_480, "error_count": 0,
                    "records_per_s": 20.0 / 1.5, "bytes_per_s": 20_480.0 / 1.5,
                    "latency": { "sample_count": 2, "min_ms": 0.999_936, "mean_ms": 1.000_192, "p50_ms": ms, "p90_ms": ms,
                        "p99_ms": ms, "p99_9_ms": ms, "p99_99_ms": ms, "max_ms": ms },
                    "seconds": [second(0, 1.0), second(1, 0.5)],
                }],
                "broker": null,
                "client": { "cpu_s": 0.5, "cpu_s_per_gb": 0.5 / 20_480e-9, "cpu_s_per_million_records": 0.5 / 20e-6,
                    "resident_bytes_max": 5 << 20 },
                "findings": [],
            }],
        });
        assert_eq!(parse(&[run]), expected);
    }

    #[test]
    fn what_does_not_exist_is_null() {
        let document = parse(&[empty_run()]);
        let series = &document["runs"][0]["series"][0];
        for path in ["records_per_s", "bytes_per_s"] {
            assert_eq!(series[path], Value::Null, "{path}");
        }
        assert_eq!((&series["latency"]["sample_count"], &series["latency"]["p99_ms"]), (&json!(0), &Value::Null));
        assert_eq!(series["seconds"], json!([]));
        assert_eq!(parse(&[])["runs"], json!([]));
    }

    #[test]
    fn hostile_text_comes_back_as_it_was() {
        let document = parse(&[hostile_run()]);
        let run = &document["runs"][0];
        for text in
            [&run["task"], &run["target"], &run["settings"][HOSTILE], &run["results"][HOSTILE], &run["findings"][0]]
        {
            assert_eq!(text, HOSTILE);
        }
    }

    #[test]
    fn settings_keep_their_order() {
        let text = document(&[run("produce", "a", &[])]);
        assert!(text.find("record-bytes") < text.find("acks"), "{text}");
    }

    #[test]
    fn the_documentation_names_every_field() {
        let mut run = run("produce", "a", &[(100, 1)]);
        run.broker = Some(run.client);
        run.settings.clear();
        run.results.clear();
        let mut names = BTreeSet::new();
        gather_names(&parse(&[run]), &mut names);
        assert!(names.len() > 30, "{names:?}");
        let text = include_str!("../../../docs/REPORTS.md");
        let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "docs/REPORTS.md does not explain {missing:?}");
        assert!(text.contains(&format!("`format` is {FORMAT}")), "docs/REPORTS.md explains another form");
    }

    /// The documents are a few levels deep.
    fn gather_names(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    names.insert(name.clone());
                    gather_names(value, names);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| gather_names(value, names)),
            _ => {}
        }
    }
}
