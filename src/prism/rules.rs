//! Rules about values and about what goes together, but for disks.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::network::{is_artifact, is_download, is_host_name};
use super::node::{Body, Node};
use super::walk::Walk;
use crate::finding::Finding;

/// Why a path is none that Prism mounts (`validatePath`, overlay.go).
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    match path {
        _ if path.contains([' ', '\t', '\n', ':', ',']) => {
            Some("it holds a blank, a colon or a comma")
        }
        _ if !path.starts_with('/') => Some("it is not absolute"),
        _ => None,
    }
}

/// Whether mount options hold what ends them in fstab (`validateMountOptions`, overlay.go).
pub(super) fn has_blank(options: &str) -> bool {
    options.contains([' ', '\t', '\n'])
}

pub(super) fn check(walk: &mut Walk<'_>, root: &Node) {
    if let Some(image) = root.get("input").and_then(|input| input.get("image")) {
        input_image(walk, image);
    }
    if let Some(os) = root.get("os") {
        operating_system(walk, os);
        uki(walk, root, os);
    }
    if let Some(pxe) = root.get("pxe") {
        pxe_urls(walk, pxe);
    }
    if let Some(scripts) = root.get("scripts") {
        for list in ["postCustomization", "finalizeCustomization"] {
            for (index, script) in scripts.list(list) {
                script_path(walk, script, &format!("scripts.{list}[{index}]"));
            }
        }
    }
    if let Some(artifacts) = root
        .get("output")
        .and_then(|output| output.get("artifacts"))
        && let Some(items) = artifacts.get("items")
        && matches!(&items.body, Body::List(list) if list.is_empty())
    {
        walk.bad(
            items,
            "`output.artifacts.items` lists nothing".to_owned(),
            "list what is to be put out",
        );
    }
}

fn input_image(walk: &mut Walk<'_>, image: &Node) {
    if let Some(oci) = image.get("oci") {
        let uri = match oci.text() {
            Some(_) => Some(oci),
            None => oci.get("uri"),
        };
        if let Some(uri) = uri
            && let Some(text) = uri.text().filter(|text| !text.trim().is_empty())
            && !is_artifact(text)
        {
            walk.bad(uri, format!("`{text}` names no artifact of a registry"), "write for example `mcr.microsoft.com/azurelinux/3.0/image/minimal-os:latest`, without `oci://`");
        }
        if let Some(platform) = oci.get("platform")
            && let Some(text) = platform.text()
            && text.split('/').count() > 2
        {
            walk.bad(
                platform,
                format!("`{text}` is no platform, expected OS/ARCH"),
                "write for example `linux/amd64`",
            );
        }
    }
    let Some(azure_linux) = image.get("azureLinux") else {
        return;
    };
    if let Some(version) = azure_linux.get("version")
        && let Some(text) = version.text().filter(|text| !text.is_empty())
    {
        let parts: Vec<&str> = text.split('.').collect();
        let digits = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(digits) {
            walk.bad(
                version,
                format!("`{text}` is no version of Azure Linux"),
                "write for example `\"3.0\"`, or with a date `\"3.0.20250702\"`",
            );
        }
    }
    if let Some(variant) = azure_linux.get("variant")
        && let Some(text) = variant.text().filter(|text| !text.is_empty())
    {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = |c: char| known(c) || "._-".contains(c);
        if !(text.starts_with(known) && text.ends_with(known) && text.chars().all(inner)) {
            walk.bad(
                variant,
                format!("`{text}` is no variant of Azure Linux"),
                "write for example `minimal-os`",
            );
        }
    }
}

fn operating_system(walk: &mut Walk<'_>, os: &Node) {
    if let Some(name) = os.get("hostname")
        && let Some(text) = name.text().filter(|text| !text.is_empty())
        && !is_host_name(text)
    {
        walk.bad(
            name,
            format!("`{text}` is no host name"),
            "use letters, digits, `-`, and `.` between labels",
        );
    }
    if let Some(time) = os.get("packages").and_then(|it| it.get("snapshotTime"))
        && let Some(text) = time.text().filter(|text| !text.is_empty())
        && !is_time(text)
    {
        walk.bad(
            time,
            format!("`{text}` is no date and no RFC 3339 time"),
            "write for example `2025-09-18` or `2025-09-18T08:00:00Z`",
        );
    }
    for (index, user) in os.list("users") {
        if let Some(password) = user.get("password") {
            check_password(walk, password, &format!("os.users[{index}].password"));
        }
    }
    modules(walk, os);
    overlays(walk, os);
}

/// YYYY-MM-DD, or RFC 3339 (`packagesnapshottime.go`).
fn is_time(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| all)
    };
    let mark = |at: usize, mark: &str| text.get(at..at + 1) == Some(mark);
    let date = || {
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        (mark(4, "-") && mark(7, "-") && (1..=days).contains(&day)).then_some(())
    };
    let clock = || {
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let marks = mark(10, "T") && mark(13, ":") && mark(16, ":");
        (marks && hour < 24 && minute < 60 && second < 60).then_some(())
    };
    if date().is_none() {
        return false;
    }
    if text.len() == 10 {
        return true;
    }
    let Some(rest) = text.get(19..).filter(|_| clock().is_some()) else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            match zone.len() < fraction.len() {
                true => zone,
                false => return false,
            }
        }
        None => rest,
    };
    let offset = |zone: &str| {
        let (hours, minutes) = zone.split_once(':')?;
        let two = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 2);
        Some(two(hours)? < 24 && two(minutes)? < 60)
    };
    zone == "Z" || zone.strip_prefix(['+', '-']).and_then(offset) == Some(true)
}

/// `password.go`.
fn check_password(walk: &mut Walk<'_>, password: &Node, path: &str) {
    let value = password.filled("value");
    match password.filled("type") {
        Some("locked") if value.is_some() => {
            let node = password.get("value").unwrap_or(password);
            let message = format!("`{path}` is locked and has a value all the same");
            let finding = Finding::error("prism-exclusive-fields", message);
            walk.tell(
                node.at,
                finding.help("remove `value`, or choose another `type`"),
            );
        }
        Some("plain-text" | "hashed" | "plain-text-file" | "hashed-file") if value.is_none() => {
            let message = format!("`{path}` has no `value`");
            let finding = Finding::error("prism-missing-field", message);
            walk.tell(
                password.at,
                finding.help("add `value: …`, or use `type: locked`"),
            );
        }
        _ => {}
    }
}

/// `module.go`.
fn modules(walk: &mut Walk<'_>, os: &Node) {
    let mut names = BTreeSet::new();
    for (index, module) in os.list("modules") {
        let path = format!("os.modules[{index}]");
        if let Some(name) = module.get("name")
            && let Some(text) = name.text()
        {
            if text.contains([' ', '\n']) {
                walk.bad(
                    name,
                    format!("`{path}.name` holds a blank"),
                    "write the name of one module",
                );
            } else if !names.insert(text) {
                duplicate(walk, name, &format!("the module `{text}`"));
            }
        }
        let Some(Node {
            body: Body::Map(entries),
            ..
        }) = module.get("options")
        else {
            continue;
        };
        for entry in entries {
            let Body::Scalar { text, .. } = &entry.value.body else {
                continue;
            };
            if text.is_empty()
                || text.contains([' ', '\n'])
                || entry.key.is_empty()
                || entry.key.contains([' ', '\n'])
            {
                walk.bad(
                    &entry.value,
                    format!("`{path}.options`: a parameter and its value are words without blanks"),
                    "",
                );
            }
        }
    }
}

fn duplicate(walk: &mut Walk<'_>, node: &Node, what: &str) {
    let finding = Finding::error("prism-duplicate", format!("{what} is there twice"));
    walk.tell(node.at, finding.help("keep one of the two"));
}

/// `overlay.go`, and `os.go` for what has to be different.
fn overlays(walk: &mut Walk<'_>, os: &Node) {
    let keys = ["mountPoint", "upperDir", "workDir"];
    let mut taken: BTreeSet<(&str, String)> = BTreeSet::new();
    for (index, overlay) in os.list("overlays") {
        let path = format!("os.overlays[{index}]");
        for key in keys {
            let Some(node) = overlay.get(key) else {
                continue;
            };
            let Some(text) = node.text().filter(|text| !text.is_empty()) else {
                continue;
            };
            check_path(walk, node, &format!("{path}.{key}"));
            if !taken.insert((key, text.to_owned())) {
                duplicate(walk, node, &format!("the `{key}` {text}"));
            }
        }
        for key in ["lowerDirs", "mountDependencies"] {
            for (item, node) in overlay.list(key) {
                check_path(walk, node, &format!("{path}.{key}[{item}]"));
            }
        }
        if let Some(options) = overlay.get("mountOptions")
            && options.text().is_some_and(has_blank)
        {
            walk.bad(
                options,
                format!("`{path}.mountOptions` holds a blank"),
                "separate options by commas alone",
            );
        }
        let folder = |key| Some(format!("{}/", overlay.filled(key)?.trim_end_matches('/')));
        if let (Some(upper), Some(work)) = (folder("upperDir"), folder("workDir"))
            && (upper.starts_with(&work) || work.starts_with(&upper))
        {
            let node = overlay.get("workDir").unwrap_or(overlay);
            walk.bad(
                node,
                format!("`{path}`: upperDir and workDir lie within each other"),
                "use two folders beside each other",
            );
        }
    }
}

pub(super) fn check_path(walk: &mut Walk<'_>, node: &Node, path: &str) {
    let text = node.text().unwrap_or_default();
    if let Some(fault) = path_fault(text).filter(|_| !text.trim().is_empty()) {
        walk.bad(
            node,
            format!("`{path}` is `{text}`: {fault}"),
            "write an absolute path",
        );
    }
}

/// `config.go`: a UKI holds kernel, initramfs and command line, which these modes leave alone.
fn uki(walk: &mut Walk<'_>, root: &Node, os: &Node) {
    let mode = os.get("uki").and_then(|uki| uki.text_of("mode"));
    let passes = match mode {
        Some("passthrough") => true,
        Some("modify") => false,
        _ => return,
    };
    let storage = root.get("storage");
    let filled = |node: Option<&'_ Node>| node.is_some_and(|node| node.items().next().is_some());
    let verity = storage.and_then(|storage| storage.get("verity"));
    let reset = os.get("bootloader").and_then(|it| it.get("resetType"));
    let selinux = os.get("selinux").and_then(|it| it.get("mode"));
    let line = os
        .get("kernelCommandLine")
        .and_then(|it| it.get("extraCommandLine"));
    let again = storage.and_then(|it| it.get("reinitializeVerity"));
    let set = |node: Option<&Node>, is: bool| node.filter(|_| is).map(|node| node.at);
    let conflicts = [
        (
            "os.bootloader.resetType",
            set(reset, reset.and_then(Node::text) == Some("hard-reset")),
        ),
        ("storage.verity", set(verity, filled(verity))),
        (
            "os.overlays",
            set(os.get("overlays"), filled(os.get("overlays"))),
        ),
        (
            "os.selinux.mode",
            set(selinux, passes && selinux.and_then(Node::text) != Some("")),
        ),
        (
            "os.kernelCommandLine.extraCommandLine",
            set(line, passes && filled(line)),
        ),
        (
            "storage.reinitializeVerity",
            set(again, passes && again.and_then(Node::text) == Some("all")),
        ),
    ];
    let mode = mode.unwrap_or_default();
    for (what, at) in conflicts {
        let Some(at) = at else { continue };
        let finding = Finding::error("prism-uki-mode", format!("`{what}` does not go with `os.uki.mode: {mode}`"))
            .because("it changes the initramfs or the command line inside the UKI, which this mode leaves as they are (config.go)")
            .help("use `mode: create`, or leave it out");
        walk.tell(at, finding);
    }
}

/// `pxe.go`.
fn pxe_urls(walk: &mut Walk<'_>, pxe: &Node) {
    let full = pxe.text_of("initramfsType") == Some("full-os");
    for key in ["bootstrapBaseUrl", "bootstrapFileUrl"] {
        let Some(node) = pxe.get(key) else { continue };
        let Some(url) = node.text().filter(|url| !url.is_empty()) else {
            continue;
        };
        if full {
            let message = format!("`pxe.{key}` does not go with `initramfsType: full-os`");
            let finding = Finding::error("prism-exclusive-fields", message);
            walk.tell(
                node.at,
                finding.help("remove it, or use `initramfsType: bootstrap`"),
            );
        } else if !is_download(url) {
            walk.bad(
                node,
                format!("`pxe.{key}` is `{url}`, expected a URL of ftp, http, https, nfs or tftp"),
                "",
            );
        }
    }
}

/// A script lies below the config's folder, which Prism mounts in the chroot (`filepath.IsLocal`).
fn script_path(walk: &mut Walk<'_>, script: &Node, path: &str) {
    let Some(node) = script.get("path") else {
        return;
    };
    let Some(text) = node.text().filter(|text| !text.is_empty()) else {
        return;
    };
    let mut depth = 0_i32;
    let mut local = true;
    for component in Path::new(text).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => local = false,
        }
        local &= depth >= 0;
    }
    if !local {
        walk.bad(
            node,
            format!("`{path}.path` is `{text}`, which is not below the config's folder"),
            "move the script beside the config, or give its text as `content`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_or_rfc_3339() {
        for good in [
            "2025-09-18",
            "2024-02-29",
            "2025-09-18T08:00:00Z",
            "2025-09-18T08:00:00.5+02:00",
        ] {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "2025-9-18",
            "2025-02-29",
            "2025-13-01",
            "2025-09-18T08:00Z",
            "2025-09-18T08:00:00",
            "2025-09-18T08:00:00.Z",
            "today",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
