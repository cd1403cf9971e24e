//! The file system of a built image and its compression, as the user writes them and as the target
//! allows them.

use std::str::FromStr;

use crate::base::kernel::{KernelFeatures, Support};
use crate::build::assemble::FileSystem;
use crate::config::model::Format;
use crate::image::erofs::compress::Compression;
use crate::image::mkfs::squashfs;

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
    /// LZ4 after a longer search: smaller, read as fast, slower to make.
    Lz4hc,
    /// Zstandard, 1 to 22.
    Zstd(i32),
}

/// The level of Zstandard when none is written: that of the zstd program.
const ZSTD_LEVEL: i32 = 3;
/// The level that mksquashfs takes by itself.
const SQUASHFS_LEVEL: i32 = 15;

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        match text {
            "auto" => Ok(Setting::Auto),
            "none" => Ok(Setting::None),
            "lz4" => Ok(Setting::Lz4),
            "lz4hc" => Ok(Setting::Lz4hc),
            "zstd" => Ok(Setting::Zstd(ZSTD_LEVEL)),
            _ => match text.strip_prefix("zstd:").map(str::parse) {
                Some(Ok(level @ 1..=22)) => Ok(Setting::Zstd(level)),
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

impl Setting {
    /// What is done for a base with these kernels. An unknown base mounts for sure only EROFS that
    /// is not compressed, and squashfs with zlib. ext4 is never compressed.
    pub fn for_target(
        self,
        format: Format,
        kernel: Option<KernelFeatures>,
        share_compressed: bool,
    ) -> FileSystem {
        let surely = |feature: fn(KernelFeatures) -> Support| {
            kernel.is_some_and(|kernel| feature(kernel).is_there())
        };
        match format {
            Format::Erofs => FileSystem::Erofs {
                compression: match self {
                    Setting::None => None,
                    Setting::Lz4 => Some(Compression::Lz4),
                    Setting::Lz4hc => Some(Compression::Lz4hc),
                    Setting::Zstd(level) => Some(Compression::Zstd { level }),
                    Setting::Auto => surely(|kernel| kernel.erofs_lz4).then_some(Compression::Lz4),
                },
                share_compressed,
            },
            Format::Squashfs => FileSystem::Squashfs(match self {
                Setting::None => squashfs::Compression::None,
                Setting::Lz4 => squashfs::Compression::Lz4,
                Setting::Lz4hc => squashfs::Compression::Lz4hc,
                Setting::Zstd(level) => squashfs::Compression::Zstd { level },
                Setting::Auto if surely(|kernel| kernel.squashfs_zstd) => {
                    squashfs::Compression::Zstd {
                        level: SQUASHFS_LEVEL,
                    }
                }
                Setting::Auto => squashfs::Compression::Gzip,
            }),
            Format::Ext4 => FileSystem::Ext4,
        }
    }
}

/// The name under which compression is part of an image's identity.
pub fn name(file_system: FileSystem) -> String {
    let zstd = |level: i32| format!("zstd:{level}");
    match file_system {
        FileSystem::Erofs {
            compression: None, ..
        }
        | FileSystem::Squashfs(squashfs::Compression::None)
        | FileSystem::Ext4 => "none".to_owned(),
        FileSystem::Erofs {
            compression: Some(Compression::Lz4),
            ..
        }
        | FileSystem::Squashfs(squashfs::Compression::Lz4) => "lz4".to_owned(),
        FileSystem::Erofs {
            compression: Some(Compression::Lz4hc),
            ..
        }
        | FileSystem::Squashfs(squashfs::Compression::Lz4hc) => "lz4hc".to_owned(),
        FileSystem::Squashfs(squashfs::Compression::Gzip) => "gzip".to_owned(),
        FileSystem::Erofs {
            compression: Some(Compression::Zstd { level }),
            ..
        }
        | FileSystem::Squashfs(squashfs::Compression::Zstd { level }) => zstd(level),
    }
}

/// The format's name in the config.
pub fn format(file_system: FileSystem) -> Format {
    match file_system {
        FileSystem::Erofs { .. } => Format::Erofs,
        FileSystem::Squashfs(_) => Format::Squashfs,
        FileSystem::Ext4 => Format::Ext4,
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
        let all = "CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\nCONFIG_SQUASHFS_ZSTD=y\n";
        let with = KernelFeatures::from_config(all);
        let without = KernelFeatures::from_config("CONFIG_EROFS_FS=m\nCONFIG_SQUASHFS=m\n");
        let named =
            |setting: Setting, format, kernel| name(setting.for_target(format, kernel, false));
        let auto = |format, kernel| named(Setting::Auto, format, kernel);
        assert_eq!(auto(Format::Erofs, Some(with)), "lz4");
        assert_eq!(auto(Format::Squashfs, Some(with)), "zstd:15");
        for kernel in [None, Some(without), Some(KernelFeatures::UNKNOWN)] {
            assert_eq!(auto(Format::Erofs, kernel), "none");
            assert_eq!(auto(Format::Squashfs, kernel), "gzip");
            assert_eq!(auto(Format::Ext4, kernel), "none");
            for (setting, name) in [(Setting::Lz4, "lz4"), (Setting::Lz4hc, "lz4hc")] {
                assert_eq!(named(setting, Format::Erofs, kernel), name);
                assert_eq!(named(setting, Format::Squashfs, kernel), name);
                assert_eq!(named(setting, Format::Ext4, kernel), "none");
            }
        }
    }
}
