//! A run of `millbench commit-path` as small as it gets: every variant works, and nothing is left behind.

use std::process::Command;

#[test]
fn every_variant_is_measured_and_the_files_are_removed() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millbench"))
        .args(["commit-path", "--files", "1,3", "--piece-bytes", "4096,20000", "--seconds-per-cell", "0.05"])
        .args(["--json", "-", "--dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rounds = report["rounds"].as_array().unwrap();
    // Five variants for small pieces, seven for large ones, each over two counts of files.
    assert_eq!(rounds.len(), 24);
    for row in rounds {
        assert!(row["round_count"].as_u64().unwrap() >= 5, "{row}");
        assert!(row["p99_ms"].as_f64().unwrap() >= row["p50_ms"].as_f64().unwrap(), "{row}");
        assert!(row["cpu_seconds_per_gb"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(stderr.contains("flush, nothing written"), "{stderr}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn more_files_than_descriptors_are_refused_before_anything_is_made() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millbench"))
        .args(["commit-path", "--files", "2000000000", "--dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("RLIMIT_NOFILE"), "{stderr}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
