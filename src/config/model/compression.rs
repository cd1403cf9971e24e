//! Compression as the user writes it.

use std::str::FromStr;

/// The value of `compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CompressionSetting {
    /// LZ4 where the target surely mounts it, else nothing.
    #[default]
    Auto,
    /// Not compressed.
    None,
    /// LZ4.
    Lz4,
    /// LZ4 after a longer search: smaller, read as fast, slower to make.
    Lz4hc,
    /// Zstandard, 1 to 22.
    Zstd(i32),
}

/// The level of Zstandard when none is written: that of the zstd program.
const ZSTD_LEVEL: i32 = 3;

impl FromStr for CompressionSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<CompressionSetting, String> {
        match text {
            "auto" => Ok(CompressionSetting::Auto),
            "none" => Ok(CompressionSetting::None),
            "lz4" => Ok(CompressionSetting::Lz4),
            "lz4hc" => Ok(CompressionSetting::Lz4hc),
            "zstd" => Ok(CompressionSetting::Zstd(ZSTD_LEVEL)),
            _ => match text.strip_prefix("zstd:").map(str::parse) {
                Some(Ok(level @ 1..=22)) => Ok(CompressionSetting::Zstd(level)),
                Some(_) => Err(format!(
                    "expected a level from 1 to 22 as in zstd:19, found `{text}`"
                )),
                None => Err(format!(
                    "expected auto, none, lz4, lz4hc, zstd or zstd:LEVEL, found `{text}`"
                )),
            },
        }
    }
}
