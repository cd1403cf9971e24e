//! The file system of a built image and its compression, as the user writes them and as the target
//! allows them.

use crate::base::kernel::{KernelFeatures, Support};
use crate::config::model::{CompressionSetting, Format};
use crate::image::ImageFormat;
use crate::image::erofs::compress::Compression;
use crate::image::mkfs::squashfs;

/// The level that mksquashfs takes by itself.
const SQUASHFS_LEVEL: i32 = 15;

impl CompressionSetting {
    /// What is done for a base with these kernels. An unknown base mounts for sure only EROFS that
    /// is not compressed, and squashfs with zlib. ext4 is never compressed.
    pub(crate) fn for_target(
        self,
        format: Format,
        kernel: Option<KernelFeatures>,
        share_compressed: bool,
    ) -> ImageFormat {
        let surely = |feature: fn(KernelFeatures) -> Support| {
            kernel.is_some_and(|kernel| feature(kernel).is_there())
        };
        match format {
            Format::Erofs => ImageFormat::Erofs {
                compression: match self {
                    CompressionSetting::None => None,
                    CompressionSetting::Lz4 => Some(Compression::Lz4),
                    CompressionSetting::Lz4hc => Some(Compression::Lz4hc),
                    CompressionSetting::Zstd(level) => Some(Compression::Zstd { level }),
                    CompressionSetting::Auto => {
                        surely(|kernel| kernel.erofs_lz4).then_some(Compression::Lz4)
                    }
                },
                share_compressed,
            },
            Format::Squashfs => ImageFormat::Squashfs(match self {
                CompressionSetting::None => squashfs::Compression::None,
                CompressionSetting::Lz4 => squashfs::Compression::Lz4,
                CompressionSetting::Lz4hc => squashfs::Compression::Lz4hc,
                CompressionSetting::Zstd(level) => squashfs::Compression::Zstd { level },
                CompressionSetting::Auto if surely(|kernel| kernel.squashfs_zstd) => {
                    squashfs::Compression::Zstd {
                        level: SQUASHFS_LEVEL,
                    }
                }
                CompressionSetting::Auto => squashfs::Compression::Gzip,
            }),
            Format::Ext4 => ImageFormat::Ext4,
        }
    }
}

/// The name under which compression is part of an image's identity.
pub(crate) fn name(file_system: ImageFormat) -> String {
    let zstd = |level: i32| format!("zstd:{level}");
    match file_system {
        ImageFormat::Erofs {
            compression: None, ..
        }
        | ImageFormat::Squashfs(squashfs::Compression::None)
        | ImageFormat::Ext4 => "none".to_owned(),
        ImageFormat::Erofs {
            compression: Some(Compression::Lz4),
            ..
        }
        | ImageFormat::Squashfs(squashfs::Compression::Lz4) => "lz4".to_owned(),
        ImageFormat::Erofs {
            compression: Some(Compression::Lz4hc),
            ..
        }
        | ImageFormat::Squashfs(squashfs::Compression::Lz4hc) => "lz4hc".to_owned(),
        ImageFormat::Squashfs(squashfs::Compression::Gzip) => "gzip".to_owned(),
        ImageFormat::Erofs {
            compression: Some(Compression::Zstd { level }),
            ..
        }
        | ImageFormat::Squashfs(squashfs::Compression::Zstd { level }) => zstd(level),
    }
}

/// The format's name in the config.
pub(crate) fn format(file_system: ImageFormat) -> Format {
    match file_system {
        ImageFormat::Erofs { .. } => Format::Erofs,
        ImageFormat::Squashfs(_) => Format::Squashfs,
        ImageFormat::Ext4 => Format::Ext4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_zstd() {
        assert_eq!("zstd".parse(), Ok(CompressionSetting::Zstd(3)));
        assert_eq!("zstd:22".parse(), Ok(CompressionSetting::Zstd(22)));
        for wrong in ["zstd:0", "zstd:23", "zstd:", "zstd:x", "lzma", "", "LZ4"] {
            let error = wrong.parse::<CompressionSetting>().unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn auto_is_what_the_target_mounts() {
        let all = "CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\nCONFIG_SQUASHFS_ZSTD=y\n";
        let with = KernelFeatures::from_config(all);
        let without = KernelFeatures::from_config("CONFIG_EROFS_FS=m\nCONFIG_SQUASHFS=m\n");
        let named = |setting: CompressionSetting, format, kernel| {
            name(setting.for_target(format, kernel, false))
        };
        let auto = |format, kernel| named(CompressionSetting::Auto, format, kernel);
        assert_eq!(auto(Format::Erofs, Some(with)), "lz4");
        assert_eq!(auto(Format::Squashfs, Some(with)), "zstd:15");
        for kernel in [None, Some(without), Some(KernelFeatures::UNKNOWN)] {
            assert_eq!(auto(Format::Erofs, kernel), "none");
            assert_eq!(auto(Format::Squashfs, kernel), "gzip");
            assert_eq!(auto(Format::Ext4, kernel), "none");
            for (setting, name) in [
                (CompressionSetting::Lz4, "lz4"),
                (CompressionSetting::Lz4hc, "lz4hc"),
            ] {
                assert_eq!(named(setting, Format::Erofs, kernel), name);
                assert_eq!(named(setting, Format::Squashfs, kernel), name);
                assert_eq!(named(setting, Format::Ext4, kernel), "none");
            }
        }
    }
}
