//! Programs that can't run or are not found, and kernel modules that nothing loads.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Contents, Target, named, split};
use crate::base::rootfs::RootFs;
use crate::finding::Finding;
use crate::systemd::arch::{Arch, ELF_START};

/// Where programs are looked for (DEFAULT_PATH_NORMAL, systemd src/basic/path-util.h).
const DEFAULT_PATH: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
/// Most of `/etc/sudoers` that is read, in bytes.
const SUDOERS_LIMIT: u64 = 1 << 20;

/// ELF files for another processor than the base's.
pub(super) fn wrong_architecture(contents: &Contents<'_>, target: Target<'_>) -> Option<Finding> {
    let native = target.base.arch?;
    // Processors of 64 bits run the programs of 32 bits of their family.
    let fits = |arch: Arch| {
        let pair = (native.name(), arch.name());
        arch == native || matches!(pair, ("x86-64", "x86") | ("arm64", "arm"))
    };
    let elf = contents.files().filter(|(path, found)| {
        let (folder, name) = split(path);
        let may_be = found.mode & 0o111 != 0 || name.contains(".so") || name.contains(".ko");
        // What devices run has another machine on purpose.
        may_be && found.size >= ELF_START && !folder.starts_with("/usr/lib/firmware")
    });
    let is_foreign = |path: &&str| {
        let arch = Arch::of_elf(&contents.start(path, ELF_START));
        arch.is_some_and(|arch| !fits(arch))
    };
    let foreign = named(elf.map(|(path, _)| path).filter(is_foreign))?;
    let native = native.name();
    let message = format!("programs or libraries are not for {native}: {foreign}");
    Some(
        Finding::warning("wrong-architecture", message)
            .because(
                "the kernel runs no ELF file of another machine (elf_check_arch, fs/binfmt_elf.c)",
            )
            .help("take the files for the base's architecture, or leave them out"),
    )
}

/// Programs in a `bin` folder that no shell looks into.
pub(super) fn not_in_path(contents: &Contents<'_>, target: Target<'_>) -> Option<Finding> {
    let secure = target.root.and_then(secure_path);
    let links: BTreeSet<String> = contents
        .links()
        .filter(|link| DEFAULT_PATH.contains(&split(link).0))
        .map(|link| split(link).1.to_owned())
        .collect();
    let programs: Vec<&str> = contents
        .files()
        .filter(|(path, found)| {
            let (folder, name) = split(path);
            let is_program = found.mode & 0o111 != 0 && !name.contains(".so");
            let in_bin = folder.ends_with("/bin") || folder.ends_with("/sbin");
            is_program && in_bin && !links.contains(name)
        })
        .map(|(path, _)| path)
        .collect();
    let outside = |folders: &[&str]| {
        let programs = programs.iter().copied();
        named(programs.filter(|path| !folders.contains(&split(path).0)))
    };
    if let Some(programs) = outside(&DEFAULT_PATH) {
        let message = format!("programs are in no folder of the default PATH: {programs}");
        let rule = "PATH is /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin by default (src/basic/path-util.h)";
        return Some(Finding::warning("not-in-path", message).because(rule).help(
            "call them by their full path, or have `pathLinks: [NAME]` put a link into /usr/bin",
        ));
    }
    let secure = secure?;
    let folders: Vec<&str> = secure.split(':').map(merged_usr).collect();
    let message = format!(
        "programs are in no folder of sudo's secure_path: {}",
        outside(&folders)?
    );
    Some(
        Finding::note("not-in-path", message)
            .because(format!("/etc/sudoers of the base sets secure_path to {secure}"))
            .help("call them by their full path under sudo, or have `pathLinks: [NAME]` put a link into /usr/bin"),
    )
}

/// `/bin` and `/sbin` are links into `/usr` on every base that extensions are for.
fn merged_usr(folder: &str) -> &str {
    match folder {
        "/bin" => "/usr/bin",
        "/sbin" => "/usr/sbin",
        other => other,
    }
}

fn secure_path(root: &dyn RootFs) -> Option<String> {
    let text = root.read(Path::new("/etc/sudoers"), SUDOERS_LIMIT).ok()??;
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = text.lines().rev().find_map(|line| {
        let rest = line.trim().strip_prefix("Defaults")?.trim_start();
        let value = rest.strip_prefix("secure_path")?.trim_start();
        Some(value.strip_prefix('=')?.trim().trim_matches('"').to_owned())
    });
    value.filter(|value| value.starts_with('/'))
}

/// Modules in a folder of a kernel that the base has not.
pub(super) fn modules_without_kernel(
    contents: &Contents<'_>,
    target: Target<'_>,
) -> Option<Finding> {
    let kernels = &target.base.kernels;
    // A profile knows the series only, and a container image has no kernel.
    if target.root.is_none() || kernels.is_empty() {
        return None;
    }
    let is_there = |release: &str| kernels.iter().any(|kernel| kernel.release == release);
    let folders: BTreeSet<&str> = contents
        .below("/usr/lib/modules")
        .filter(|(path, _)| path.contains(".ko"))
        .filter_map(|(path, _)| path.strip_prefix("/usr/lib/modules/")?.split('/').next())
        .filter(|release| !is_there(release))
        .collect();
    let there: Vec<&str> = kernels
        .iter()
        .map(|kernel| kernel.release.as_str())
        .collect();
    let message = format!(
        "kernel modules are for {}, the base has {}",
        named(folders)?,
        there.join(", ")
    );
    Some(
        Finding::warning("modules-without-kernel", message)
            .because("modules are looked for in /usr/lib/modules/$(uname -r)")
            .help("build them for the base's kernel"),
    )
}
