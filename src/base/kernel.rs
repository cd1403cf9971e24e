//! Installed kernels and what they can mount.

use std::collections::BTreeSet;

use serde::Serialize;

use super::facts::Facts;
use crate::image::read::FsKind;

/// Most of a kernel configuration that is read; real ones have some 300 KB.
const CONFIG_LIMIT: u64 = 2 * 1024 * 1024;

/// Most kernels that are looked at.
const KERNEL_LIMIT: usize = 16;

/// Whether a kernel has a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// Built in.
    Yes,
    /// As a module.
    Module,
    /// Not at all.
    No,
    /// Nobody says.
    Unknown,
}

impl Support {
    /// Whether it is surely missing.
    pub fn is_missing(self) -> bool {
        self == Support::No
    }

    /// Whether it is surely there.
    pub fn is_there(self) -> bool {
        matches!(self, Support::Yes | Support::Module)
    }
}

/// The kernel features that extensions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelFeatures {
    /// EROFS without compression (`CONFIG_EROFS_FS`).
    pub erofs: Support,
    /// EROFS with LZ4 (`CONFIG_EROFS_FS_ZIP`).
    pub erofs_lz4: Support,
    /// EROFS with LZMA (`CONFIG_EROFS_FS_ZIP_LZMA`).
    pub erofs_lzma: Support,
    /// EROFS with deflate (`CONFIG_EROFS_FS_ZIP_DEFLATE`).
    pub erofs_deflate: Support,
    /// EROFS with Zstandard (`CONFIG_EROFS_FS_ZIP_ZSTD`, since Linux 6.10).
    pub erofs_zstd: Support,
    /// Squashfs (`CONFIG_SQUASHFS`).
    pub squashfs: Support,
    /// Squashfs with Zstandard (`CONFIG_SQUASHFS_ZSTD`).
    pub squashfs_zstd: Support,
    /// Squashfs with XZ (`CONFIG_SQUASHFS_XZ`).
    pub squashfs_xz: Support,
    /// Squashfs with LZ4 (`CONFIG_SQUASHFS_LZ4`).
    pub squashfs_lz4: Support,
    /// Squashfs with gzip (`CONFIG_SQUASHFS_ZLIB`).
    pub squashfs_gzip: Support,
    /// ext4 (`CONFIG_EXT4_FS`).
    pub ext4: Support,
    /// btrfs (`CONFIG_BTRFS_FS`).
    pub btrfs: Support,
    /// FAT (`CONFIG_VFAT_FS`).
    pub vfat: Support,
    /// XFS (`CONFIG_XFS_FS`).
    pub xfs: Support,
    /// F2FS (`CONFIG_F2FS_FS`).
    pub f2fs: Support,
    /// dm-verity (`CONFIG_DM_VERITY`).
    pub dm_verity: Support,
    /// Signed root hashes checked by the kernel (`CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG`).
    pub dm_verity_signature: Support,
    /// overlayfs (`CONFIG_OVERLAY_FS`).
    pub overlay: Support,
    /// Loop devices (`CONFIG_BLK_DEV_LOOP`).
    pub loop_device: Support,
}

impl KernelFeatures {
    /// Nothing is known.
    pub const UNKNOWN: KernelFeatures = KernelFeatures {
        erofs: Support::Unknown,
        erofs_lz4: Support::Unknown,
        erofs_lzma: Support::Unknown,
        erofs_deflate: Support::Unknown,
        erofs_zstd: Support::Unknown,
        squashfs: Support::Unknown,
        squashfs_zstd: Support::Unknown,
        squashfs_xz: Support::Unknown,
        squashfs_lz4: Support::Unknown,
        squashfs_gzip: Support::Unknown,
        ext4: Support::Unknown,
        btrfs: Support::Unknown,
        vfat: Support::Unknown,
        xfs: Support::Unknown,
        f2fs: Support::Unknown,
        dm_verity: Support::Unknown,
        dm_verity_signature: Support::Unknown,
        overlay: Support::Unknown,
        loop_device: Support::Unknown,
    };

    /// Reads the text of a `.config`; a symbol that it does not name is off.
    ///
    /// Text that names no symbol at all tells nothing.
    pub fn from_config(config: &str) -> KernelFeatures {
        let mut features = KernelFeatures::UNKNOWN;
        if !config
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with("CONFIG_"))
        {
            return features;
        }
        for (_, feature) in features.by_symbol() {
            *feature = Support::No;
        }
        for line in config.lines() {
            let Some((symbol, value)) = line
                .strip_prefix("CONFIG_")
                .and_then(|rest| rest.split_once('='))
            else {
                continue;
            };
            let support = match value.trim() {
                "y" => Support::Yes,
                "m" => Support::Module,
                _ => continue,
            };
            for (known, feature) in features.by_symbol() {
                if known == symbol {
                    *feature = support;
                }
            }
        }
        features
    }

    /// Whether it reads a file system's algorithm, by the name in the superblock's details.
    pub fn decompresses(&self, kind: FsKind, algorithm: &str) -> Support {
        match (kind, algorithm) {
            (FsKind::Erofs, "lz4" | "lz4hc") => self.erofs_lz4,
            (FsKind::Erofs, "zstd") => self.erofs_zstd,
            (FsKind::Erofs, "lzma") => self.erofs_lzma,
            (FsKind::Erofs, "deflate") => self.erofs_deflate,
            (FsKind::Squashfs, "zstd") => self.squashfs_zstd,
            (FsKind::Squashfs, "xz") => self.squashfs_xz,
            (FsKind::Squashfs, "lz4") => self.squashfs_lz4,
            (FsKind::Squashfs, "gzip") => self.squashfs_gzip,
            _ => Support::Unknown,
        }
    }

    /// Keeps of each feature what both kernels have: missing in one is missing.
    pub fn weaken(&mut self, mut other: KernelFeatures) {
        for ((_, mine), (_, theirs)) in self.by_symbol().into_iter().zip(other.by_symbol()) {
            *mine = match (*mine, *theirs) {
                (Support::No, _) | (_, Support::No) => Support::No,
                (Support::Unknown, _) | (_, Support::Unknown) => Support::Unknown,
                (Support::Yes, Support::Yes) => Support::Yes,
                _ => Support::Module,
            };
        }
    }

    /// Takes over what is unknown here.
    pub fn fill_from(&mut self, mut other: KernelFeatures) {
        for ((_, mine), (_, theirs)) in self.by_symbol().into_iter().zip(other.by_symbol()) {
            if *mine == Support::Unknown {
                *mine = *theirs;
            }
        }
    }

    fn by_symbol(&mut self) -> [(&'static str, &mut Support); 19] {
        [
            ("EROFS_FS", &mut self.erofs),
            ("EROFS_FS_ZIP", &mut self.erofs_lz4),
            ("EROFS_FS_ZIP_LZMA", &mut self.erofs_lzma),
            ("EROFS_FS_ZIP_DEFLATE", &mut self.erofs_deflate),
            ("EROFS_FS_ZIP_ZSTD", &mut self.erofs_zstd),
            ("SQUASHFS", &mut self.squashfs),
            ("SQUASHFS_ZSTD", &mut self.squashfs_zstd),
            ("SQUASHFS_XZ", &mut self.squashfs_xz),
            ("SQUASHFS_LZ4", &mut self.squashfs_lz4),
            ("SQUASHFS_ZLIB", &mut self.squashfs_gzip),
            ("EXT4_FS", &mut self.ext4),
            ("BTRFS_FS", &mut self.btrfs),
            ("VFAT_FS", &mut self.vfat),
            ("XFS_FS", &mut self.xfs),
            ("F2FS_FS", &mut self.f2fs),
            ("DM_VERITY", &mut self.dm_verity),
            (
                "DM_VERITY_VERIFY_ROOTHASH_SIG",
                &mut self.dm_verity_signature,
            ),
            ("OVERLAY_FS", &mut self.overlay),
            ("BLK_DEV_LOOP", &mut self.loop_device),
        ]
    }
}

/// One installed kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// As `uname -r` would say.
    pub release: String,
    /// The file that tells its features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What it can do.
    pub features: KernelFeatures,
}

impl Kernel {
    /// Major and minor version, if the release begins with them.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// The kernels of a base: those with modules and those with a configuration in `/boot`.
pub(super) fn read_kernels(facts: &mut Facts<'_>) -> Vec<Kernel> {
    let mut releases = BTreeSet::new();
    for dir in ["usr/lib/modules", "lib/modules"] {
        releases.extend(facts.list(dir));
    }
    for name in facts.list("boot") {
        releases.extend(name.strip_prefix("config-").map(str::to_owned));
    }
    releases
        .into_iter()
        .take(KERNEL_LIMIT)
        .map(|release| read_kernel(facts, release))
        .collect()
}

fn read_kernel(facts: &mut Facts<'_>, release: String) -> Kernel {
    for path in [
        format!("boot/config-{release}"),
        format!("usr/lib/modules/{release}/config"),
        format!("lib/modules/{release}/config"),
    ] {
        if let Some(text) = facts.read_text(&path, CONFIG_LIMIT) {
            let features = KernelFeatures::from_config(&text);
            return Kernel {
                release,
                config: Some(format!("/{path}")),
                features,
            };
        }
    }
    Kernel {
        release,
        config: None,
        features: KernelFeatures::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_begin_a_release() {
        let version = |release: &str| {
            Kernel {
                release: release.to_owned(),
                config: None,
                features: KernelFeatures::UNKNOWN,
            }
            .version()
        };
        assert_eq!(version("6.6.96.2-2.azl3"), Some((6, 6)));
        assert_eq!(version("6.12+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("target"), None);
    }

    #[test]
    fn a_config_tells_yes_module_and_no() {
        let features = KernelFeatures::from_config(
            "# CONFIG_EROFS_FS_ZIP_ZSTD is not set\nCONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n\
             CONFIG_SQUASHFS=y\nCONFIG_DM_VERITY=m\nCONFIG_OVERLAY_FS=n\n",
        );
        assert_eq!(features.erofs, Support::Module);
        assert_eq!(features.erofs_lz4, Support::Yes);
        assert_eq!(features.erofs_zstd, Support::No);
        assert_eq!(features.squashfs, Support::Yes);
        assert_eq!(features.overlay, Support::No);
        assert!(features.loop_device.is_missing() && features.dm_verity.is_there());
    }

    #[test]
    fn text_that_is_no_config_tells_nothing() {
        assert_eq!(
            KernelFeatures::from_config("\u{fffd}gzip"),
            KernelFeatures::UNKNOWN
        );
    }
}
