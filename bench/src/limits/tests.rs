//! Each measurement in miniature: figures that could be true, and no files left.

use super::*;

/// Beside the test's own program: what is temporary elsewhere may have no direct writes.
fn new_directory() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

fn small(directory: &Path, part: Part) -> LimitsOptions {
    LimitsOptions {
        duration: Duration::from_millis(20),
        connection_counts: vec![1, 2],
        echo_connection_counts: vec![1, 5],
        disk_bytes: 4 << 20,
        ..LimitsOptions::sample(directory, part)
    }
}

/// Measures one part and checks that its folder is gone.
fn measure_small(part: Part) -> Limits {
    let directory = new_directory();
    let limits = measure(&small(directory.path(), part)).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    limits
}

#[test]
fn loopback_tells_both_sides_apart() {
    let limits = measure_small(Part::Loopback);
    let counts: Vec<_> = limits.loopback.iter().map(|row| row.connection_count).collect();
    assert_eq!(counts, [1, 2]);
    for row in &limits.loopback {
        assert!(row.bytes_per_second > 1e6, "{row:?}");
        for cpu in [row.sender_cpu_seconds_per_gb, row.receiver_cpu_seconds_per_gb] {
            assert!(cpu > 0.001 && cpu < 100.0, "{row:?}");
        }
    }
    assert!(limits.echo.is_empty() && limits.disk.is_empty() && limits.flush.is_empty());
}

#[test]
fn the_echo_server_answers_all_connections_and_ends() {
    let limits = measure_small(Part::Echo);
    let counts: Vec<_> = limits.echo.iter().map(|row| row.connection_count).collect();
    assert_eq!(counts, [1, 5]);
    for row in &limits.echo {
        assert!(row.closed_requests_per_second > 10.0, "{row:?}");
        assert!(row.open_requests_per_second > 0.0 && row.open_requests_per_second < 11_000.0, "{row:?}");
        assert!(row.closed_cpu_us_per_request > 0.1 && row.open_cpu_us_per_request > 0.1, "{row:?}");
        assert!(row.p50_ms > 0.001 && row.p50_ms <= row.p99_ms && row.p99_ms <= row.p99_9_ms, "{row:?}");
    }
}

#[test]
fn large_writes_go_over_unwritten_extents_once_and_then_over_written_ones() {
    let limits = measure_small(Part::Disk);
    let [unwritten, written] = &limits.disk[..] else { panic!("{limits:?}") };
    assert_eq!((unwritten.extents, written.extents), ("unwritten", "written"));
    assert!(unwritten.bytes <= 4 << 20 && written.bytes >= 8 << 20, "{limits:?}");
    for row in [unwritten, written] {
        assert!(row.bytes_per_second > 1e5 && row.cpu_seconds_per_gb > 0.0, "{row:?}");
    }
}

#[test]
fn flushes_are_counted_one_by_one() {
    let limits = measure_small(Part::Flush);
    let kinds: Vec<_> = limits.flush.iter().map(|row| (row.way, row.write_bytes)).collect();
    assert_eq!(kinds, [("blocking", 4096), ("blocking", 65536), ("runtime", 4096), ("runtime", 65536)]);
    for row in &limits.flush {
        assert!(row.count > 0 && row.per_second > 0.0, "{row:?}");
        assert!(row.p50_ms > 0.0 && row.p50_ms <= row.p99_ms && row.p99_9_ms <= row.max_ms, "{row:?}");
    }
}

#[test]
fn a_sample_measures_its_part_and_no_other() {
    let directory = new_directory();
    let limits = sample(directory.path(), Part::Flush).unwrap();
    assert_eq!((limits.format, limits.flush.len(), limits.disk.len()), (1, 4, 0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_folder_goes_when_the_work_fails() {
    let directory = new_directory();
    let outcome: anyhow::Result<()> = in_a_folder(directory.path(), |folder| {
        std::fs::write(folder.join("left"), "behind")?;
        anyhow::bail!("on purpose")
    });
    assert_eq!(outcome.unwrap_err().to_string(), "on purpose");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
