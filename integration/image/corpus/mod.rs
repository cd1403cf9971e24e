//! Images by systemd-repart of three versions, and sidecar sets by veritysetup and openssl: read as
//! the kernel reads them, taken in, and verified like `veritysetup verify`, `openssl smime -verify`
//! and `systemd-dissect --validate` do, whole and damaged. What is right is said by those programs.

mod damage;
mod referee;
mod set;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::harness::seen::{Mounted, is_equal};
use crate::harness::signer::Signer;
use crate::harness::tools::{command, have, root, run, skip};
use crate::harness::workshop::{How, Recipe, Verity, Workshop, file_system, sign};
use crate::harness::workspace::Workspace;
use referee::damaged;
use set::Set;

const TOOLS: [&str; 10] = [
    "systemd-repart",
    "veritysetup",
    "openssl",
    "partx",
    "sgdisk",
    "mount",
    "mkfs.erofs",
    "mksquashfs",
    "mkfs.ext4",
    "debootstrap",
];

const fn recipe(format: &'static str, verity: Verity, how: How) -> Recipe {
    Recipe {
        format,
        designator: "root",
        arch: "x86-64",
        verity,
        how,
        blocks: None,
    }
}

const fn usr(recipe: Recipe) -> Recipe {
    Recipe {
        designator: "usr",
        ..recipe
    }
}

const fn arm64(recipe: Recipe) -> Recipe {
    Recipe {
        arch: "arm64",
        ..recipe
    }
}

const fn blocks(recipe: Recipe, data: u32, hash: u32) -> Recipe {
    Recipe {
        blocks: Some((data, hash)),
        ..recipe
    }
}

use How::{Blocks, Files, Profile};
use Verity::{Defer, Hash, Off, Signed};

/// What every version makes, in short; up to 254 with blocks of 512 bytes, so with trees of four levels.
const COMMON: [Recipe; 2] = [
    recipe("squashfs", Hash, Blocks),
    usr(recipe("erofs", Signed, Blocks)),
];

/// And the rest of it, for a version that makes no file systems of these kinds.
const MORE: [Recipe; 4] = [
    recipe("erofs", Off, Blocks),
    recipe("ext4", Signed, Blocks),
    arm64(recipe("squashfs", Signed, Blocks)),
    arm64(usr(recipe("erofs", Hash, Blocks))),
];

/// What 257 makes, in short.
const SHORT: [Recipe; 3] = [
    recipe("erofs", Signed, Profile("sysext")),
    recipe("squashfs", Defer, Files),
    blocks(recipe("ext4", Hash, Files), 1024, 512),
];

/// And the rest of it.
const LONG: [Recipe; 8] = [
    recipe("erofs", Hash, Profile("confext")),
    recipe("squashfs", Off, Files),
    recipe("ext4", Signed, Files),
    arm64(recipe("erofs", Signed, Profile("sysext"))),
    arm64(usr(recipe("squashfs", Defer, Files))),
    blocks(usr(recipe("erofs", Signed, Files)), 1024, 512),
    blocks(usr(recipe("erofs", Hash, Files)), 4096, 1024),
    blocks(recipe("squashfs", Signed, Files), 512, 4096),
];

#[test]
fn images_of_this_machines_repart() {
    if possible() {
        judge(&Workshop::here(), &COMMON);
    }
}

#[test]
fn images_of_repart_257() {
    if possible()
        && let Some(workshop) = Workshop::of(257)
    {
        judge(&workshop, &SHORT);
    }
}

#[test]
#[ignore = "slow: 28 images by three versions, each damaged in up to eighty ways"]
fn images_of_repart_252_257_and_262() {
    for (major, lists) in [
        (252, [&COMMON[..], &MORE]),
        (257, [&SHORT, &LONG]),
        (262, [&SHORT, &LONG]),
    ] {
        if let Some(workshop) = Workshop::of(major) {
            judge(&workshop, &lists.concat());
        }
    }
}

fn possible() -> bool {
    let possible = cfg!(target_arch = "x86_64") || skip("the roots are for x86-64");
    possible && root() && have(&TOOLS)
}

/// Makes the images and holds each against the others' programs.
fn judge(workshop: &Workshop, recipes: &[Recipe]) {
    let Some(dissector) = Workshop::of(257) else {
        return;
    };
    let signer = Signer::new("corpus");
    let mut compared = 0;
    for recipe in recipes {
        let what = format!("repart {} {recipe:?}", workshop.major);
        let dir = tempfile::tempdir().unwrap();
        tree(&dir.path().join("tree"), kind(recipe));
        workshop.make(dir.path(), recipe, &signer);
        let set = Set::of_image(dir.path(), &signer);
        is_read(dir.path(), &set, &what);
        is_taken_in(dir.path(), recipe, &what);
        compared += damaged(&set, &dissector, &what);
    }
    eprintln!(
        "repart {}: {} images, {compared} forms of them verified alike",
        workshop.major,
        recipes.len()
    );
}

fn kind(recipe: &Recipe) -> &'static str {
    match recipe.how {
        Profile("confext") => "confext",
        _ => "sysext",
    }
}

/// A little of everything, and so much that a hash tree has two levels.
fn tree(root: &Path, kind: &str) {
    let (top, release) = match kind {
        "confext" => ("etc", "etc/extension-release.d"),
        _ => ("usr", "usr/lib/extension-release.d"),
    };
    for folder in [release, "usr/bin", "opt/empty", top] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let release = root.join(release).join("extension-release.x");
    fs::write(release, "ID=_any\n").unwrap();
    let top = root.join(top);
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    fs::write(top.join("noise"), noise.take(700_001).collect::<Vec<_>>()).unwrap();
    fs::write(top.join("text"), "much the same\n".repeat(5000)).unwrap();
    fs::hard_link(top.join("text"), top.join("again")).unwrap();
    symlink("text", top.join("link")).unwrap();
    fs::create_dir(top.join("folder")).unwrap();
    let set = |name: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(top.join(name), "user.note", b"\0kept\n", flags).unwrap();
    };
    set("text");
    set("folder");
    std::os::unix::fs::lchown(top.join("text"), Some(1234), Some(100_000)).unwrap();
}

/// Listed, extracted and described as the kernel mounts it.
fn is_read(work: &Path, set: &Set, what: &str) {
    let workspace = Workspace::new();
    let image = set.image.to_str().unwrap();
    let said = workspace
        .run(&format!("inspect {image} --output json"))
        .succeeded()
        .json();
    assert_eq!(
        said["content"]["releases"][0]["suffix"], "x",
        "{what}: {said}"
    );
    workspace
        .run(&format!("inspect {image} --extract ../out"))
        .succeeded();
    let offset = set.parts.first().map_or(0, |part| part.offset);
    match Mounted::new(&set.image, offset, &work.join("mounted")) {
        Some(mounted) => {
            assert!(is_equal(&workspace.path("out"), &mounted.0, what) > 8);
        }
        None => {
            skip(&format!("this kernel does not mount {what}"));
        }
    }
}

/// `build` takes it in as it is.
fn is_taken_in(work: &Path, recipe: &Recipe, what: &str) {
    let workspace = Workspace::new();
    fs::copy(work.join("x.raw"), workspace.path("project/x.raw")).unwrap();
    fs::copy(
        work.join("signer.crt"),
        workspace.path("project/signer.crt"),
    )
    .unwrap();
    let config = json!({"sysext": {
        "target": "debian-13",
        "certificates": ["signer.crt"],
        "extensions": [{"image": "x.raw", "kind": kind(recipe)}],
    }});
    workspace.config(&config.to_string());
    workspace.run("build").succeeded();
    let checked = workspace.run("check --output json").json();
    // Before 258 systemd takes a root hash from a signature partition only, and looks for that of a
    // root partition only (src/shared/dissect-image.c).
    let expected = match (recipe.designator, recipe.verity) {
        ("root", Signed) => "merges-signed",
        _ => "merges-unprotected",
    };
    assert_eq!(checked["extensions"][0]["verdict"], expected, "{what}");
}

/// A bare file system, its hash tree and the root hash, signed or not.
#[test]
fn sidecar_sets() {
    if !possible() {
        return;
    }
    let Some(dissector) = Workshop::of(257) else {
        return;
    };
    let signer = Signer::new("sidecars");
    for (format, hash, options) in [
        ("erofs", "roothash", &[][..]),
        (
            "squashfs",
            "usrhash",
            &["--data-block-size=512", "--hash-block-size=512"],
        ),
        ("ext4", "roothash", &["--data-block-size=1024", "--salt=-"]),
        (
            "erofs",
            "usrhash",
            &["--format=0", "--hash-block-size=1024"],
        ),
    ] {
        let what = format!("{format} with .{hash} {options:?}");
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path();
        tree(&work.join("tree"), "sysext");
        fs::copy(signer.key(), work.join("key.pem")).unwrap();
        fs::copy(signer.certificate(), work.join("signer.crt")).unwrap();
        let set = Set::of_file_system(work.join("x.raw"), &signer);
        file_system(format, &work.join("tree"), &set.image);
        run(command("veritysetup")
            .arg("format")
            .args([&set.image, &set.beside("verity")])
            .args(options)
            .arg("--root-hash-file")
            .arg(set.beside(hash)));
        let root = fs::read_to_string(set.beside(hash)).unwrap();
        let signature = work.join(sign(work, root.trim()));
        fs::copy(signature, set.beside(&format!("{hash}.p7s"))).unwrap();
        is_read(work, &set, &what);
        let compared = damaged(&set, &dissector, &what);
        eprintln!("{what}: {compared} forms verified alike");
    }
}
