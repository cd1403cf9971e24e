//! The name of an image and the release file that belongs to it.

use super::Candidate;
use super::discover::strip_class;
use crate::image::dissect::{Content, Fault, ReleaseFile, Strict};
use crate::systemd::changes::{Change, SystemdBuild};
use crate::systemd::kind::ExtensionKind;

/// What the search for a release file ends with.
pub(super) enum Found<'a> {
    /// This one counts.
    One(&'a ReleaseFile),
    /// None counts.
    None,
    /// It depends on an attribute that can't be read.
    Unknown,
}

/// The name of an image file.
pub(super) fn name_of(path: &str, kind: ExtensionKind, systemd: Option<SystemdBuild>) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    strip_class(file, ".raw", kind, systemd.unwrap_or(SystemdBuild::NEWEST))
        .unwrap_or(file)
        .to_owned()
}

/// The name under which the release file of an image is searched. Up to 259 that is the file's own
/// name with all image endings taken off, one after the other (`raw_strip_suffixes`,
/// src/shared/import-util.c); from 260 on it is the discovered name, as it always was for a version in a `.v` folder.
pub(super) fn release_name(candidate: &Candidate, systemd: SystemdBuild) -> String {
    let picked = candidate.path.split('/').rev().nth(1);
    if systemd.has(Change::ReleaseFileByFoundName)
        || picked.is_some_and(|folder| folder.ends_with(".v"))
    {
        return candidate.name.clone();
    }
    stripped(&candidate.path, systemd)
}

fn stripped(path: &str, systemd: SystemdBuild) -> String {
    let mut name = path.rsplit('/').next().unwrap_or(path);
    let classes: &[&str] = if systemd.has(Change::ClassSuffix) {
        &[".sysext.raw", ".confext.raw"]
    } else {
        &[]
    };
    let endings = || {
        classes
            .iter()
            .chain(&[".xz", ".gz", ".bz2", ".raw", ".qcow2", ".img", ".bin"])
    };
    while let Some(stripped) = endings().find_map(|ending| name.strip_suffix(ending)) {
        name = stripped;
    }
    name.to_owned()
}

/// Searches as `open_extension_release_at` does (src/basic/os-util.c): the exact name, else the
/// one file that is marked as not strict or, in newer versions, is for the name without version.
pub(super) fn release_file<'a>(
    content: &'a Content,
    name: &str,
    kind: ExtensionKind,
    systemd: SystemdBuild,
) -> Found<'a> {
    let there = |release: &&ReleaseFile| release.fault != Some(Fault::Missing);
    let all = || {
        let of_class = content
            .releases
            .iter()
            .filter(|release| release.kind == kind);
        of_class.filter(there)
    };
    if let Some(exact) = all().find(|release| release.suffix == name) {
        return Found::One(exact);
    }
    // 254, the first to have two classes, takes the file of the other one as well.
    if systemd.has(Change::Confexts)
        && !systemd.has(Change::ReleaseFileByClass)
        && all().next().is_none()
        && let Some(other) = content
            .releases
            .iter()
            .filter(there)
            .find(|release| release.suffix == name)
    {
        return Found::One(other);
    }
    if !systemd.has(Change::ReleaseFileByAttribute) {
        return Found::None;
    }
    let relaxed = systemd
        .has(Change::ReleaseFileWithoutVersion)
        .then(|| without_version(name));
    let mut accepted = Vec::new();
    let regular =
        |release: &&ReleaseFile| !release.is_symlink && release.fault != Some(Fault::Unreadable);
    for release in all().filter(regular) {
        match release.strict {
            Strict::No => accepted.push(release),
            _ if relaxed == Some(release.suffix.as_str()) => accepted.push(release),
            Strict::Unknown => return Found::Unknown,
            Strict::Unset | Strict::Yes => {}
        }
    }
    match accepted.as_slice() {
        [only] => Found::One(only),
        // Several are ENOTUNIQ, which counts as none.
        _ => Found::None,
    }
}

/// `path_extract_image_name`, src/basic/os-util.c.
fn without_version(name: &str) -> &str {
    let stem = [".sysext.raw", ".confext.raw", ".raw"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending));
    let stem = stem.unwrap_or(name);
    stem.split(['_', '+']).next().unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Image;
    use crate::systemd::release_file::ReleaseFields;
    use crate::systemd::version::SystemdVersion;

    fn systemd(version: &str) -> SystemdBuild {
        SystemdVersion::parse(version).unwrap().into()
    }

    fn content(files: &[(&str, Strict, bool)]) -> Content {
        Content {
            releases: files
                .iter()
                .map(|(suffix, strict, is_symlink)| ReleaseFile {
                    kind: ExtensionKind::Sysext,
                    suffix: (*suffix).to_owned(),
                    is_symlink: *is_symlink,
                    fault: None,
                    fields: Some(ReleaseFields::new()),
                    problem: None,
                    strict: *strict,
                })
                .collect(),
            has_os_release: false,
            os_release_is_folder: false,
            filled: Default::default(),
            has_etc_os_release: false,
            top_level: Vec::new(),
            outside: Vec::new(),
            units: Vec::new(),
        }
    }

    fn found(files: &[(&str, Strict, bool)], name: &str, version: &str) -> Option<String> {
        match release_file(
            &content(files),
            name,
            ExtensionKind::Sysext,
            systemd(version),
        ) {
            Found::One(release) => Some(release.suffix.clone()),
            Found::None => None,
            Found::Unknown => Some("?".to_owned()),
        }
    }

    #[test]
    fn exact_name_first() {
        let files = [("a", Strict::Unset, false), ("b", Strict::No, false)];
        assert_eq!(found(&files, "a", "252").as_deref(), Some("a"));
        assert_eq!(found(&files, "c", "252").as_deref(), Some("b"));
        assert_eq!(
            found(&[("a", Strict::Yes, true)], "a", "252").as_deref(),
            Some("a")
        );
    }

    #[test]
    fn the_version_in_the_name_counts_only_in_newer_systemd() {
        let files = [("kubernetes", Strict::Unset, false)];
        assert_eq!(found(&files, "kubernetes_1.30.7", "255"), None);
        assert_eq!(
            found(&files, "kubernetes_1.30.7", "257.8").as_deref(),
            Some("kubernetes")
        );
        let reverse = [("kubernetes_1.30.7", Strict::Unset, false)];
        assert_eq!(found(&reverse, "kubernetes", "257.8"), None);
    }

    #[test]
    fn several_or_unreadable() {
        let two = [("a", Strict::No, false), ("b", Strict::No, false)];
        assert_eq!(found(&two, "c", "255"), None);
        assert_eq!(
            found(&[("a", Strict::Unknown, false)], "c", "255").as_deref(),
            Some("?")
        );
        assert_eq!(found(&[("a", Strict::No, true)], "c", "255"), None);
    }

    #[test]
    fn endings_are_taken_off_before_the_search() {
        let name = |path: &str, version: &str| {
            let systemd = systemd(version);
            let image = Image::Other("an image");
            let kind = ExtensionKind::Sysext;
            let placed =
                Candidate::placed(kind, String::new(), path.to_owned(), image, Some(systemd));
            release_name(&placed, systemd)
        };
        assert_eq!(name("/x/foo.sysext.img.raw", "257"), "foo.sysext");
        assert_eq!(name("/x/foo.confext.raw", "254"), "foo.confext");
        assert_eq!(name("/x/foo.confext.raw", "255"), "foo");
        assert_eq!(name("/x/foo.raw.raw", "259"), "foo");
        assert_eq!(name("/x/foo.raw.raw", "260"), "foo.raw");
    }

    #[test]
    fn names() {
        let name_of = |path, version| name_of(path, ExtensionKind::Sysext, Some(systemd(version)));
        assert_eq!(name_of("/var/lib/extensions/a.raw", "252"), "a");
        assert_eq!(name_of("/x/a.sysext.raw", "254"), "a.sysext");
        assert_eq!(name_of("/x/a.sysext.raw", "255"), "a");
    }
}
