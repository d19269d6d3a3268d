//! Apache Kafka for comparisons: its jars by Maven, and a broker that is its own controller.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// What is compared with.
pub(super) const VERSION: &str = "4.3.1";

/// What Kafka's own start script gives a broker.
const MACHINE: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// The jars, from the cache of this user, or fetched into it.
pub(super) fn jars() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let folder =
        cache.context("no home directory: give --kafka-jars")?.join("millbench").join(format!("kafka-{VERSION}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    // It gets its name when it is whole.
    let unfinished = folder.with_extension("unfinished");
    fs::create_dir_all(&unfinished).with_context(|| format!("making {}", unfinished.display()))?;
    let pom = unfinished.join("pom.xml");
    fs::write(&pom, POM.replace("VERSION", VERSION))?;
    eprintln!("fetching Apache Kafka {VERSION} with Maven into {}", folder.display());
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(&unfinished);
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies").arg(output);
    let status = maven.status().context("running mvn (Debian's package is maven), or give --kafka-jars")?;
    ensure!(status.success(), "mvn could not fetch Apache Kafka {VERSION}: {status}");
    fs::rename(&unfinished, &folder).with_context(|| format!("naming {}", folder.display()))?;
    Ok(folder)
}

/// The command of a broker whose data directory was formatted in `folder`.
pub(super) fn command(
    jars: &Path,
    folder: &Path,
    bootstrap: &str,
    controller: &str,
    settings: &[&str],
) -> anyhow::Result<Command> {
    let mut properties = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://{bootstrap},CONTROLLER://{controller}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n",
        folder.join("data").display()
    );
    for setting in settings {
        properties.push_str(setting);
        properties.push('\n');
    }
    let config = folder.join("server.properties");
    fs::write(&config, properties)?;
    let mut format = java(jars, "kafka.tools.StorageTool");
    format
        .args(["format", "-t", "bWlsbGJlbmNoLXBlZXItMQ", "-c"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = format.status().context("running java (Debian's package is default-jre-headless)")?;
    ensure!(status.success(), "Kafka's storage tool could not format a data directory: {status}");
    let mut command = java(jars, "kafka.Kafka");
    command.arg(config);
    Ok(command)
}

fn java(jars: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(MACHINE).arg("-cp").arg(jars.join("*")).arg(class);
    command
}

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millbench</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>VERSION</version>
    </dependency>
  </dependencies>
</project>
"#;
