//! What the tests need beside Rust: for millbench what librdkafka is built with, for tests/compat and tests/crash foreign
//! clients, the real data they publish and a small disk, for tests/fuzz a C++ compiler, for the microbenchmarks valgrind.
//!
//! Whatever is missing is named before it is installed. System packages come from Debian; everything else goes under
//! `target/compat` and is bound to files in tests/compat/clients, whose copy lies beside what was installed as the mark of a
//! finished installation: change a file and the next run installs again.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// A command that shows that a Debian package is there, and the package.
const PACKAGES: &[(&[&str], &str)] = &[
    (&["git", "--version"], "git"),
    (&["cc", "--version"], "gcc"),
    // librdkafka's own build asks for both.
    (&["c++", "--version"], "g++"),
    (&["make", "--version"], "make"),
    (&["kcat", "-V"], "kcat"),
    (&["mkfs.ext4", "-V"], "e2fsprogs"),
    (&["mount", "--version"], "mount"),
    (&["java", "-version"], "default-jre-headless"),
    (&["mvn", "-version"], "maven"),
    (&["python3", "-c", "import ensurepip, venv"], "python3-venv"),
    (&["node", "--version"], "nodejs"),
    (&["npm", "--version"], "npm"),
    (&["go", "version"], "golang-go"),
];

/// The same for what the fuzzer is built with.
const COMPILER: &[(&[&str], &str)] = &[(&["c++", "--version"], "g++")];

/// The same for what counts instructions.
const COUNTER: &[(&[&str], &str)] = &[(&["valgrind", "--version"], "valgrind")];

/// Where the foreign clients are described, and where they go.
struct Places<'a> {
    root: &'a Path,
    target: &'a Path,
}

/// Installs what is missing; does nothing, silently, if nothing is.
pub(crate) fn install(root: &Path, target: &Path) -> anyhow::Result<()> {
    install_packages(PACKAGES)?;
    let places = Places { root, target };
    places.install(&["requirements.txt"], "venv", install_python)?;
    places.install(&["pom.xml"], "kafka", install_jars)?;
    places.install(&["kafkajs/package-lock.json", "kafkajs/package.json"], "kafkajs", install_node)?;
    let go = ["go/go.mod", "go/go.sum", "go/lines/lines.go", "go/sarama/main.go", "go/kafka-go/main.go"];
    places.install(&go, "go", build_go)?;
    let rskafka = ["rskafka/Cargo.toml", "rskafka/Cargo.lock", "rskafka/src/main.rs"];
    places.install(&rskafka, "rskafka", build_rskafka)
}

/// Installs a C++ compiler if there is none.
pub(crate) fn install_compiler() -> anyhow::Result<()> {
    install_packages(COMPILER)
}

/// Installs valgrind if it is missing.
pub(crate) fn install_valgrind() -> anyhow::Result<()> {
    install_packages(COUNTER)
}

fn install_packages(packages: &[(&[&str], &str)]) -> anyhow::Result<()> {
    let is_missing = |(probe, _): &&(&[&str], &str)| {
        let status = Command::new(probe[0]).args(&probe[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        !status.is_ok_and(|status| status.success())
    };
    let missing: Vec<&str> = packages.iter().filter(is_missing).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("missing Debian packages: {}", missing.join(" "));
    let command = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if !is_root()? {
        bail!("install them and run this again: sudo {command}");
    }
    // The lists of a fresh machine are empty; a failure here shows again, and better, in the installation.
    println!("installing: {command}");
    drop(Command::new("apt-get").args(["update", "--quiet"]).status());
    run(Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output().context("running id -u")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

impl Places<'_> {
    /// Brings `target/compat/<folder>` in line with `files` in tests/compat/clients. `fill` gets the first of them.
    fn install(
        &self,
        files: &[&str],
        folder: &str,
        fill: fn(&Path, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let clients = self.root.join("tests/compat/clients");
        let folder = self.target.join("compat").join(folder);
        let mark = folder.join("installed-from");
        let mut wanted = Vec::new();
        for file in files {
            let file = clients.join(file);
            wanted.extend(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
        }
        if fs::read(&mark).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        let first = clients.join(files[0]);
        println!("installing what {} lists into {}", first.display(), folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fill(&first, &folder)?;
        fs::write(&mark, wanted).with_context(|| format!("writing {}", mark.display()))
    }
}

fn install_python(requirements: &Path, folder: &Path) -> anyhow::Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"];
    run(Command::new(folder.join("bin/python")).args(pip).arg(requirements))
}

fn install_jars(pom: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut output = std::ffi::OsString::from("-DoutputDirectory=");
    output.push(folder);
    run(Command::new("mvn").args(["-q", "-B", "-f"]).arg(pom).arg("dependency:copy-dependencies").arg(output))
}

/// Exactly what the lock file says, and no script of a package.
fn install_node(lock: &Path, folder: &Path) -> anyhow::Result<()> {
    for file in [lock, &lock.with_file_name("package.json")] {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(file, folder.join(name)).with_context(|| format!("copying {}", file.display()))?;
    }
    let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"];
    run(Command::new("npm").args(ci).current_dir(folder))
}

/// With the compiler that is there: Debian's is older than what newer clients ask for, and another is not fetched.
fn build_go(module: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(folder).args(["./sarama", "./kafka-go"]);
    command.current_dir(module.parent().context("a file is in a folder")?);
    run(command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly"))
}

fn build_rskafka(manifest: &Path, folder: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(folder);
    run(&mut command)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
