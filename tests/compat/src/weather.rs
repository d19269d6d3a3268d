//! Real input: a year of hourly temperatures in two cities, from the Python package `vega_datasets`.
//!
//! Every line of the two files, the heading too, is a record, keyed by its city; the cities take turns, as they would.

use std::fs;
use std::path::PathBuf;

use crate::places;

/// The record keys, and the names of the files without `-temps.csv`.
pub const CITIES: [&str; 2] = ["seattle", "sf"];

/// The files as they are on disk.
pub struct Weather {
    files: [Vec<u8>; 2],
}

impl Weather {
    /// Reads the installed files.
    pub fn read() -> Weather {
        let files = reading_files().map(|path| {
            let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!file.contains(&b'|'), "{} must not have the key's separator", path.display());
            file
        });
        Weather { files }
    }

    /// All records as `city|line` lines, the cities in turns.
    pub fn records(&self) -> Vec<u8> {
        let mut cities = CITIES.map(str::as_bytes).into_iter().zip(self.files.each_ref().map(|file| lines(file)));
        let (seattle, sf) = (cities.next().expect("two cities"), cities.next().expect("two cities"));
        let mut records = Vec::new();
        for hour in 0..seattle.1.len().max(sf.1.len()) {
            for (city, lines) in [&seattle, &sf] {
                if let Some(line) = lines.get(hour) {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    records.extend_from_slice(&[city, &b"|"[..], line, b"\n"].concat());
                }
            }
        }
        records
    }

    /// Panics unless `records`, lines of `city|line` in the order of a topic, give both files byte by byte.
    #[track_caller]
    pub fn assert_equals(&self, records: &[u8]) {
        for (city, file) in CITIES.iter().zip(&self.files) {
            let mut read = values_of(city, records);
            if file.last() != Some(&b'\n') {
                // The last record is a line without a line feed; what printed it added one.
                read.pop_if(|byte| *byte == b'\n');
            }
            assert_eq!(lines(&read).len(), lines(file).len(), "count of records of {city}");
            assert!(read == *file, "{city}: as many records as published, but other bytes or another order");
        }
    }
}

/// The values of `records` with the key `city`, in their order.
pub fn values_of(city: &str, records: &[u8]) -> Vec<u8> {
    let key = format!("{city}|");
    lines(records).into_iter().filter_map(|line| line.strip_prefix(key.as_bytes())).flatten().copied().collect()
}

/// Lines with their line feeds.
pub fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

/// The files of the cities, in their order.
pub fn reading_files() -> [PathBuf; 2] {
    let folder = data_folder();
    CITIES.map(|city| folder.join(format!("{city}-temps.csv")))
}

/// `lib/python3.x/site-packages/vega_datasets/_data` of the virtual environment.
fn data_folder() -> PathBuf {
    let library = places::client("venv/lib");
    let mut versions = fs::read_dir(&library).expect("the environment's library can be listed");
    let version = versions.next().expect("an environment is for one Python").expect("it can be read");
    version.path().join("site-packages/vega_datasets/_data")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> Weather {
        Weather { files: [b"date,temp\n1,2\n".to_vec(), b"temp,date".to_vec()] }
    }

    #[test]
    fn cities_take_turns() {
        assert_eq!(weather().records(), b"seattle|date,temp\nsf|temp,date\nseattle|1,2\n");
        weather().assert_equals(&weather().records());
    }

    #[test]
    #[should_panic(expected = "another order")]
    fn another_order_is_seen() {
        weather().assert_equals(b"seattle|1,2\nsf|temp,date\nseattle|date,temp\n");
    }

    #[test]
    #[should_panic(expected = "count of records of seattle")]
    fn a_record_twice_is_seen() {
        weather().assert_equals(b"seattle|date,temp\nseattle|1,2\nseattle|1,2\nsf|temp,date\n");
    }
}
