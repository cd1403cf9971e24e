//! What of a config Prism accepts without a word, and what then does not work or not last.

pub(crate) mod scripts;

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::Config;
use super::model::{CertificateLocation, ImagePolicy, Sysext};
use super::prism::Prism;
use crate::finding::Finding;

/// Folders that are mounted anew in Prism's chroot or at every boot.
const NOT_KEPT: [&str; 5] = ["/run", "/tmp", "/dev", "/proc", "/sys"];

/// Everything of this kind in a config.
pub(crate) fn pitfalls(config: &Config) -> Vec<Finding> {
    let mut findings = destinations(&config.prism);
    if let Some(sysext) = &config.sysext {
        findings.extend(units(config, sysext));
        findings.extend(outside_verity(&config.prism, sysext));
        findings.extend(live_overlays(&config.prism));
        findings.extend(verity_kept(&config.prism, sysext));
        findings.extend(live_root(&config.prism));
        findings.extend(initrd_overlays(&config.prism, sysext));
        findings.extend(shared(&config.prism, sysext));
    }
    findings
}

/// Prism joins destinations to the mounted image as text (`safechroot.go`), so enough `..` leads out of it,
/// onto the machine that builds.
fn destinations(prism: &Prism) -> Vec<Finding> {
    let Some(os) = &prism.os else {
        return Vec::new();
    };
    let files = os.additional_files.iter().flatten().enumerate();
    let files = files.map(|(index, file)| ("additionalFiles", index, &file.destination));
    let folders = os.additional_dirs.iter().flatten().enumerate();
    let folders = folders.map(|(index, folder)| ("additionalDirs", index, &folder.destination));
    let mut findings = Vec::new();
    for (list, index, destination) in files.chain(folders) {
        let Some(destination) = destination.as_deref().filter(|it| !it.is_empty()) else {
            continue;
        };
        let path = Path::new(destination);
        let at = format!("os.{list}[{index}].destination");
        if path.components().any(|it| it == Component::ParentDir) {
            let message = format!("the destination {destination} leads upwards");
            findings.push(
                Finding::error("bad-destination", message)
                    .at(at)
                    .because("Prism joins it to the folder where the image is mounted, so it can lead onto the machine that builds")
                    .help("write the path without `..`"),
            );
        } else if let Some(top) = NOT_KEPT.iter().find(|top| path.starts_with(top)) {
            let message = format!("{destination} is not there at boot");
            findings.push(
                Finding::warning("destination-not-kept", message)
                    .at(at)
                    .because(format!("something else is mounted over {top}, in Prism's chroot already"))
                    .help("choose a folder that lasts; what is needed there at run time is made by tmpfiles.d or a unit"),
            );
        } else if !destination.starts_with('/') {
            let message = format!("the destination {destination} is not absolute");
            findings.push(
                Finding::warning("bad-destination", message)
                    .at(at)
                    .because("Prism puts it below the root all the same, as it joins texts")
                    .help(format!("write /{destination}")),
            );
        } else if list == "additionalFiles" && destination.ends_with('/') {
            let message = format!("the destination {destination} is written like a folder");
            findings.push(
                Finding::warning("bad-destination", message)
                    .at(at)
                    .because("Prism takes it for the name of the file, and stops where a folder of this name is there")
                    .help("add the name of the file"),
            );
        }
    }
    findings
}

/// A unit that Prism enables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnabledUnit {
    /// Its file name.
    pub file: String,
    /// Place in the config.
    pub at: String,
}

impl EnabledUnit {
    /// Those of `os.services.enable`.
    pub(crate) fn all(prism: &Prism) -> Vec<EnabledUnit> {
        let services = prism.os.as_ref().and_then(|os| os.services.as_ref());
        let enabled = services.and_then(|services| services.enable.as_ref());
        let enabled = enabled.into_iter().flatten().enumerate();
        let units = enabled.filter_map(|(index, unit)| {
            let unit = unit.as_deref().filter(|unit| !unit.contains('/'))?;
            Some(EnabledUnit {
                file: match unit.contains('.') {
                    true => unit.to_owned(),
                    false => format!("{unit}.service"),
                },
                at: format!("os.services.enable[{index}]"),
            })
        });
        units.collect()
    }

    /// Where an extension would bring it.
    pub(crate) fn path(&self) -> String {
        format!("/usr/lib/systemd/system/{}", self.file)
    }

    /// That it comes with the extension `name`, which is not merged while Prism runs.
    pub(crate) fn inside(&self, name: &str) -> Finding {
        let file = &self.file;
        Finding::warning("unit-inside-extension", format!("{file} comes with {name}, which is not merged while Prism enables it"))
            .at(&self.at)
            .because("`systemctl enable` fails for a unit that is not there, and the build with it; what it would write to /etc names a unit that comes later")
            .help(format!("leave it out, and let the extension start it: a file /usr/lib/systemd/system/multi-user.target.d/10-{name}.conf with `[Unit]` and `Upholds={file}` (systemd 249)"))
    }
}

/// Units that are to be enabled and come with an extension, as far as that can be told before it is
/// built.
fn units(config: &Config, sysext: &Sysext) -> Vec<Finding> {
    let mut findings = Vec::new();
    for unit in EnabledUnit::all(&config.prism) {
        let path = unit.path();
        let brings = |extension: &&super::model::Extension| {
            let files = extension.files.iter();
            let mut places = files.filter_map(|file| file.destination.as_deref());
            let tree = extension.tree.as_ref().map(|tree| config.resolve(tree));
            places.any(|place| place == path)
                || tree.is_some_and(|tree| tree.join(path.trim_start_matches('/')).exists())
        };
        let Some(extension) = sysext.extensions.iter().find(brings) else {
            continue;
        };
        findings.push(unit.inside(extension.name.as_deref().unwrap_or("an extension")));
    }
    findings
}

/// An overlay of the initrd that writes to the file system from which extensions are merged:
/// `systemd-sysext.service` waits for `local-fs.target` only (units/systemd-sysext.service.in).
fn initrd_overlays(prism: &Prism, sysext: &Sysext) -> Vec<Finding> {
    let location = sysext.location.path();
    let overlays = prism.os.iter().flat_map(|os| os.overlays.iter().flatten());
    let mut findings = Vec::new();
    for (index, overlay) in overlays.enumerate() {
        let holder = |path: &str| prism.holder(path).map(|mount| mount.path.as_str());
        let upper = overlay.upper_dir.as_deref().filter(|_| overlay.in_initrd);
        let Some(mount) = upper.and_then(holder) else {
            continue;
        };
        if mount == "/" || holder(location) != Some(mount) {
            continue;
        }
        findings.push(
            Finding::note("overlay-in-initrd", format!("the initrd mounts {mount} for this overlay, and the extensions lie there as well"))
                .at(format!("os.overlays[{index}].upperDir"))
                .because("systemd-sysext.service waits for local-fs.target only: what the initrd mounted below /sysroot is there by then, and what fstab mounts over it hides it")
                .help("keep the mount of the initrd and that of fstab on the same device, or put the overlay's folders on another partition"),
        );
    }
    findings
}

/// Two systems that take turns, and extensions on a partition that both mount.
fn shared(prism: &Prism, sysext: &Sysext) -> Option<Finding> {
    let location = sysext.location.path();
    let holder = prism.holder(location).filter(|mount| mount.path != "/")?;
    let roots = prism.partitions.iter();
    let roots = roots.filter(|partition| partition.kind.as_deref() == Some("root"));
    let ids: Vec<&str> = roots.filter_map(|it| it.id.as_deref()).collect();
    (ids.len() > 1).then(|| {
        let message = format!(
            "{} is one for all of {}, and so are the extensions in {location}",
            holder.path,
            ids.join(", ")
        );
        Finding::warning("extensions-shared", message)
            .at("sysext.location")
            .because("an extension for one version of the OS is left out without a word on another (extension_release_validate, src/shared/extension-util.c)")
            .help("write `location: /etc/extensions`, which lies on the root, or give each root a /var of its own")
    })
}

/// A root that dm-verity protects, and extensions on a /var that it does not.
fn outside_verity(prism: &Prism, sysext: &Sysext) -> Option<Finding> {
    let root = prism.mounts.iter().find(|mount| mount.path == "/");
    let root = root.filter(|root| root.verity)?;
    let location = sysext.location.path();
    let holder = prism.holder(location)?;
    if holder.path == root.path {
        return Some(
            Finding::note("extensions-in-verity-root", format!("{location} lies on the root that dm-verity protects"))
                .at("sysext.location")
                .because("extensions there are covered by its root hash and can't change without a new image")
                .help("for extensions that are updated on their own give /var a partition, and write `imagePolicy: signed`"),
        );
    }
    let admits_unsigned = sysext.image_policy == ImagePolicy::Default;
    (!holder.verity && admits_unsigned).then(|| {
        Finding::warning("extensions-outside-verity", format!("{location} lies on {}, which dm-verity does not protect", holder.path))
            .at("sysext.imagePolicy")
            .because("whoever can write there brings programs into the protected /usr: systemd's own policy admits unsigned images")
            .help("write `imagePolicy: signed`")
    })
}

/// The root of a live medium is an overlay already; the merge is a second one, and the kernel stacks no
/// third (FILESYSTEM_MAX_STACK_DEPTH, include/linux/fs.h).
fn live_overlays(prism: &Prism) -> Vec<Finding> {
    let Some(live) = prism.live else {
        return Vec::new();
    };
    let overlays = prism.os.iter().flat_map(|os| os.overlays.iter().flatten());
    let mut findings = Vec::new();
    for (index, overlay) in overlays.enumerate() {
        let Some(path) = overlay.mount_point.as_deref() else {
            continue;
        };
        if !["/usr", "/opt"]
            .iter()
            .any(|top| Path::new(path).starts_with(top))
        {
            continue;
        }
        findings.push(
            Finding::error("overlay-too-deep", format!("on {live} the merge over the overlay on {path} would be the third, and fails"))
                .at(format!("os.overlays[{index}].mountPoint"))
                .because("the root of a live medium is an overlay, and the kernel stacks two at most (FILESYSTEM_MAX_STACK_DEPTH, include/linux/fs.h)")
                .help("leave /usr and /opt to the extensions"),
        );
    }
    findings
}

/// With `reinitializeVerity: none` Prism mounts what dm-verity protects read-only.
fn verity_kept(prism: &Prism, sysext: &Sysext) -> Option<Finding> {
    let kept = prism.reinitialize_verity.as_deref() == Some("none");
    (kept && sysext.certificate_location == CertificateLocation::Usr).then(|| {
        let message = "certificates go to /usr/lib/verity.d, and `reinitializeVerity: none` leaves /usr as it is";
        Finding::error("verity-read-only", message)
            .at("sysext.certificateLocation")
            .because("Prism mounts the partitions that dm-verity protects read-only then, and its copy fails")
            .help("use `certificateLocation: /etc/verity.d`, or `storage.reinitializeVerity: all`")
    })
}

/// A live medium whose OS is left alone, until extensions are added.
fn live_root(prism: &Prism) -> Option<Finding> {
    let image = prism.input.as_ref()?.image.as_ref()?;
    let from_iso = image.path.as_ref()?.extension()? == "iso";
    let untouched = prism.os.is_none() && prism.scripts.is_none();
    (from_iso && untouched).then(|| {
        let message = "the config leaves the OS of the medium as it is, and with extensions Prism makes it anew";
        Finding::note("live-root-rebuilt", message)
            .at("input.image.path")
            .because("Prism unpacks and packs the root of an ISO only if there is an `os` or `scripts` section")
    })
}

/// A prebuilt image that may take more room on the target than it does here.
///
/// `allocated` is what its file takes of the file system here, in bytes, as `length` is its length.
pub(crate) fn sparse(image: &Path, allocated: u64, length: u64) -> Option<Finding> {
    let holes = length.checked_sub(allocated)?;
    let megabytes = |bytes: u64| bytes >> 20;
    (holes > allocated && megabytes(holes) > 0).then(|| {
        let message = format!(
            "{} is {} MiB long, of which {} MiB are holes",
            image.display(),
            megabytes(length),
            megabytes(holes)
        );
        Finding::warning("image-sparse", message)
            .because("Prism's copy keeps no holes for sure (`io.Copy`, filecopybuilder.go), so the image may take its full length")
            .help("make its partitions as small as their content")
    })
}

/// The images are larger than the partition that gets them, as far as the config has sizes; each is given by
/// its path on the target and its length in bytes.
pub(crate) fn room<'a>(
    prism: &Prism,
    images: impl Iterator<Item = (&'a str, u64)>,
) -> Option<Finding> {
    let mut needs: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (path, length) in images {
        let Some(holder) = prism.holder(path) else {
            continue;
        };
        if let Some(size) = holder.size {
            let (sum, _) = needs.entry(&holder.path).or_insert((0, size));
            *sum = sum.saturating_add(length);
        }
    }
    let (path, (sum, size)) = needs.into_iter().find(|(_, (sum, size))| sum > size)?;
    let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "the extensions need {} MiB on {path}, whose partition has {} MiB",
        megabytes(sum),
        megabytes(size)
    );
    Some(
        Finding::error("root-too-small", message)
            .at("storage.disks")
            .because("Prism copies each image as a whole")
            .help("enlarge the partition, or compress the extensions"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Source;
    use std::path::Path;

    fn ids(text: &str) -> Vec<(&'static str, String)> {
        let source = Source::parse(Path::new("c.yaml"), text.to_owned()).unwrap();
        let found = pitfalls(&Config::from_source(source).unwrap()).into_iter();
        let place = |finding: &Finding| finding.place.as_ref().map(ToString::to_string);
        found
            .map(|it| (it.id, place(&it).unwrap_or_default()))
            .collect()
    }

    const SECTION: &str = "sysext: {extensions: [{name: a, verity: none, files: [{content: x, destination: /usr/lib/systemd/system/a.service}]}]}\n";

    #[test]
    fn destinations_that_lead_out_or_do_not_last() {
        let text = "os:\n  additionalFiles:\n  - {source: a, destination: /etc/a}\n  - {source: a, destination: ../../etc/a}\n  - {source: a, destination: /run/a}\n  additionalDirs: [{source: a, destination: /tmp}, {source: b, destination: /tmpx}]\n";
        let expected = [
            ("bad-destination", "os.additionalFiles[1].destination"),
            ("destination-not-kept", "os.additionalFiles[2].destination"),
            ("destination-not-kept", "os.additionalDirs[0].destination"),
        ];
        assert_eq!(ids(text), expected.map(|(id, at)| (id, at.to_owned())));
    }

    #[test]
    fn destinations_are_absolute_and_those_of_files_name_files() {
        let text = "os:\n  additionalFiles:\n  - {source: a, destination: etc/a}\n  - {source: a, destination: /etc/}\n  additionalDirs: [{source: a, destination: /etc/}]\n";
        let expected = [0, 1].map(|index| {
            let at = format!("os.additionalFiles[{index}].destination");
            ("bad-destination", at)
        });
        assert_eq!(ids(text), expected);
    }

    #[test]
    fn what_verity_protects_stays_read_only() {
        for (verity, location, told) in [
            ("none", "/usr/lib/verity.d", 1),
            ("all", "/usr/lib/verity.d", 0),
            ("none", "/etc/verity.d", 0),
        ] {
            let section =
                SECTION.replace("{ext", &format!("{{certificateLocation: {location}, ext"));
            let text = format!("storage: {{reinitializeVerity: {verity}}}\n{section}");
            assert_eq!(ids(&text).len(), told, "{text}");
        }
    }

    #[test]
    fn a_medium_whose_os_was_left_alone_is_made_anew() {
        let text = format!("input: {{image: {{path: live.iso}}}}\niso: {{}}\n{SECTION}");
        assert_eq!(ids(&text)[0].0, "live-root-rebuilt");
        for other in [format!("os: {{}}\n{text}"), text.replace(".iso", ".raw")] {
            assert!(ids(&other).is_empty(), "{other}");
        }
    }

    #[test]
    fn holes_count_as_data() {
        let told =
            |allocated: u64, length: u64| sparse(Path::new("a.raw"), allocated << 20, length << 20);
        assert!(told(40, 50).is_none() && told(60, 50).is_none() && told(0, 0).is_none());
        let message = told(10, 50).unwrap().message;
        assert!(message.contains("50 MiB") && message.contains("40 MiB are holes"));
    }

    #[test]
    fn units_of_extensions_are_not_there_to_be_enabled() {
        for (unit, told) in [("a", 1), ("a.service", 1), ("b", 0), ("a.timer", 0)] {
            let text = format!("os: {{services: {{enable: [sshd, {unit}]}}}}\n{SECTION}");
            assert_eq!(ids(&text).len(), told, "{unit}");
        }
    }

    #[test]
    fn extensions_on_what_several_roots_mount_and_on_what_the_initrd_mounts() {
        let storage = |kind: &str, path: &str| {
            format!(
                "storage:\n  disks: [{{partitions: [{{id: a, type: root}}, {{id: b, type: {kind}}}, {{id: v}}]}}]\n  filesystems:\n  - {{deviceId: a, type: ext4, mountPoint: /}}\n  - {{deviceId: v, type: ext4, mountPoint: {path}}}\n"
            )
        };
        let one = |kind: &str, path: &str| ids(&format!("{}{SECTION}", storage(kind, path)));
        let expected = [("extensions-shared", "sysext.location".to_owned())];
        assert_eq!(one("root", "/var"), expected);
        assert!(one("linux-generic", "/var").is_empty());
        assert!(one("root", "/home").is_empty());
        for (upper, initrd, told) in [
            ("/var/upper", "true", 1),
            ("/var/upper", "false", 0),
            ("/upper", "true", 0),
        ] {
            let os = format!(
                "os: {{overlays: [{{mountPoint: /etc, lowerDirs: [/etc], upperDir: {upper}, workDir: /w, isInitrdOverlay: {initrd}}}]}}\n"
            );
            let text = format!("{os}{}{SECTION}", storage("esp", "/var"));
            assert_eq!(ids(&text).len(), told, "{text}");
        }
    }

    #[test]
    fn a_var_beside_a_protected_root_wants_signatures() {
        let storage = |var: &str| {
            format!(
                "storage:\n  verity: [{{id: v, name: root, dataDeviceId: r, hashDeviceId: h}}]\n  filesystems:\n  - {{deviceId: v, type: ext4, mountPoint: {{path: /, options: ro}}}}\n{var}{SECTION}"
            )
        };
        let var = "  - {deviceId: x, type: ext4, mountPoint: /var}\n";
        assert_eq!(ids(&storage(""))[0].0, "extensions-in-verity-root");
        assert_eq!(ids(&storage(var))[0].0, "extensions-outside-verity");
        let strict = storage(var).replace("sysext: {", "sysext: {imagePolicy: signed, ");
        assert!(ids(&strict).is_empty());
    }

    #[test]
    fn images_have_to_fit_their_partition() {
        let text = "storage:\n  disks: [{partitions: [{id: r, size: 2M}, {id: v, size: grow}]}]\n  filesystems: [{deviceId: r, type: ext4, mountPoint: /}, {deviceId: v, type: ext4, mountPoint: /srv}]\n";
        let source = Source::parse(Path::new("c.yaml"), text.to_owned()).unwrap();
        let prism = Config::from_source(source).unwrap().prism;
        let image = |name: &'static str| (name, 3 << 19);
        let one = [image("/var/lib/extensions/a.raw")];
        assert!(room(&prism, one.into_iter()).is_none());
        let two = [one[0], image("/etc/extensions/b.raw")];
        let found = room(&prism, two.into_iter()).unwrap();
        assert!(found.message.contains("3 MiB on /") && found.message.contains("2 MiB"));
        let elsewhere = [("/srv/a", u64::MAX), ("/srv/b", u64::MAX)];
        assert!(room(&prism, elsewhere.into_iter()).is_none());
    }

    #[test]
    fn live_media_have_no_room_for_another_overlay() {
        let text = format!(
            "output: {{image: {{path: a.iso, format: iso}}}}\nos: {{overlays: [{{upperDir: /u, workDir: /w, mountPoint: /etc}}, {{upperDir: /v, workDir: /x, mountPoint: /usr/share}}]}}\n{SECTION}"
        );
        assert_eq!(
            ids(&text),
            [("overlay-too-deep", "os.overlays[1].mountPoint".to_owned())]
        );
        assert!(ids(&text.replace("format: iso", "format: raw")).is_empty());
    }
}
