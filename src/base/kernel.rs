//! What the kernels of a root file system can do, as their configuration says.

use serde::Serialize;

use super::root::{RootDir, RootError};

/// Largest kernel configuration that is read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// Whether the kernel has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// Built in or as a module.
    Yes,
    /// Switched off.
    No,
    /// Can't be told.
    #[default]
    Unknown,
}

/// The abilities that extensions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// EROFS itself.
    pub erofs: Support,
    /// EROFS with lz4.
    pub erofs_lz4: Support,
    /// EROFS with zstd.
    pub erofs_zstd: Support,
    /// EROFS with LZMA.
    pub erofs_lzma: Support,
    /// EROFS with deflate.
    pub erofs_deflate: Support,
    /// squashfs.
    pub squashfs: Support,
    /// ext4.
    pub ext4: Support,
    /// overlayfs.
    pub overlay: Support,
    /// Loop devices.
    pub loop_device: Support,
    /// dm-verity.
    pub dm_verity: Support,
}

impl Kernel {
    /// Reads `CONFIG_…=y` lines.
    pub fn parse(config: &str) -> Kernel {
        let has = |option: &str| {
            let set = config
                .lines()
                .filter_map(|line| {
                    line.strip_prefix("CONFIG_")?
                        .strip_prefix(option)?
                        .strip_prefix('=')
                })
                .any(|value| value == "y" || value == "m");
            if set { Support::Yes } else { Support::No }
        };
        let both = |a: Support, b: Support| {
            if a == Support::Yes && b == Support::Yes {
                a
            } else {
                Support::No
            }
        };
        let zip = has("EROFS_FS_ZIP");
        Kernel {
            erofs: has("EROFS_FS"),
            // fs/erofs/Kconfig: EROFS_FS_ZIP selects the lz4 decompressor.
            erofs_lz4: zip,
            erofs_zstd: both(zip, has("EROFS_FS_ZIP_ZSTD")),
            erofs_lzma: both(zip, has("EROFS_FS_ZIP_LZMA")),
            erofs_deflate: both(zip, has("EROFS_FS_ZIP_DEFLATE")),
            squashfs: has("SQUASHFS"),
            ext4: has("EXT4_FS"),
            overlay: has("OVERLAY_FS"),
            loop_device: has("BLK_DEV_LOOP"),
            dm_verity: has("DM_VERITY"),
        }
    }

    /// What both kernels can do, for a system that may boot either.
    fn and(self, other: Kernel) -> Kernel {
        self.zip(other, |a, b| match (a, b) {
            (Support::No, _) | (_, Support::No) => Support::No,
            (Support::Unknown, _) | (_, Support::Unknown) => Support::Unknown,
            _ => Support::Yes,
        })
    }

    /// Takes over what is unknown here.
    pub fn fill_from(&mut self, other: &Kernel) {
        *self = self.zip(
            *other,
            |own, other| if own == Support::Unknown { other } else { own },
        );
    }

    fn zip(self, other: Kernel, join: impl Fn(Support, Support) -> Support) -> Kernel {
        Kernel {
            erofs: join(self.erofs, other.erofs),
            erofs_lz4: join(self.erofs_lz4, other.erofs_lz4),
            erofs_zstd: join(self.erofs_zstd, other.erofs_zstd),
            erofs_lzma: join(self.erofs_lzma, other.erofs_lzma),
            erofs_deflate: join(self.erofs_deflate, other.erofs_deflate),
            squashfs: join(self.squashfs, other.squashfs),
            ext4: join(self.ext4, other.ext4),
            overlay: join(self.overlay, other.overlay),
            loop_device: join(self.loop_device, other.loop_device),
            dm_verity: join(self.dm_verity, other.dm_verity),
        }
    }
}

/// Reads `boot/config-*` and `usr/lib/modules/*/config`; without any all is unknown.
pub fn read(root: &RootDir) -> Result<Kernel, RootError> {
    let mut paths = Vec::new();
    for name in root.list("/boot")? {
        if let Some(name) = name.to_str().filter(|name| name.starts_with("config-")) {
            paths.push(format!("/boot/{name}"));
        }
    }
    if paths.is_empty() {
        for name in root.list("/usr/lib/modules")? {
            if let Some(name) = name.to_str() {
                paths.push(format!("/usr/lib/modules/{name}/config"));
            }
        }
    }
    let mut all: Option<Kernel> = None;
    for path in paths {
        let Some(bytes) = root.read(&path, MAX_CONFIG)? else {
            continue;
        };
        let kernel = Kernel::parse(&String::from_utf8_lossy(&bytes));
        all = Some(all.map_or(kernel, |known| known.and(kernel)));
    }
    Ok(all.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_options() {
        let text = "CONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n# CONFIG_EROFS_FS_ZIP_ZSTD is not set\nCONFIG_SQUASHFS_X=y\n";
        let kernel = Kernel::parse(text);
        assert_eq!(kernel.erofs, Support::Yes);
        assert_eq!(kernel.erofs_lz4, Support::Yes);
        assert_eq!(kernel.erofs_zstd, Support::No);
        assert_eq!(kernel.squashfs, Support::No);
    }

    #[test]
    fn every_kernel_must_have_it_and_a_profile_fills_gaps() {
        let with = Kernel::parse("CONFIG_EROFS_FS=y\nCONFIG_OVERLAY_FS=y\n");
        let without = Kernel::parse("CONFIG_OVERLAY_FS=y\n");
        assert_eq!(with.and(without).erofs, Support::No);
        assert_eq!(with.and(without).overlay, Support::Yes);
        let mut unknown = Kernel::default();
        unknown.fill_from(&with);
        assert_eq!(unknown, with);
        let mut known = without;
        known.fill_from(&with);
        assert_eq!(known, without);
    }
}
