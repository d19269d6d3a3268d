//! The matrix in docs/COMPATIBILITY.md, client by case, and what is not done, with the reason.
//!
//! A column is held by the test of its client, which has just run its cases: the page cannot say more than what passed.
//! `UPDATE=1` rewrites what differs. Columns are rewritten one at a time, under a lock on the page.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::ops::Range;
use std::path::PathBuf;

use millrace_compat::contract::CLIENTS;
use rustix::fs::{FlockOperation, flock};

use crate::CASES;

/// What became of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Right things came out.
    Yes,
    /// The client cannot do it: [`CANNOT`] says why.
    No,
    /// The broker cannot do it yet: [`PENDING`] says why. The case ran, and failed.
    Pending,
}

impl Cell {
    fn word(self) -> &'static str {
        match self {
            Cell::Yes => "yes",
            Cell::No => "no",
            Cell::Pending => "pending",
        }
    }
}

/// Client, cases, why not.
const CANNOT: &[(&str, &[&str], &str)] = &[
    ("aiokafka", &["empty is not null"], "refuses a record with neither key nor value"),
    ("aiokafka", &["groups: list, delete"], "its admin client cannot delete a group"),
    ("KafkaJS", &["lz4", "zstd"], "has gzip, and snappy by a plugin; its plugins for these need native modules"),
    ("kafka-go", &["empty is not null"], "reads a key or a value of no bytes as none"),
    ("kafka-go", &["idempotence"], "its producer has none"),
    ("kafka-go", &["delete records"], "does not have the API"),
    ("rskafka", &["idempotence"], "its producer has none"),
    ("rskafka", &["commit, resume", "rebalance", "groups: list, delete"], "does not have groups"),
    ("rskafka", &["topics: more partitions", "configurations"], "does not have the APIs"),
];

/// Case, why the broker does not do it yet.
const PENDING: &[(&str, &str)] = &[];

/// Why the client cannot do the case; `None` if it can.
pub(crate) fn why_not(client: &str, case: &str) -> Option<&'static str> {
    let mut rows = CANNOT.iter().filter(|(name, cases, _)| *name == client && cases.contains(&case));
    rows.next().map(|(_, _, why)| *why)
}

/// Why the broker does not do the case yet; `None` if it does.
pub(crate) fn why_pending(case: &str) -> Option<&'static str> {
    PENDING.iter().find(|(name, _)| *name == case).map(|(_, why)| *why)
}

/// Compares the client's column with the page.
#[track_caller]
pub(crate) fn hold(client: &str, column: &[Cell]) {
    let page = Page::lock();
    let mut rows = page.rows();
    let index = 1 + CLIENTS.iter().position(|known| known.name == client).expect("a client of the table");
    for (row, cell) in rows.iter_mut().zip(column) {
        cell.word().clone_into(&mut row[index]);
    }
    page.hold(MATRIX_HEAD, &matrix(&rows));
}

/// Compares the table of reasons with the page.
#[track_caller]
pub(crate) fn hold_reasons() {
    let mut text = format!("{REASONS_HEAD}|---|---|---|\n");
    for (client, cases, why) in CANNOT {
        writeln!(text, "| {client} | {} | {why} |", cases.join("; ")).expect("writing to a String cannot fail");
    }
    for (case, why) in PENDING {
        writeln!(text, "| Millrace | {case} | {why} |").expect("writing to a String cannot fail");
    }
    Page::lock().hold(REASONS_HEAD, &text);
}

const MATRIX_HEAD: &str = "| case |";
const REASONS_HEAD: &str = "| who | case | why not |\n";

fn matrix(rows: &[Vec<String>]) -> String {
    let mut text = MATRIX_HEAD.to_owned();
    for client in CLIENTS {
        write!(text, " {} |", client.name).expect("writing to a String cannot fail");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(CLIENTS.len()));
    text.push('\n');
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("writing to a String cannot fail");
    }
    text
}

/// docs/COMPATIBILITY.md, locked until it is dropped.
struct Page {
    path: PathBuf,
    text: String,
    _lock: File,
}

impl Page {
    fn lock() -> Page {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/COMPATIBILITY.md");
        let lock = File::open(&path).expect("the page is there");
        flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");
        let text = fs::read_to_string(&path).expect("the page is text");
        Page { path, text, _lock: lock }
    }

    /// The matrix as the page has it, a row for each case that there is now.
    fn rows(&self) -> Vec<Vec<String>> {
        let lines: Vec<Vec<&str>> =
            self.text[self.table(MATRIX_HEAD)].lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        let known = |case: &str, client: &str| {
            let column = lines.first()?.iter().position(|cell| *cell == client)?;
            let row = lines.iter().find(|row| row.get(1) == Some(&case))?;
            row.get(column).map(|cell| (*cell).to_owned())
        };
        let row = |case: &str| {
            let cells = CLIENTS.iter().map(|client| known(case, client.name).unwrap_or_default());
            std::iter::once(case.to_owned()).chain(cells).collect()
        };
        CASES.iter().map(|(case, _)| row(case)).collect()
    }

    /// Where the table with this first line is, up to the blank line behind it.
    #[track_caller]
    fn table(&self, head: &str) -> Range<usize> {
        let start = self.text.find(head).unwrap_or_else(|| panic!("the page has the table {head}"));
        start..start + self.text[start..].find("\n\n").expect("a blank line ends the table") + 1
    }

    #[track_caller]
    fn hold(&self, head: &str, expected: &str) {
        let place = self.table(head);
        if self.text[place.clone()] == *expected {
            return;
        }
        let stale = "docs/COMPATIBILITY.md is stale: run `cargo dev compat`";
        assert!(std::env::var_os("UPDATE").is_some(), "{stale}; it should have\n{expected}");
        let updated = format!("{}{expected}{}", &self.text[..place.start], &self.text[place.end..]);
        fs::write(&self.path, updated).expect("the page can be written");
    }
}
