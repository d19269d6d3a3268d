//! The report as one HTML page: everything inside, no scripts, nothing fetched, light or dark as the reader has it.
//!
//! Every text that comes from a run is escaped; the page also forbids itself anything but its own styles, so that a
//! hostile name could not even then do anything.

use std::fmt::Write as _;

use super::charts::{Chapter, chapters};
use super::figures::{QUANTILES, labels};
use super::markup::escape;
use super::{plot, table};
use crate::measured::{Measured, ProcessUse};

/// The page of all runs.
pub(super) fn document(runs: &[Measured]) -> String {
    let labels = labels(runs);
    let title = title(runs);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        plot::style()
    );
    write_runs(&mut page, runs);
    write_findings(&mut page, runs, &labels);
    write_figures(&mut page, runs, &labels);
    write_processes(&mut page, runs, &labels);
    for chapter in chapters(runs) {
        write_chapter(&mut page, &chapter);
    }
    write_texts(&mut page, ("Results", "what"), &runs.iter().map(|run| &run.results[..]), &labels);
    write_texts(&mut page, ("Settings", "option"), &runs.iter().map(|run| &run.settings[..]), &labels);
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(page, "<footer>millbench {version}</footer>\n</main>\n</body>\n</html>");
    page
}

fn title(runs: &[Measured]) -> String {
    let mut tasks: Vec<&str> = runs.iter().map(|run| run.task.as_str()).collect();
    tasks.dedup();
    let mut targets: Vec<&str> = runs.iter().map(|run| run.target.as_str()).collect();
    targets.dedup();
    escape(format!("millbench {}: {}", tasks.join(", "), targets.join(" and ")).trim_end_matches([' ', ':']))
}

fn write_runs(page: &mut String, runs: &[Measured]) {
    page.push_str("<ul>\n");
    for run in runs {
        let (task, target) = (escape(&run.task), escape(&run.target));
        let (start, elapsed) = (utc(run.start_unix_ms), run.elapsed.as_secs_f64());
        let _ = writeln!(page, "<li>{task} against {target}: {elapsed:.1} s from {start}</li>");
    }
    page.push_str("</ul>\n");
}

fn write_findings(page: &mut String, runs: &[Measured], labels: &[String]) {
    if runs.iter().all(|run| run.findings.is_empty()) {
        return;
    }
    page.push_str("<section class=\"wrong\">\n<h2>Wrong: these results do not count</h2>\n<ul>\n");
    for (run, label) in runs.iter().zip(labels) {
        for finding in &run.findings {
            let _ = writeln!(page, "<li>{}: {}</li>", escape(label), escape(finding));
        }
    }
    page.push_str("</ul>\n</section>\n");
}

fn write_figures(page: &mut String, runs: &[Measured], labels: &[String]) {
    let several = runs.len() > 1;
    let class = if several { " class=\"several\"" } else { "" };
    let _ = write!(page, "<h2>Figures</h2>\n<div class=\"wide\"><table{class}>\n<thead><tr>");
    for name in several.then_some("run").into_iter().chain(["series", "records/s", "MB/s"]) {
        let _ = write!(page, "<th scope=\"col\">{name}</th>");
    }
    for (_, name) in QUANTILES {
        let _ = write!(page, "<th scope=\"col\">{name}, ms</th>");
    }
    page.push_str("<th scope=\"col\">errors</th></tr></thead>\n<tbody>\n");
    for (run, label) in runs.iter().zip(labels) {
        for series in &run.series {
            page.push_str("<tr>");
            for name in several.then_some(label).into_iter().chain([&series.name]) {
                let _ = write!(page, "<th scope=\"row\">{}</th>", escape(name));
            }
            for figure in table::series_figures(run, series) {
                let _ = write!(page, "<td>{figure}</td>");
            }
            page.push_str("</tr>\n");
        }
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn write_processes(page: &mut String, runs: &[Measured], labels: &[String]) {
    page.push_str("<ul>\n");
    for (run, label) in runs.iter().zip(labels) {
        let client = (run.client != ProcessUse::default()).then_some(run.client);
        for (who, process) in [("broker", run.broker), ("client", client)] {
            if let Some(process) = process {
                let _ = writeln!(page, "<li>{}: {who} took {}</li>", escape(label), table::process(process, run));
            }
        }
    }
    page.push_str("</ul>\n");
}

fn write_chapter(page: &mut String, chapter: &Chapter) {
    let _ = writeln!(page, "<h2>{}</h2>\n<div class=\"plots\">", escape(&chapter.name));
    for plot in &chapter.plots {
        let _ = write!(page, "<figure>\n{}</figure>\n", plot.svg());
    }
    page.push_str("</div>\n");
    if chapter.seconds_per_point > 1 {
        let _ = writeln!(page, "<p>A point in time stands for {} seconds.</p>", chapter.seconds_per_point);
    }
}

/// A row for each name, a column for each run: where they differ is the first question of a comparison.
fn write_texts<'a>(
    page: &mut String,
    (title, names_are): (&str, &str),
    runs: &(impl Iterator<Item = &'a [(String, String)]> + Clone),
    labels: &[String],
) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.clone().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>{title}</h2>\n<div class=\"wide\"><table class=\"settings\">\n<thead><tr><th scope=\"col\">{names_are}</th>",
    );
    for label in labels {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(label));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for name in names {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th>", escape(name));
        for run in runs.clone() {
            let value = run.iter().find(|(theirs, _)| theirs == name).map_or("", |(_, value)| value.as_str());
            let _ = write!(page, "<td>{}</td>", escape(value));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}

/// A point in time as `2026-11-23 09:25:00 UTC`.
fn utc(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / MILLIS_PER_DAY, unix_ms % MILLIS_PER_DAY / 1000);
    let (mut year, mut day) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", day + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const MILLIS_PER_DAY: u64 = 24 * 3600 * 1000;

/// The page's looks; the plots bring their own.
const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1c2128;--rule:#d5d9df;--wrong:#a40e26;--wrong-ground:#fff0f1}
@media(prefers-color-scheme:dark){:root{--ground:#14171c;--ink:#e3e6ea;--rule:#3a414b;--wrong:#ff9aa2;--wrong-ground:#33171b}}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:76rem;margin:auto;padding:1rem}
h1{font-size:1.35rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}
ul{padding-left:1.2rem}li{overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th[scope=row],th:first-child,.several thead th:nth-child(2){text-align:left;font-weight:600}
.settings td,.settings th{text-align:left;white-space:pre-wrap}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
figure{margin:0}figure svg{display:block;width:100%;height:auto}
.wrong{border:2px solid var(--wrong);background:var(--wrong-ground);padding:0 1rem .3rem;border-radius:.4rem}
.wrong h2{color:var(--wrong);margin-top:.7rem}
footer{margin-top:2rem;font-size:.8rem}
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{HOSTILE, empty_run, hostile_run, run};

    #[test]
    fn a_page_holds_both_runs_and_needs_nothing_from_elsewhere() {
        let mut ours = run("produce", "ours", &[(100, 1), (1_100, 3)]);
        ours.settings.push(("only-ours".to_owned(), "yes".to_owned()));
        let page = document(&[ours, run("produce", "theirs", &[(100, 9)])]);
        assert!(page.contains("<h1>millbench produce: ours and theirs</h1>"), "{page}");
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(page.contains("<tr><th scope=\"row\">only-ours</th><td>yes</td><td></td></tr>"), "{page}");
        assert!(page.contains("<tr><th scope=\"row\">acks</th><td>all</td><td>all</td></tr>"), "{page}");
        assert!(page.contains("from 2023-11-14 22:13:20 UTC"), "{page}");
        for word in ["<script", "<link", "<img", "url(", "@import", "src=", "href="] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.replace("http://www.w3.org/2000/svg", "").matches("http:").count(), 0);
        assert!(!page.contains("do not count"), "no findings");
    }

    #[test]
    fn hostile_text_is_only_text() {
        let page = document(&[hostile_run(), hostile_run()]);
        assert!(!page.contains("<script") && !page.contains("alert('"), "{page}");
        assert!(page.contains(&escape(HOSTILE)), "the finding is there, as it was");
        assert!(page.contains("Wrong: these results do not count"));
    }

    #[test]
    fn every_element_that_opens_closes() {
        for runs in [vec![], vec![empty_run()], vec![hostile_run()], vec![run("a", "b", &[(1, 1)]), empty_run()]] {
            let page = document(&runs);
            let mut open: Vec<&str> = Vec::new();
            for tag in page.split('<').skip(1).filter(|tag| !tag.starts_with(['!'])) {
                let (inside, _) = tag.split_once('>').expect("a tag ends");
                let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap();
                if inside.starts_with('/') {
                    assert_eq!(open.pop(), Some(name), "{inside}");
                } else if !inside.ends_with('/') && name != "meta" {
                    open.push(name);
                }
            }
            assert!(open.is_empty(), "{open:?}");
        }
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_798_761_599_000), "2026-12-31 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
