//! Other things of a base that meet a merge: overlays in fstab, SELinux.

use serde::Serialize;

use super::facts::Facts;

/// Most of `/etc/fstab` and `/etc/selinux/config` that is read.
const TEXT_LIMIT: u64 = 1024 * 1024;

/// Most mounts of a kind that are kept.
const MOUNT_LIMIT: usize = 256;

/// The folders that extensions are merged into.
const HIERARCHIES: [&str; 3] = ["/usr", "/opt", "/etc"];

/// An overlayfs mount of `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayMount {
    /// Where it is mounted.
    pub mount_point: String,
    /// Its mount options as written.
    pub options: String,
}

/// What SELinux does after boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SelinuxMode {
    /// It denies.
    Enforcing,
    /// It logs.
    Permissive,
    /// It is off.
    Disabled,
}

/// `/etc/fstab`; empty where there is none.
pub(super) fn read_fstab(facts: &mut Facts<'_>) -> String {
    facts.read_text("etc/fstab", TEXT_LIMIT).unwrap_or_default()
}

/// Overlays at, above or below the folders that extensions are merged into.
pub(super) fn overlays(fstab: &str) -> Vec<OverlayMount> {
    each(fstab, overlay_of_line)
}

/// Other mounts below the folders that system extensions are merged into.
pub(super) fn inside(fstab: &str) -> Vec<String> {
    each(fstab, inside_of_line)
}

/// Where data disks of Azure are mounted, which are not there while the image is made.
pub(super) fn data_disks(fstab: &str) -> Vec<String> {
    each(fstab, data_disk_of_line)
}

fn each<T>(fstab: &str, of_line: fn(&str) -> Option<T>) -> Vec<T> {
    let found = fstab.lines().filter_map(of_line);
    found.take(MOUNT_LIMIT).collect()
}

fn data_disk_of_line(line: &str) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let source = fields.next()?;
    let names = ["/dev/disk/azure/", "/dev/disk/cloud/azure_"];
    let mount_point = unescape(fields.next()?);
    names
        .iter()
        .any(|name| source.starts_with(name))
        .then_some(mount_point)
}

fn inside_of_line(line: &str) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    fields.next().filter(|source| !source.starts_with('#'))?;
    let (mount_point, kind) = (unescape(fields.next()?), fields.next()?);
    let inside = ["/usr", "/opt"].iter().any(|folder| {
        let rest = mount_point.strip_prefix(folder);
        rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    });
    (kind != "overlay" && inside).then_some(mount_point)
}

fn overlay_of_line(line: &str) -> Option<OverlayMount> {
    let mut fields = line.split_ascii_whitespace();
    fields.next().filter(|source| !source.starts_with('#'))?;
    let (mount_point, kind) = (unescape(fields.next()?), fields.next()?);
    let near = HIERARCHIES.iter().any(|folder| {
        let below = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        below(&mount_point, folder) || below(folder, &mount_point)
    });
    (kind == "overlay" && near).then(|| OverlayMount {
        mount_point,
        options: unescape(fields.next().unwrap_or_default()),
    })
}

/// Undoes the octal escapes of fstab(5), such as `\040` for a space.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after
            .get(..3)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match (code, after.get(3..)) {
            (Some(code), Some(tail)) if code.is_ascii() => {
                text.push(char::from(code));
                rest = tail;
            }
            _ => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// The last `SELINUX=` of the configuration (libselinux `selinux_getenforcemode`).
pub(super) fn read_selinux(facts: &mut Facts<'_>) -> Option<SelinuxMode> {
    let config = facts.read_text("etc/selinux/config", TEXT_LIMIT)?;
    let value = config
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("SELINUX="))?;
    match value.trim().to_ascii_lowercase().as_str() {
        "enforcing" => Some(SelinuxMode::Enforcing),
        "permissive" => Some(SelinuxMode::Permissive),
        "disabled" => Some(SelinuxMode::Disabled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_near_the_merged_folders_count() {
        let mount = overlay_of_line("overlay /usr overlay lowerdir=/usr,x=a\\040b 0 0").unwrap();
        assert_eq!(mount.mount_point, "/usr");
        assert_eq!(mount.options, "lowerdir=/usr,x=a b");
        assert!(overlay_of_line("overlay / overlay x").is_some());
        assert!(overlay_of_line("overlay /usr/lib overlay x").is_some());
        assert!(overlay_of_line("overlay /usrlocal overlay x").is_none());
        assert!(overlay_of_line("overlay /srv overlay x").is_none());
        assert!(overlay_of_line("#overlay /usr overlay x").is_none());
        assert!(overlay_of_line("/dev/sda1 /usr ext4 x").is_none());
        assert!(overlay_of_line("").is_none());
    }

    #[test]
    fn mounts_inside_of_the_merged_folders_count() {
        let inside = |line| inside_of_line(line);
        assert_eq!(
            inside("UUID=1 /usr/local ext4 x"),
            Some("/usr/local".to_owned())
        );
        for line in [
            "UUID=1 /usr ext4 x",
            "UUID=1 /usr/ ext4 x",
            "#UUID=1 /usr/local ext4 x",
            "UUID=1 /srv ext4 x",
            "overlay /usr/local overlay x",
        ] {
            assert_eq!(inside(line), None, "{line}");
        }
    }

    #[test]
    fn data_disks_have_names_of_their_own() {
        let mount = data_disk_of_line;
        assert_eq!(
            mount("/dev/disk/azure/scsi1/lun0 /var ext4 x").as_deref(),
            Some("/var")
        );
        assert_eq!(
            mount("/dev/disk/cloud/azure_resource-part1 /mnt auto x").as_deref(),
            Some("/mnt")
        );
        assert_eq!(mount("UUID=1 /var ext4 x"), None);
        assert_eq!(mount("#/dev/disk/azure/x /var ext4 x"), None);
    }

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(unescape("a\\040b\\"), "a b\\");
        assert_eq!(unescape("\\9\u{e9}"), "\\9\u{e9}");
    }
}
