//! Compressed records: gzip, snappy, lz4 and zstd, as Kafka's clients write them.
//!
//! Owns [`Decompressor`], which reads what clients wrote and yields no more bytes than it was told to, and
//! [`Compressor`], which writes what every client reads. Both keep their memory and their contexts from batch to batch.
//!
//! What a compressed batch claims of itself is not believed:
//!
//! - The output ends at the limit *while* it is made. Memory grows with the bytes that were really decompressed, to at
//!   most about twice the limit, and never to a size that stands in the input.
//! - gzip and lz4 are read as streams; lz4 holds one block more, 4 MiB at most by its format.
//! - zstd is decompressed in one step into memory that grows until the content fits. The frame's window is the output
//!   itself, so a frame that asks for a window of 128 MiB costs nothing.
//! - snappy states its length in front. A length past what its bytes can stand for is refused before memory is taken.
//!
//! No input panics: it is an error.

mod snappy;

#[cfg(test)]
mod tests;

use std::io::{Read, Write as _};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use thiserror::Error;
use zstd::zstd_safe::{self, CCtx, DCtx};

use super::{BatchView, Compression, Records};

/// Why compressed records were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompressionError {
    /// They are larger than the caller allows.
    #[error("the records take more than {bytes_max} bytes when decompressed")]
    TooLarge {
        /// The caller's limit.
        bytes_max: usize,
    },
    /// They are not what the codec writes.
    #[error("the records are not valid {compression:?} data")]
    Corrupt {
        /// The codec that the batch names.
        compression: Compression,
    },
    /// The codec refused to compress, for want of memory.
    #[error("the records could not be compressed as {compression:?}")]
    Failed {
        /// The codec that was asked for.
        compression: Compression,
    },
}

/// Decompresses one batch after another.
pub struct Decompressor {
    bytes_max: usize,
    output: Vec<u8>,
    zstd: Option<DCtx<'static>>,
}

impl Decompressor {
    /// A decompressor whose output never has more than `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, output: Vec::new(), zstd: None }
    }

    /// The records of a batch, whatever its compression. What is not compressed is neither copied nor limited.
    pub fn records<'a>(&'a mut self, batch: &BatchView<'a>) -> Result<Records<'a>, CompressionError> {
        let compression = batch.header().attributes().compression().expect("a checked batch has a known codec");
        Ok(Records::new(batch.header(), self.decompress(compression, batch.records_bytes())?))
    }

    /// What `input` stands for.
    pub fn decompress<'a>(
        &'a mut self,
        compression: Compression,
        input: &'a [u8],
    ) -> Result<&'a [u8], CompressionError> {
        self.output.clear();
        match compression {
            Compression::None => return Ok(input),
            Compression::Gzip => self.read_stream(compression, flate2::bufread::MultiGzDecoder::new(input))?,
            Compression::Snappy => snappy::decompress(input, self.bytes_max, &mut self.output)?,
            Compression::Lz4 => self.read_stream(compression, FrameDecoder::new(input))?,
            Compression::Zstd => self.read_zstd(input)?,
        }
        Ok(&self.output)
    }

    fn read_stream(&mut self, compression: Compression, stream: impl Read) -> Result<(), CompressionError> {
        let bytes_max = self.bytes_max;
        // One byte past the limit tells "too large" from "exactly as large".
        let stream_max = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        let outcome = stream.take(stream_max).read_to_end(&mut self.output);
        if self.output.len() > bytes_max {
            return Err(CompressionError::TooLarge { bytes_max });
        }
        outcome.map(drop).map_err(|_| CompressionError::Corrupt { compression })
    }

    fn read_zstd(&mut self, input: &[u8]) -> Result<(), CompressionError> {
        let (bytes_max, compression) = (self.bytes_max, Compression::Zstd);
        let context = self.zstd.get_or_insert_with(DCtx::create);
        let mut room_bytes = input.len().saturating_mul(4).max(ZSTD_ROOM_BYTES_MIN).min(bytes_max);
        loop {
            self.output.reserve(room_bytes);
            let room_bytes_now = self.output.capacity();
            match context.decompress(&mut self.output, input) {
                Ok(byte_count) if byte_count <= bytes_max => return Ok(()),
                Ok(_) => return Err(CompressionError::TooLarge { bytes_max }),
                Err(error) if room_bytes_now >= bytes_max => {
                    let is_too_large = error == ZSTD_TOO_LARGE;
                    let too_large = CompressionError::TooLarge { bytes_max };
                    return Err(if is_too_large { too_large } else { CompressionError::Corrupt { compression } });
                }
                // Whatever the error, only the full room makes it final: want of room shows in more than one way.
                Err(_) => room_bytes = room_bytes_now.saturating_mul(4).min(bytes_max),
            }
            self.output.clear();
        }
    }
}

/// Compresses one batch after another.
pub struct Compressor {
    output: Vec<u8>,
    snappy: snap::raw::Encoder,
    zstd: Option<CCtx<'static>>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { output: Vec::new(), snappy: snap::raw::Encoder::new(), zstd: None }
    }
}

impl Compressor {
    /// `input` in the form that Kafka's Java client would give it, with the codec's default level.
    pub fn compress<'a>(&'a mut self, compression: Compression, input: &'a [u8]) -> Result<&'a [u8], CompressionError> {
        let failed = CompressionError::Failed { compression };
        self.output.clear();
        match compression {
            Compression::None => return Ok(input),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(&mut self.output, level);
                encoder.write_all(input).and_then(|()| encoder.finish().map(drop)).map_err(|_| failed)?;
            }
            Compression::Snappy => snappy::compress(&mut self.snappy, input, &mut self.output).map_err(|_| failed)?,
            Compression::Lz4 => {
                // The Java client refuses blocks that depend on each other.
                let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(frame, &mut self.output);
                encoder.write_all(input).map_err(|_| failed)?;
                encoder.finish().map_err(|_| failed)?;
            }
            Compression::Zstd => {
                let context = self.zstd.get_or_insert_with(CCtx::create);
                self.output.reserve(zstd_safe::compress_bound(input.len()));
                context.compress(&mut self.output, input, ZSTD_LEVEL).map_err(|_| failed)?;
            }
        }
        Ok(&self.output)
    }
}

/// The room a zstd frame is first given.
const ZSTD_ROOM_BYTES_MIN: usize = 64 * 1024;

/// What zstd answers when the content does not fit: its error 70, `dstSize_tooSmall`, negated. The numbers of its errors
/// are part of its interface.
const ZSTD_TOO_LARGE: usize = 0_usize.wrapping_sub(70);

/// The level that zstd itself and Kafka's clients use when nothing is said.
const ZSTD_LEVEL: i32 = zstd_safe::CLEVEL_DEFAULT;
