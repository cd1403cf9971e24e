//! How a built image is compressed, as the user writes it and as the target allows it.

use std::str::FromStr;

use crate::base::kernel::KernelFeatures;
use crate::image::erofs::compress::Compression;

/// The value of `compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Setting {
    /// LZ4 where the target surely mounts it, else nothing.
    #[default]
    Auto,
    /// Not compressed.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard, 1 to 22.
    Zstd(i32),
}

/// The level of Zstandard when none is written: that of the zstd program.
const ZSTD_LEVEL: i32 = 3;

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        match text {
            "auto" => Ok(Setting::Auto),
            "none" => Ok(Setting::None),
            "lz4" => Ok(Setting::Lz4),
            "zstd" => Ok(Setting::Zstd(ZSTD_LEVEL)),
            _ => match text.strip_prefix("zstd:").map(str::parse) {
                Some(Ok(level @ 1..=22)) => Ok(Setting::Zstd(level)),
                Some(_) => Err(format!(
                    "expected a level from 1 to 22 as in zstd:19, found `{text}`"
                )),
                None => Err(format!(
                    "expected auto, none, lz4, zstd or zstd:LEVEL, found `{text}`"
                )),
            },
        }
    }
}

impl Setting {
    /// What is done to an EROFS for a base with these kernels; an unknown base mounts for sure
    /// only what is not compressed.
    pub fn in_erofs(self, kernel: Option<KernelFeatures>) -> Option<Compression> {
        match self {
            Setting::None => None,
            Setting::Lz4 => Some(Compression::Lz4),
            Setting::Zstd(level) => Some(Compression::Zstd { level }),
            Setting::Auto => kernel
                .filter(|kernel| kernel.erofs_lz4.is_there())
                .map(|_| Compression::Lz4),
        }
    }
}

/// The name under which compression is part of an image's identity.
pub fn name(compression: Option<Compression>) -> String {
    match compression {
        None => "none".to_owned(),
        Some(Compression::Lz4) => "lz4".to_owned(),
        Some(Compression::Zstd { level }) => format!("zstd:{level}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_zstd() {
        assert_eq!("zstd".parse(), Ok(Setting::Zstd(3)));
        assert_eq!("zstd:22".parse(), Ok(Setting::Zstd(22)));
        for wrong in ["zstd:0", "zstd:23", "zstd:", "zstd:x", "lzma", "", "LZ4"] {
            let error = wrong.parse::<Setting>().unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn auto_is_what_the_target_mounts() {
        let with = KernelFeatures::from_config("CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n");
        let without = KernelFeatures::from_config("CONFIG_EROFS_FS=m\n");
        assert_eq!(Setting::Auto.in_erofs(Some(with)), Some(Compression::Lz4));
        for kernel in [None, Some(without), Some(KernelFeatures::UNKNOWN)] {
            assert_eq!(Setting::Auto.in_erofs(kernel), None);
            assert_eq!(Setting::Lz4.in_erofs(kernel), Some(Compression::Lz4));
        }
    }
}
