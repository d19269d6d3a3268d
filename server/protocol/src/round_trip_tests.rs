//! Every message in every version: round trips, prefixes, trailing bytes, damaged and random bytes.

use crate::group_data::every_structure;
use crate::messages::every_message;
use crate::sampler::Sampler;
use crate::wire::{DecodeError, Message, Reader, Structure, Writer};

const SAMPLE_COUNT: u64 = 40;

/// Decodes a whole body.
fn decode<'a, M: Structure<'a>>(bytes: &'a [u8], version: i16) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

fn encode<'a>(message: &impl Structure<'a>, version: i16) -> Vec<u8> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).unwrap();
    writer.into_bytes()
}

macro_rules! test_every_structure {
    ($(($module:ident, $name:ident))*) => {
        #[test]
        fn what_is_encoded_decodes_to_the_same() {
            $(for_each_sample(<folder::$module::$name>::VERSIONS, |random, version| {
                let message = <folder::$module::$name>::sample(random, version);
                let bytes = encode(&message, version);
                assert_eq!(decode(&bytes, version).as_ref(), Ok(&message), "version {version}");
            });)*
        }

        #[test]
        fn every_strict_prefix_is_an_error() {
            $(for_each_sample(<folder::$module::$name>::VERSIONS, |random, version| {
                let bytes = encode(&<folder::$module::$name>::sample(random, version), version);
                // Every prefix of the short ones; of the long ones the ends and some between.
                let step = 1 + bytes.len() / 64;
                for end in (0..bytes.len()).step_by(step) {
                    let decoded = decode::<folder::$module::$name>(&bytes[..end], version);
                    assert!(decoded.is_err(), "{} version {version}: {end} of {}", stringify!($name), bytes.len());
                }
            });)*
        }

        #[test]
        fn a_byte_too_many_is_an_error() {
            $(for_each_sample(<folder::$module::$name>::VERSIONS, |random, version| {
                let mut bytes = encode(&<folder::$module::$name>::sample(random, version), version);
                bytes.push(0);
                let decoded = decode::<folder::$module::$name>(&bytes, version);
                assert_eq!(decoded, Err(DecodeError::TrailingBytes { byte_count: 1 }));
            });)*
        }

        #[test]
        fn damaged_bytes_never_panic() {
            $(for_each_sample(<folder::$module::$name>::VERSIONS, |random, version| {
                let mut bytes = encode(&<folder::$module::$name>::sample(random, version), version);
                if bytes.is_empty() {
                    return;
                }
                for _ in 0..4 {
                    let index = random.below(bytes.len());
                    bytes[index] = [0, 0x7f, 0x80, 0xff][random.below(4)];
                    let _ = decode::<folder::$module::$name>(&bytes, version);
                }
            });)*
        }

        #[test]
        fn random_bytes_never_panic() {
            $(for_each_sample(<folder::$module::$name>::VERSIONS, |random, version| {
                let byte_count = random.below(200);
                let bytes: Vec<u8> = (0..byte_count).map(|_| random.next_i8().cast_unsigned()).collect();
                let _ = decode::<folder::$module::$name>(&bytes, version);
            });)*
        }

        #[test]
        fn versions_outside_the_range_are_refused() {
            $({
                let versions = <folder::$module::$name>::VERSIONS;
                for version in [i16::MIN, -1, versions.min - 1, versions.max + 1, i16::MAX] {
                    let decoded = decode::<folder::$module::$name>(&[0; 64], version);
                    assert_eq!(decoded, Err(DecodeError::UnsupportedVersion { version }));
                }
            })*
        }
    };
}

mod of_messages {
    use super::*;
    use crate::messages as folder;

    every_message!(test_every_structure);
}

mod of_group_data {
    use super::*;
    use crate::group_data as folder;

    every_structure!(test_every_structure);
}

macro_rules! test_agreement {
    ($(($module:ident, $name:ident))*) => {
        #[test]
        fn messages_agree_with_the_table_of_apis() {
            $({
                let versions = <crate::messages::$module::$name>::VERSIONS;
                let key = <crate::messages::$module::$name as Message>::API_KEY;
                assert_eq!(versions, key.valid_versions(), "{}", stringify!($name));
            })*
        }
    };
}

every_message!(test_agreement);

/// Runs `test` with `SAMPLE_COUNT` seeds for every version.
fn for_each_sample(versions: crate::wire::VersionRange, mut test: impl FnMut(&mut Sampler, i16)) {
    for version in versions.min..=versions.max {
        for seed in 0..SAMPLE_COUNT {
            test(&mut Sampler::new(seed << 16 | u64::from(version.cast_unsigned())), version);
        }
    }
}
