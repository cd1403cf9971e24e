//! What changed in systemd, and since which version: the one place that compares versions.
//!
//! A rule asks `systemd.has(Change::Confexts)`. To cover a new release of systemd, raise
//! [`COVERED`] and add a row for each change that the rules need to know.

use std::fmt;
use std::ops::RangeInclusive;

use super::version::SystemdVersion;

/// Series of systemd whose rules are known, from that of Ubuntu 22.04 to the newest that was read
/// and run.
pub(crate) const COVERED: RangeInclusive<u32> = 249..=262;

/// [`COVERED`] in words, such as `249 to 262`.
pub(crate) fn covered() -> String {
    format!("{} to {}", COVERED.start(), COVERED.end())
}

/// The table: each row is a change, the first release that has it, and where systemd says so.
///
/// Where stable series got a change as well, the row lists the first release of each; the last one
/// counts for everything newer. The source is shown as the reason of a finding, so its wording is
/// part of the output; commits that it leaves out are in the comment above the row.
macro_rules! changes {
    ($($(#[$doc:meta])* $change:ident: $(($major:literal, $minor:literal))+ => $source:literal;)+) => {
        /// A change of systemd that a rule depends on, the oldest first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Change {
            $($(#[$doc])* $change,)+
        }

        impl Change {
            /// All changes, the oldest first.
            pub const ALL: &[Change] = &[$(Change::$change),+];

            /// The first release with the change, of each series that has one without it.
            pub const fn since(self) -> &'static [SystemdVersion] {
                match self {
                    $(Change::$change => &[$(SystemdVersion { major: $major, minor: $minor }),+],)+
                }
            }

            /// Where it comes from: a function and file of systemd, a commit, or its documentation.
            pub const fn source(self) -> &'static str {
                match self {
                    $(Change::$change => $source,)+
                }
            }
        }
    };
}

changes! {
    /// There is `systemd-sysext`. Older than what is covered, but a `target` may name any version.
    Sysexts: (248, 0) => "systemd NEWS, 248";

    /// `SYSEXT_SCOPE` of the release file decides.
    Scope: (250, 0) => "extension_release_validate, src/shared/extension-release.c";
    /// A release file of another name counts if `user.extension-release.strict` says so.
    ReleaseFileByAttribute: (250, 0) => "commit 9a4b883be2";
    /// A GPT partition can hold the signature of the root hash.
    SignaturePartition: (250, 0) => "dissected_image_load_verity_sig_partition, src/shared/dissect-image.c";
    /// Signatures that the kernel does not accept are checked with certificates in `verity.d`
    /// (`validate_signature_userspace`).
    UserspaceSignature: (250, 0) => "commit c2fa92e7e8";
    /// `$SYSTEMD_OS_RELEASE` replaces the host's os-release.
    OsReleaseVariable: (251, 0) => "systemd docs/ENVIRONMENT.md";
    /// `ARCHITECTURE` of the release file decides.
    Architecture: (252, 0) => "extension_release_validate, src/shared/extension-release.c";
    /// `ID=_any` in the release file fits every host.
    AnyId: (252, 0) => "extension_release_validate, src/shared/extension-release.c";
    /// Partition tables for sectors of other sizes than 512 bytes are found.
    SectorSizeProbed: (253, 0) => "up to 252 images are looked at with sectors of 512 bytes (probe_sector_size, src/shared/dissect-image.c, since 253)";
    /// Only file systems of a short list are mounted.
    FileSystemsLimited: (253, 0) => "systemd 253 and newer: dissect_fstype_ok, src/shared/dissect-image.c";

    /// There are configuration extensions.
    Confexts: (254, 0) => "systemd NEWS, 254";
    /// There are image policies, and `--image-policy=`.
    ImagePolicy: (254, 0) => "systemd-sysext knows --image-policy= since 254";
    /// The unit runs `systemd-sysext refresh` rather than `merge`.
    UnitRefreshes: (254, 0) => "units/systemd-sysext.service";
    /// `/usr/lib/extensions` and `/usr/local/lib/extensions` are no longer searched.
    UsrNotSearched: (254, 0) => "commit de862276ed";
    /// `usr/lib/os-release` in an image makes systemd ignore it, in a folder it stops the search for
    /// all; earlier both stopped the merge, unless forced (commit 6afa5d862e).
    ForbiddenContent: (254, 0) => "extension_has_forbidden_content, src/shared/extension-util.c; up to 253 it stops the whole merge";
    /// A release file counts for its own class only; 254 mixed those of the classes up.
    ReleaseFileByClass: (255, 0) => "commit a81fe93e95";
    /// A confext is matched by `CONFEXT_LEVEL`; 254 looked at `SYSEXT_LEVEL`.
    ConfextLevel: (255, 0) => "commit 81df5cd185";
    /// `.sysext` and `.confext` before the ending are no part of the name (also
    /// `raw_strip_suffixes`, src/shared/import-util.c).
    ClassSuffix: (255, 0) => "extract_pretty, src/shared/discover-image.c";
    /// A split `/usr` is no longer supported, which Debian built systemd with: its units were in `/lib`.
    SplitUsrDropped: (255, 0) => "systemd NEWS, 255";
    /// Folders `NAME.v` hold versions, of which one is picked.
    VersionFolders: (256, 0) => "commit a5ecdf7c6b";
    /// The release file of `NAME_VERSION` may be that of `NAME`: commit 37543971af (254.11, 255.5) with
    /// its fix. The releases between the two could match a wrong file and are taken as not matching.
    ReleaseFileWithoutVersion: (254, 15) (255, 9) (256, 2) (257, 0) => "commit 92d1fe3efa";
    /// What is mounted below a hierarchy is moved onto the overlay (commit ddbddebe0c).
    SubmountsKept: (257, 0) => "before 257 systemd mounts its overlay over what is mounted below the folder (src/sysext/sysext.c, merge_hierarchy)";
    /// The merged hierarchy gets the SELinux label of the host's.
    SelinuxLabel: (257, 0) => "systemd labels the top of the merged hierarchy since 257 (commit bbec1c87d3)";
    /// An `ID` among the host's `ID_LIKE` fits.
    IdLike: (257, 8) => "commit 0af9937691";

    /// Under an image policy a stronger protection counts as the weaker ones, too.
    PolicyCumulative: (258, 0) => "commit 1e6f03a45d";
    /// The signature of a `/usr` partition is looked for (commit e34c89897a).
    UsrSignature: (258, 0) => "before 258 only the signature of a root partition is looked for (src/shared/dissect-image.c)";
    /// A root hash that nothing names is put together from the ids of the partitions
    /// (`dissected_image_guess_verity_roothash`).
    RootHashGuessed: (258, 0) => "before 258 the root hash is only taken from a signature partition or a sidecar file (src/shared/dissect-image.c)";
    /// Metadata is read through dm-verity, under systemd's own policy.
    MetadataThroughVerity: (258, 3) => "commit d3c6a172a0";
    /// A hash tree is enough where the signer is not trusted and the policy admits it (commit
    /// d20dff2814).
    VeritySuffices: (259, 0) => "validate_signature_userspace, src/shared/dissect-image.c; up to 258 a signer that is not trusted stops the whole merge";
    /// `sysext.conf` and `confext.conf` are read.
    ConfigFiles: (259, 0) => "parse_config_file, src/sysext/sysext.c";
    /// Entries `.sysupdate.*` are skipped; 259.8 was seen to do so, the first release is not known.
    SysupdateSkipped: (259, 8) => "commit 53b44ddfa7";
    /// The release file of an image is searched by the name under which the image was found.
    ReleaseFileByFoundName: (260, 0) => "commit 2ab3a2b44c";
    /// `.mstack` folders are found, and refused.
    Mstack: (260, 0) => "image_discover, src/shared/discover-image.c";
    /// A version in a `.v` folder may hold `^` and `~`, but no comma; seen on 256 to 259 and on 262,
    /// and taken to have changed with 260.
    VersionCharacters: (260, 0) => "version_is_valid, src/basic/string-util.c";
}

impl SystemdVersion {
    /// Whether systemd has a change in this version, as its own project released it.
    pub fn has(self, change: Change) -> bool {
        let since = change.since();
        let in_series = |first: &SystemdVersion| self.is_of_series(*first) && self >= *first;
        since.iter().any(in_series) || since.last().is_some_and(|last| self >= *last)
    }
}

/// systemd as a distribution builds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemdBuild {
    /// The release that it is made from.
    pub version: SystemdVersion,
    /// Newer changes that the distribution ported back to it.
    pub backports: &'static [Change],
}

impl SystemdBuild {
    /// The newest that is covered, which stands for one whose version is not known.
    pub const NEWEST: SystemdBuild = SystemdBuild {
        version: SystemdVersion::new(*COVERED.end(), 0),
        backports: &[],
    };

    /// Whether it has a change, by its version or because it was ported back.
    pub fn has(self, change: Change) -> bool {
        self.version.has(change) || self.backports.contains(&change)
    }

    /// Whether its rules are known.
    pub fn is_covered(self) -> bool {
        COVERED.contains(&self.version.major)
    }
}

/// systemd as released, without backports.
impl From<SystemdVersion> for SystemdBuild {
    fn from(version: SystemdVersion) -> SystemdBuild {
        SystemdBuild {
            version,
            backports: &[],
        }
    }
}

impl fmt::Display for SystemdBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::finding::catalog;

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn rows_are_in_order_and_complete() {
        // Each change has one row only: a second one would not compile.
        let last = |change: &Change| *change.since().last().unwrap();
        assert!(Change::ALL.is_sorted_by_key(last));
        for change in Change::ALL {
            let since = change.since();
            assert!(since.is_sorted_by(|a, b| a.major < b.major), "{change:?}");
            // Whether there is a program at all is asked of versions that are not covered, too.
            let covered = since.iter().all(|it| COVERED.contains(&it.major));
            assert!(covered || *change == Change::Sysexts, "{change:?}");
            assert!(!change.source().is_empty(), "{change:?}");
        }
    }

    #[test]
    fn a_stable_series_has_a_change_since_its_own_release() {
        let has = |version: &str, change| SystemdVersion::parse(version).unwrap().has(change);
        let without_version = Change::ReleaseFileWithoutVersion;
        for (version, expected) in [
            ("253.99", false),
            ("254.14", false),
            ("254.15", true),
            ("255", false),
            ("255.9", true),
            ("256.1", false),
            ("256.2", true),
            ("257", true),
            ("262", true),
        ] {
            assert_eq!(has(version, without_version), expected, "{version}");
        }
        assert!(!has("257.7", Change::IdLike) && has("257.8", Change::IdLike));
        assert!(has("258", Change::IdLike));
    }

    /// Azure Container Linux has 255 with the commit that labels hierarchies.
    #[test]
    fn a_backport_counts_as_the_version_that_it_is_from() {
        let plain = SystemdBuild::from(SystemdVersion::new(255, 0));
        let patched = SystemdBuild {
            backports: &[Change::SelinuxLabel],
            ..plain
        };
        assert!(!plain.has(Change::SelinuxLabel) && patched.has(Change::SelinuxLabel));
        assert!(!patched.has(Change::SubmountsKept));
        assert_eq!(patched.to_string(), "255");
    }

    #[test]
    fn what_is_covered_is_written_the_same_everywhere() {
        let text = catalog::of("systemd-not-covered").unwrap();
        assert!(text.contains(&covered()), "{text}");
        let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
        let (start, end) = (COVERED.start(), COVERED.end().to_string());
        for before in [format!("{start} to "), format!("before {start} and after ")] {
            for rest in readme.split(&before).skip(1) {
                assert!(rest.starts_with(&end), "README.md: {before}{rest:.20}");
            }
        }
    }

    /// All other code asks for a [`Change`].
    #[test]
    fn versions_are_compared_nowhere_else() {
        let allowed = ["systemd/changes.rs", "systemd/version.rs"];
        for entry in walkdir::WalkDir::new(Path::new(ROOT).join("src")) {
            let path = entry.unwrap().into_path();
            let is_rust = path.extension().is_some_and(|it| it == "rs");
            if !is_rust || allowed.iter().any(|file| path.ends_with(file)) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            for word in [
                ".major",
                ".minor",
                "SystemdVersion::new(",
                "SystemdVersion::parse(\"",
                &covered(),
            ] {
                assert!(!code.contains(word), "{} has {word}", path.display());
            }
        }
    }
}
