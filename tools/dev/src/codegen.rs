//! `cargo dev codegen`: writes the generated part of millrace-protocol.
//!
//! 1. Read the schemas and tables in server/protocol/schemas.
//! 2. Resolve every structure: the versions it can occur in, whether it borrows, its fewest encoded bytes.
//! 3. Render one Rust file per selected API, the list of modules, and the tables of API keys and error codes.
//! 4. Format them with rustfmt, and write them; or, with `--check`, compare them with what is there.
//!
//! Every schema is resolved and rendered, selected or not, so that adding a name to [`SELECTED`] is all a new API
//! takes. The output depends on nothing but the schemas and this code.

#![expect(clippy::format_push_string, reason = "write! to a String would return an error that cannot happen")]

mod decode;
mod encode;
mod message;
mod names;
mod resolve;
mod sample;
mod schema;
mod tables;
mod versions;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use message::ApiFile;
use resolve::Message;
use schema::{Kind, Schema};

/// What `cargo dev codegen` takes on its command line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if a file differs from what would be written.
    #[arg(long)]
    check: bool,
}

/// The APIs whose messages are committed, in the order of their keys. The header comes besides.
const SELECTED: &[&str] = &[
    "Produce",
    "Fetch",
    "ListOffsets",
    "Metadata",
    "OffsetCommit",
    "OffsetFetch",
    "FindCoordinator",
    "JoinGroup",
    "Heartbeat",
    "LeaveGroup",
    "SyncGroup",
    "DescribeGroups",
    "ListGroups",
    "SaslHandshake",
    "ApiVersions",
    "CreateTopics",
    "DeleteTopics",
    "DeleteRecords",
    "InitProducerId",
    "OffsetForLeaderEpoch",
    "DescribeConfigs",
    "AlterConfigs",
    "DescribeLogDirs",
    "SaslAuthenticate",
    "CreatePartitions",
    "DeleteGroups",
    "ElectLeaders",
    "IncrementalAlterConfigs",
    "ListPartitionReassignments",
    "OffsetDelete",
    "DescribeCluster",
    "DescribeProducers",
    "ConsumerGroupHeartbeat",
    "ConsumerGroupDescribe",
    "ListConfigResources",
    "DescribeTopicPartitions",
];

/// The opaque fields whose contents are committed.
const SELECTED_DATA: &[&str] = &["ConsumerProtocolAssignment", "ConsumerProtocolSubscription"];

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = workspace_root()?;
    let protocol = root.join("server/protocol");
    let files = render_all(&protocol.join("schemas"))?;

    let mut stale = Vec::new();
    for (name, text) in &files {
        let path = protocol.join("src").join(name);
        let text = format_rust(&root, text).with_context(|| format!("formatting {name}"))?;
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        if current == text {
            continue;
        }
        if arguments.check {
            stale.push(name.clone());
        } else {
            std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            std::fs::write(&path, text).with_context(|| format!("writing {name}"))?;
        }
    }
    for name in leftover_files(&protocol.join("src"), &files)? {
        if arguments.check {
            stale.push(name);
        } else {
            std::fs::remove_file(protocol.join("src").join(&name)).with_context(|| format!("removing {name}"))?;
        }
    }
    ensure!(stale.is_empty(), "differs from the schemas, run `cargo dev codegen`: {}", stale.join(", "));
    Ok(())
}

/// Renders every generated file, by its path below `src`, before formatting.
fn render_all(schemas: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut apis: BTreeMap<i16, ApiFile> = BTreeMap::new();
    let (mut headers, mut data) = (Vec::new(), render_group_records(&schemas.join("group-records"))?);
    for schema in read_schemas(&schemas.join("messages"))? {
        let name = schema.name.clone();
        let message = Message::resolve(&schema).with_context(|| format!("resolving {name}"))?;
        match (schema.kind, schema.api_key) {
            (Kind::Request, Some(key)) => apis.entry(key).or_default().request = Some(message),
            (Kind::Response, Some(key)) => apis.entry(key).or_default().response = Some(message),
            (Kind::Header, None) => headers.push(message),
            (Kind::Data, None) => {
                let text = message::render_data(&message);
                if SELECTED_DATA.contains(&name.as_str()) {
                    data.insert(names::snake(&name), (text, vec![name]));
                }
            }
            (kind, key) => bail!("{name} is a {kind:?} with API key {key:?}"),
        }
    }

    for api in apis.values_mut() {
        api.separate_names();
    }

    let structures = data.iter().map(|(module, (_, names))| (module.clone(), names.clone())).collect();
    let mut files = BTreeMap::from([("group_data.rs".to_owned(), message::render_data_list(&structures))]);
    files.extend(data.into_iter().map(|(module, (text, _))| (format!("group_data/{module}.rs"), text)));
    let mut selected = Vec::new();
    for (key, api) in &apis {
        let text = message::render_api(api).with_context(|| format!("rendering API {key}"))?;
        let name = api.name()?;
        if SELECTED.contains(&name) {
            files.insert(format!("messages/{}.rs", names::snake(name)), text);
            selected.push(api);
        }
    }
    ensure!(selected.len() == SELECTED.len(), "a selected API has no schema");
    files.insert("messages/header.rs".to_owned(), message::render_headers(&headers));
    files.insert("messages.rs".to_owned(), message::render_module_list(&selected)?);
    let advertised = std::fs::read_to_string(schemas.join("api-versions.tsv")).context("reading api-versions.tsv")?;
    files.insert("api_key.rs".to_owned(), tables::render_api_keys(&apis, &advertised)?);
    let errors = std::fs::read_to_string(schemas.join("errors.tsv")).context("reading errors.tsv")?;
    files.insert("error_code.rs".to_owned(), tables::render_error_codes(&errors)?);
    Ok(files)
}

/// Renders the records of group coordinators, by module, each with the names of key and value.
fn render_group_records(folder: &Path) -> anyhow::Result<BTreeMap<String, (String, Vec<String>)>> {
    let mut records: BTreeMap<String, Vec<(i16, Message)>> = BTreeMap::new();
    // By their names a key comes before its value.
    for schema in read_schemas(folder)? {
        let stem = schema.name.strip_suffix("Key").or_else(|| schema.name.strip_suffix("Value"));
        let stem = stem.with_context(|| format!("{} is neither key nor value", schema.name))?.to_owned();
        let record_type = schema.api_key.with_context(|| format!("{} has no type", schema.name))?;
        let message = Message::resolve(&schema).with_context(|| format!("resolving {}", schema.name))?;
        records.entry(stem).or_default().push((record_type, message));
    }
    let mut rendered = BTreeMap::new();
    for (stem, pair) in records {
        let [(key_type, key), (value_type, value)] = pair.as_slice() else { bail!("{stem} lacks a key or a value") };
        ensure!(key_type == value_type, "key and value of {stem} are of different types");
        let names = vec![key.name.clone(), value.name.clone()];
        rendered.insert(names::snake(&stem), (message::render_record(&stem, key, value, *key_type), names));
    }
    Ok(rendered)
}

/// Reads all schemas, in the order of their file names.
fn read_schemas(folder: &Path) -> anyhow::Result<Vec<Schema>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut schemas = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let schema = serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))?;
        schemas.push(schema);
    }
    Ok(schemas)
}

/// Files in the generated folders that nothing generates any more.
fn leftover_files(source: &Path, files: &BTreeMap<String, String>) -> anyhow::Result<Vec<String>> {
    let mut leftover = Vec::new();
    for folder in ["messages", "group_data"] {
        let path = source.join(folder);
        for entry in std::fs::read_dir(&path).with_context(|| format!("listing {}", path.display()))? {
            let name = format!("{folder}/{}", entry?.file_name().to_string_lossy());
            if !files.contains_key(&name) {
                leftover.push(name);
            }
        }
    }
    leftover.sort();
    Ok(leftover)
}

/// Formats with the workspace's own settings.
fn format_rust(root: &Path, text: &str) -> anyhow::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting rustfmt")?;
    // rustfmt reads all of its input before it writes, so writing first cannot block.
    child.stdin.take().context("rustfmt has no input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt refused the text:\n{text}");
    Ok(String::from_utf8(output.stdout)?)
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let tools_dev = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tools_dev.ancestors().nth(2).context("tools/dev lies two folders below the workspace")?;
    Ok(root.to_path_buf())
}
