//! Snappy in its two forms: one bare block, as librdkafka and franz-go write it, and the stream of the Java library
//! snappy-java, which the Java client, sarama and kafka-python write.
//!
//! ```text
//!  0            8             12                 16
//!  +------------+-------------+------------------+--------------+-------+--------------+-------+ - -
//!  | 82 SNAPPY\0| version = 1 | compatible = 1   | length int32 | block | length int32 | block |
//!  +------------+-------------+------------------+--------------+-------+--------------+-------+ - -
//! ```
//!
//! Integers are big-endian. No bare block begins like a stream: 0x82 'S' would be its length, and 'N' 'A' 'P' its first
//! element, which copies from 20,545 bytes before the start.

use super::{Compression, CompressionError};

/// Appends what `input`, in either form, stands for.
pub(super) fn decompress(input: &[u8], bytes_max: usize, output: &mut Vec<u8>) -> Result<(), CompressionError> {
    if !input.starts_with(STREAM_MAGIC) {
        return decompress_block(input, bytes_max, output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // At the start, and again where streams were written one after another.
        if rest.starts_with(STREAM_MAGIC) {
            rest = rest.get(STREAM_HEADER_BYTES..).ok_or(CORRUPT)?;
            continue;
        }
        let (length, blocks) = rest.split_first_chunk().ok_or(CORRUPT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CORRUPT)?;
        let (block, blocks) = blocks.split_at_checked(length).ok_or(CORRUPT)?;
        decompress_block(block, bytes_max, output)?;
        rest = blocks;
    }
    Ok(())
}

fn decompress_block(block: &[u8], bytes_max: usize, output: &mut Vec<u8>) -> Result<(), CompressionError> {
    let claimed_bytes = snap::raw::decompress_len(block).map_err(|_| CORRUPT)?;
    if claimed_bytes > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(CORRUPT);
    }
    let start = output.len();
    if claimed_bytes > bytes_max - start {
        return Err(CompressionError::TooLarge { bytes_max });
    }
    output.resize(start + claimed_bytes, 0);
    let byte_count = snap::raw::Decoder::new().decompress(block, &mut output[start..]).map_err(|_| CORRUPT)?;
    if byte_count == claimed_bytes { Ok(()) } else { Err(CORRUPT) }
}

/// Appends `input` as snappy-java writes it.
pub(super) fn compress(
    encoder: &mut snap::raw::Encoder,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), snap::Error> {
    output.extend_from_slice(STREAM_MAGIC);
    output.extend_from_slice(&STREAM_VERSION.to_be_bytes());
    output.extend_from_slice(&STREAM_VERSION.to_be_bytes());
    for chunk in input.chunks(CHUNK_BYTES) {
        let start = output.len() + LENGTH_BYTES;
        output.resize(start + snap::raw::max_compress_len(chunk.len()), 0);
        let block_bytes = encoder.compress(chunk, &mut output[start..])?;
        output.truncate(start + block_bytes);
        let length = u32::try_from(block_bytes).expect("a block of 32 KiB stays far below 4 GiB");
        output[start - LENGTH_BYTES..start].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

const CORRUPT: CompressionError = CompressionError::Corrupt { compression: Compression::Snappy };

const STREAM_MAGIC: &[u8] = b"\x82SNAPPY\0";
const STREAM_VERSION: u32 = 1;
const STREAM_HEADER_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;
/// What snappy-java compresses at a time.
const CHUNK_BYTES: usize = 32 * 1024;

/// No byte of a block stands for more: the densest element copies 64 bytes and takes three.
const EXPANSION_MAX: usize = 22;
