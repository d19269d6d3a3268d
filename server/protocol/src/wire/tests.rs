//! The primitives at their edges, and the bounds that hold against hostile input.

use super::*;
use crate::messages::metadata::MetadataRequest;
use crate::messages::produce::ProduceRequest;

#[test]
fn varints_of_every_size_come_back() {
    for shift in 0..32 {
        for value in [1_i32 << shift, (1_i32 << shift).wrapping_sub(1), (1_i32 << shift).wrapping_neg()] {
            let mut writer = Writer::new();
            writer.write_varint(value);
            writer.write_uvarint(value.cast_unsigned());
            writer.write_varlong(i64::from(value) << 31);
            let mut reader = Reader::new(writer.bytes());
            assert_eq!(reader.read_varint(), Ok(value));
            assert_eq!(reader.read_uvarint(), Ok(value.cast_unsigned()));
            assert_eq!(reader.read_varlong(), Ok(i64::from(value) << 31));
            assert_eq!(reader.finish(), Ok(()));
        }
    }
}

#[test]
fn varints_have_the_bytes_that_the_format_says() {
    let mut writer = Writer::new();
    writer.write_uvarint(300);
    writer.write_varint(-1);
    writer.write_varint(i32::MIN);
    writer.write_varlong(i64::MIN);
    assert_eq!(writer.bytes(), b"\xac\x02\x01\xff\xff\xff\xff\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}

#[test]
fn varints_that_are_too_long_are_refused() {
    let error = DecodeError::VarintTooLong { position: 0 };
    assert_eq!(Reader::new(b"\xff\xff\xff\xff\x10").read_uvarint(), Err(error));
    assert_eq!(Reader::new(b"\x80\x80\x80\x80\x80\x00").read_uvarint(), Err(error));
    assert_eq!(Reader::new(&[0xff; 10]).read_varlong(), Err(error));
    assert_eq!(Reader::new(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").read_varlong(), Err(error));
}

#[test]
fn null_is_an_error_where_it_is_not_allowed() {
    let error = DecodeError::UnexpectedNull { position: 0 };
    assert_eq!(Reader::new(b"\xff\xff").read_string(Layout::Classic), Err(error));
    assert_eq!(Reader::new(b"\x00").read_string(Layout::Flexible), Err(error));
    assert_eq!(Reader::new(b"\xff\xff\xff\xff").read_bytes(Layout::Classic), Err(error));
    assert_eq!(Reader::new(b"\x00").read_array(Layout::Flexible, 1, Reader::read_i8), Err(error));
}

#[test]
fn negative_lengths_other_than_null_are_errors() {
    let error = DecodeError::NegativeLength { position: 0 };
    assert_eq!(Reader::new(b"\xff\xfe").read_nullable_string(Layout::Classic), Err(error));
    assert_eq!(Reader::new(b"\xff\xff\xff\xfe").read_nullable_bytes(Layout::Classic), Err(error));
    assert_eq!(Reader::new(b"\x80\x00\x00\x00").read_nullable_array(Layout::Classic, 1, Reader::read_i8), Err(error));
    assert_eq!(Reader::new(b"\xff\xff\xff\xff\x0f").read_nullable_bytes(Layout::Flexible), Err(error));
}

#[test]
fn strings_must_be_utf_8() {
    let error = DecodeError::InvalidUtf8 { position: 0 };
    assert_eq!(Reader::new(b"\x00\x02\xc3\x28").read_string(Layout::Classic), Err(error));
}

#[test]
fn a_count_is_refused_before_memory_is_taken_for_it() {
    // Five bytes that ask for two thousand million topics.
    let body = b"\x7f\xff\xff\xff\x00";
    let decoded = MetadataRequest::decode(&mut Reader::new(body), 1);
    assert_eq!(decoded, Err(DecodeError::CountTooLarge { position: 0 }));
    let body = b"\xff\xff\xff\xff\x07";
    let decoded = MetadataRequest::decode(&mut Reader::new(body), 12);
    assert_eq!(decoded, Err(DecodeError::CountTooLarge { position: 0 }));
}

#[test]
fn elements_of_no_bytes_count_as_one() {
    let body = b"\x00\x00\x00\x03\x00\x00";
    let decoded = Reader::new(body).read_array(Layout::Classic, 0, |_| Ok(()));
    assert_eq!(decoded, Err(DecodeError::CountTooLarge { position: 0 }));
}

#[test]
fn nested_counts_share_one_budget() {
    // A topic and its ten partitions: either count fits the bytes that are left, both together exceed the memory.
    let mut writer = Writer::new();
    writer.write_nullable_string(Layout::Classic, None).unwrap();
    writer.write_i16(1);
    writer.write_i32(1000);
    writer.write_i32(1);
    writer.write_string(Layout::Classic, "topic").unwrap();
    writer.write_i32(10);
    writer.write_slice(&[0xff; 100]);
    let decode = |memory_bytes_max| {
        ProduceRequest::decode(&mut Reader::new(writer.bytes()).with_memory_max(memory_bytes_max), 3).map(drop)
    };
    assert!(matches!(decode(100), Err(DecodeError::MemoryExceeded { .. })));
    assert_eq!(decode(usize::MAX), Ok(()));
}

#[test]
fn tags_must_rise_and_fit_their_content() {
    let read = |bytes: &[u8]| {
        let mut seen = Vec::new();
        let mut reader = Reader::new(bytes);
        let read = reader.read_tagged_fields(|tag, reader| {
            if tag != 1 {
                return Ok(false);
            }
            seen.push(reader.read_i8()?);
            Ok(true)
        });
        read.and_then(|()| reader.finish()).map(|()| seen)
    };
    assert_eq!(read(b"\x00"), Ok(vec![]));
    assert_eq!(read(b"\x03\x00\x02xx\x01\x01\x2a\x05\x00"), Ok(vec![42]));
    assert_eq!(read(b"\x02\x01\x01\x2a\x01\x01\x2a"), Err(DecodeError::TagOrder { position: 4 }));
    assert_eq!(read(b"\x02\x02\x00\x01\x01\x2a"), Err(DecodeError::TagOrder { position: 3 }));
    assert_eq!(read(b"\x01\x01\x02\x2a\x00"), Err(DecodeError::TagLength { position: 1 }));
    assert_eq!(read(b"\x01\x01\x00\x2a"), Err(DecodeError::Truncated { position: 3 }));
    assert_eq!(read(b"\x01\x09\x05xx"), Err(DecodeError::Truncated { position: 1 }));
    assert_eq!(read(b"\xff\xff\xff\xff\x0f"), Err(DecodeError::Truncated { position: 5 }));
}

#[test]
fn a_long_tagged_value_gets_a_long_length() {
    let mut writer = Writer::new();
    writer
        .write_tagged(3, |writer| {
            writer.write_slice(&[7; 300]);
            Ok(())
        })
        .unwrap();
    assert_eq!(writer.bytes()[..3], [3, 0xac, 0x02]);
    assert_eq!(writer.bytes()[3..], [7; 300]);
}

#[test]
fn a_string_too_long_for_its_length_is_an_error() {
    let long = "x".repeat(40_000);
    assert_eq!(Writer::new().write_string(Layout::Classic, &long), Err(EncodeError::TooLong { length: 40_000 }));
    assert_eq!(Writer::new().write_string(Layout::Flexible, &long), Ok(()));
}

#[test]
fn fields_that_a_version_cannot_carry_are_refused_unless_ignorable() {
    let version = 3;
    let request = MetadataRequest { allow_auto_topic_creation: false, ..MetadataRequest::default() };
    let field = "AllowAutoTopicCreation";
    assert_eq!(request.encode(&mut Writer::new(), version), Err(EncodeError::FieldNotInVersion { field, version }));
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let (field, version) = ("Topics", 0);
    assert_eq!(request.encode(&mut Writer::new(), version), Err(EncodeError::NullNotAllowed { field, version }));
}

#[test]
fn uuids_are_shown_as_kafka_shows_them() {
    assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    let counted = Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(counted.to_string(), "AAECAwQFBgcICQoLDA0ODw");
}

#[test]
fn codes_of_errors_are_counted_and_others_not() {
    let mut writer = Writer::new();
    for code in [0, 3, 0, -1] {
        writer.write_error_code(code);
    }
    writer.write_i16(7);
    assert_eq!(writer.error_count(), 2);
    assert_eq!(writer.bytes(), [0, 0, 0, 3, 0, 0, 255, 255, 0, 7]);
    writer.clear();
    assert_eq!(writer.error_count(), 2, "a count of everything ever written");
}
