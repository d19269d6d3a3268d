//! Judged by another codec: what we encode, the `kafka-protocol` crate decodes and encodes to the same bytes, and we
//! decode what it encoded to what we began with. Versions that only one of the two knows are left out.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use proptest::prelude::*;

use crate::messages::every_message;
use crate::sampler::Sampler;
use crate::wire::{Message, Reader, Writer};

/// Passes `bytes` through the other codec.
fn through_oracle<Theirs: Decodable + Encodable>(bytes: &[u8], version: i16) -> Vec<u8> {
    let mut input = Bytes::copy_from_slice(bytes);
    let message = Theirs::decode(&mut input, version).expect("the oracle decodes it");
    assert!(input.is_empty(), "the oracle leaves {} bytes", input.len());
    let mut output = BytesMut::new();
    message.encode(&mut output, version).expect("the oracle encodes it");
    output.to_vec()
}

fn encode<'a>(message: &impl Message<'a>, version: i16) -> Vec<u8> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).unwrap();
    writer.into_bytes()
}

macro_rules! test_against_oracle {
    ($(($module:ident, $name:ident))*) => {
        proptest! {
            #[test]
            fn the_oracle_agrees_on_every_message(seed: u64) {
                $(
                    let theirs = <oracle::$name as OracleMessage>::VERSIONS;
                    let ours = <crate::messages::$module::$name>::VERSIONS;
                    for version in ours.min.max(theirs.min)..=ours.max.min(theirs.max) {
                        let message = <crate::messages::$module::$name>::sample(&mut Sampler::new(seed), version);
                        let bytes = encode(&message, version);
                        let echoed = through_oracle::<oracle::$name>(&bytes, version);
                        prop_assert_eq!(&bytes, &echoed, "{} version {}", stringify!($name), version);
                        let decoded = <crate::messages::$module::$name>::decode(&mut Reader::new(&echoed), version);
                        prop_assert_eq!(decoded.as_ref(), Ok(&message));
                    }
                )*
            }
        }
    };
}

every_message!(test_against_oracle);
