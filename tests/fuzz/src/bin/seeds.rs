//! Writes the seeds of one target into a folder: `seeds TARGET FOLDER`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = arguments.as_slice() else {
        eprintln!("usage: seeds TARGET FOLDER");
        return ExitCode::FAILURE;
    };
    let Some(target) = millrace_fuzz::TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("no target is called {name}");
        return ExitCode::FAILURE;
    };
    for (index, seed) in (target.seeds)().iter().enumerate() {
        if let Err(error) = std::fs::write(Path::new(folder).join(format!("seed-{index:02}")), seed) {
            eprintln!("writing into {folder}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
