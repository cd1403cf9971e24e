//! `inspect --list`, `--mtree`, `--cat` and `--extract` before the kernel, mtree and bsdtar: images
//! by other people's programs are mounted and compared, name by name, with what we write out of them.
//!
//! Mounting needs root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev};

use crate::harness::seen::{Mounted, is_equal};
use crate::harness::tools::{command, have, output, root, run, skip, transcript};
use crate::harness::workshop::Workshop;
use crate::harness::workspace::Workspace;

/// Bytes that repeat, but not too much.
fn pattern(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| {
            (i as u64 / 3)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_be_bytes()[0]
        })
        .collect()
}

/// One of everything that the file systems hold.
fn tree(root: &Path) {
    let usr = root.join("usr");
    fs::create_dir_all(usr.join("lib/extension-release.d")).unwrap();
    fs::create_dir_all(usr.join("many")).unwrap();
    let release = usr.join("lib/extension-release.d/extension-release.x");
    fs::write(release, "ID=_any\n").unwrap();
    for size in [0, 1, 4095, 4096, 4097, 70_000, 131_072, 1_500_001] {
        fs::write(usr.join(format!("size-{size}")), pattern(size)).unwrap();
    }
    fs::write(usr.join("text"), "much the same\n".repeat(50_000)).unwrap();
    let zeros = fs::File::create(usr.join("zeros")).unwrap();
    zeros.set_len(300_000).unwrap();
    for i in 0..300 {
        let name = format!("{i}-{}", "n".repeat(i % 90));
        fs::write(usr.join("many").join(name), i.to_string()).unwrap();
    }
    for name in [&[b'x'; 200][..], b"\xff\xfe\x01", b"a b\\#[*]=", b"..dots"] {
        fs::write(usr.join(OsStr::from_bytes(name)), "odd name").unwrap();
    }
    symlink("size-1", usr.join("short-link")).unwrap();
    symlink("l/".repeat(1900), usr.join("long-link")).unwrap();
    symlink("/etc/passwd", usr.join("absolute")).unwrap();
    fs::hard_link(usr.join("text"), usr.join("many/hard")).unwrap();
    let made = |name: &str, kind, device| {
        rustix::fs::mknodat(
            CWD,
            usr.join(name),
            kind,
            Mode::from_raw_mode(0o640),
            device,
        )
        .unwrap();
    };
    made("fifo", FileType::Fifo, 0);
    made("null", FileType::CharacterDevice, makedev(1, 3));
    made("far", FileType::BlockDevice, makedev(259, 70_000));
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(usr.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    set("size-1", "user.note", b"kept");
    set("many", "user.folder", b"kept too");
    let capability: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    set("size-4097", "security.capability", &capability);
    std::os::unix::fs::lchown(usr.join("size-4096"), Some(1234), Some(100_000)).unwrap();
    for (name, mode) in [("size-1", 0o4755), ("many", 0o1777), ("size-4095", 0o000)] {
        fs::set_permissions(usr.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut touch = Command::new("find");
    touch
        .arg(root)
        .args(["-exec", "touch", "-h", "-d", "@1700000001", "{}", "+"]);
    run(&mut touch);
}

/// Images of one tree by mkfs.erofs, mksquashfs and mkfs.ext4, by file name.
fn corpus(workspace: &Workspace) -> Vec<&'static str> {
    let source = workspace.path("source");
    let mut made = Vec::new();
    // mkfs.erofs of Debian 13, which has codecs that Debian 12's lacks, where that can be had.
    let newer = match have(&["debootstrap", "unshare"]) && cfg!(target_arch = "x86_64") {
        true => Workshop::of(257),
        false => None,
    };
    let mut make = |name: &'static str, program: &str, options: &[&str], source_last: bool| {
        let (image, source) = (Path::new("project").join(name), Path::new("source"));
        let mut call = match &newer {
            Some(newer) if source_last => newer.command(workspace.root(), program),
            _ => {
                let mut call = command(program);
                call.current_dir(workspace.root());
                call
            }
        };
        match source_last {
            true => call.args(options).args([image.as_path(), source]),
            false => call.args([source, image.as_path()]).args(options),
        };
        let said = output(&mut call);
        if said.status.success() {
            made.push(name);
        } else {
            // An older program lacks a codec.
            eprintln!(
                "{program} {options:?} makes no {name}: {}",
                transcript(&said)
            );
        }
    };
    let squashfs = ["gzip", "xz", "lzo", "lz4", "zstd", "lzma"];
    let names = [
        "gzip.raw", "xz.raw", "lzo.raw", "lz4.raw", "zstd.raw", "lzma.raw",
    ];
    for (codec, name) in squashfs.into_iter().zip(names) {
        let options = ["-comp", codec, "-noappend", "-quiet", "-no-progress"];
        make(name, "mksquashfs", &options, false);
    }
    let stored = [
        "-noI",
        "-noD",
        "-noF",
        "-noX",
        "-no-fragments",
        "-noappend",
        "-quiet",
        "-no-progress",
    ];
    make("stored.raw", "mksquashfs", &stored, false);
    make("plain.raw", "mkfs.erofs", &[], true);
    make("lz4-erofs.raw", "mkfs.erofs", &["-zlz4"], true);
    make("lz4hc.raw", "mkfs.erofs", &["-zlz4hc,9", "-C65536"], true);
    make(
        "deflate.raw",
        "mkfs.erofs",
        &["-zdeflate,9", "-C65536"],
        true,
    );
    make(
        "zstd-erofs.raw",
        "mkfs.erofs",
        &["-zzstd,3", "-C65536"],
        true,
    );
    make("chunks.raw", "mkfs.erofs", &["--chunksize=65536"], true);
    make("pieces.raw", "mkfs.erofs", &["-zlz4", "-Efragments"], true);
    make(
        "ztail.raw",
        "mkfs.erofs",
        &["-zlz4", "-Eztailpacking"],
        true,
    );
    make(
        "dedupe.raw",
        "mkfs.erofs",
        &["-zlz4", "-Ededupe", "-C65536"],
        true,
    );
    let whole = ["-zlz4", "-Eall-fragments,dedupe", "-C65536"];
    make("one-piece.raw", "mkfs.erofs", &whole, true);
    make("large.raw", "mkfs.erofs", &["-zlz4hc", "-C1048576"], true);
    make("lzma-erofs.raw", "mkfs.erofs", &["-zlzma", "-C65536"], true);
    make("fine.raw", "mkfs.erofs", &["--chunksize=4096"], true);
    for (name, kind) in [
        ("ext4.raw", "ext4"),
        ("ext2.raw", "ext2"),
        ("ext3.raw", "ext3"),
    ] {
        let image = workspace.path("project").join(name);
        let mut call = command(&format!("mkfs.{kind}"));
        call.args(["-q", "-b", "4096", "-d"])
            .args([&source, &image])
            .arg("40M");
        if output(&mut call).status.success() {
            made.push(name);
        }
    }
    made
}

#[test]
fn images_of_other_tools_are_read_as_the_kernel_reads_them() {
    let programs = [
        "mkfs.erofs",
        "mksquashfs",
        "mkfs.ext4",
        "mount",
        "mtree",
        "bsdtar",
    ];
    if !(have(&programs) && root()) {
        return;
    }
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("source")).unwrap();
    tree(&workspace.path("source"));
    let mut compared = 0;
    for name in corpus(&workspace) {
        let image = workspace.path("project").join(name);
        let said = workspace.run(&format!("inspect {name} --extract ../out-{name}"));
        if said.status != Some(0) {
            let unread = ["lzo.raw", "lzma.raw"];
            assert!(unread.contains(&name), "{name}: {said:?}");
            // Identified all the same, and nothing is left.
            let seen = workspace.run(&format!("inspect {name}"));
            assert!(
                seen.out.contains("squashfs") || seen.out.contains("erofs"),
                "{seen:?}"
            );
            assert!(!workspace.path(&format!("out-{name}")).exists(), "{name}");
            eprintln!("{name} is refused: {}", said.err);
            continue;
        }
        let ours = workspace.path(&format!("out-{name}"));
        let Some(mounted) = Mounted::new(&image, 0, &workspace.path("mounted")) else {
            skip(&format!("this kernel does not mount {name}"));
            assert!(is_equal(&ours, &workspace.path("source"), name) > 300);
            continue;
        };
        assert!(is_equal(&ours, &mounted.0, name) > 300);
        compared += 1;
        // mtree says nothing where all agrees.
        let spec = workspace.run(&format!("inspect {name} --mtree"));
        spec.succeeded();
        workspace.write("spec", &spec.out, 0o644);
        let mut mtree = command("mtree");
        mtree
            .arg("-f")
            .arg(workspace.path("spec"))
            .arg("-p")
            .arg(&mounted.0);
        let judged = output(&mut mtree);
        assert!(judged.status.success(), "{name}: {}", transcript(&judged));
        let listed = run(command("bsdtar").arg("-tf").arg(workspace.path("spec")));
        let lines = workspace
            .run(&format!("inspect {name} --list"))
            .out
            .lines()
            .count();
        assert_eq!(listed.lines().count(), lines, "{name}");
        let described = prism_sysext::image::dissect::open(&image).unwrap();
        let fs = described.file_system().unwrap();
        for count in [1, 64, 4096, 200_000, 1_500_000] {
            let start = fs
                .read_start(Path::new("/usr/size-1500001"), count)
                .unwrap();
            assert!(
                start == pattern(1_500_001)[..start.len()],
                "{name}: {count}"
            );
            assert_eq!(start.len() as u64, count, "{name}");
        }
        let cat = workspace
            .command(["inspect", name, "--cat", "usr/size-1500001"])
            .output()
            .unwrap();
        assert!(cat.stdout == pattern(1_500_001), "{name}");
        fs::remove_dir_all(&ours).unwrap();
    }
    assert!(compared >= 8, "{compared}");
}

#[test]
fn nothing_is_written_where_it_should_not() {
    let workspace = Workspace::new();
    workspace.config(
        "sysext:\n  extensions:\n  - {name: a, verity: none, files: ['bin/tool:/usr/bin/a']}\n",
    );
    workspace.run("build --rootfs ../rootfs").succeeded();
    let image = ".sysext/a.raw";
    workspace.write("project/full/x", "mine", 0o644);
    workspace.refused(
        &format!("inspect {image} --extract full"),
        "folder-not-empty",
    );
    workspace.refused(
        &format!("inspect {image} --extract new usr/bin/b"),
        "path-not-in-image",
    );
    workspace.refused(
        &format!("inspect {image} --cat usr/bin/b"),
        "path-not-in-image",
    );
    workspace.refused(
        &format!("inspect {image} --cat usr/bin"),
        "path-not-in-image",
    );
    workspace
        .run(&format!("inspect {image} --extract full --force usr/bin"))
        .succeeded();
    assert_eq!(
        workspace.read("project/full/usr/bin/a"),
        b"#!/bin/sh\necho tool\n"
    );
    assert_eq!(workspace.read("project/full/x"), b"mine");
    assert!(!workspace.path("project/full/usr/lib").exists());
    // A link that somebody else laid there is not gone through.
    fs::create_dir(workspace.path("elsewhere")).unwrap();
    fs::create_dir(workspace.path("project/trap")).unwrap();
    symlink("../../elsewhere", workspace.path("project/trap/usr")).unwrap();
    let said = workspace.run(&format!("inspect {image} --extract trap --force"));
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(
        fs::read_dir(workspace.path("elsewhere")).unwrap().count(),
        0
    );
}

#[test]
fn a_difference_names_what_differs() {
    let workspace = Workspace::new();
    let build = |name: &str, text: &str| {
        workspace.config(&format!(
            "sysext:\n  outputDirectory: {name}\n  extensions:\n  - {{name: a, verity: hash, {text}}}\n"
        ));
        workspace.run("build --rootfs ../rootfs").succeeded();
    };
    build(
        "one",
        "files: ['bin/tool:/usr/bin/a', 'bin/tool:/usr/bin/b']",
    );
    build(
        "two",
        "files: ['bin/tool:/usr/bin/a', 'bin/tool:/usr/bin/b']",
    );
    workspace.run("diff one/a.raw two/a.raw").succeeded();
    workspace.write("project/bin/tool2", "#!/bin/sh\necho TOOL\n", 0o700);
    build(
        "two",
        "version: '2', files: ['bin/tool2:/usr/bin/a', 'bin/tool:/usr/bin/c']",
    );
    let said = workspace.run("diff one/a.raw two/a.raw --output json");
    assert_eq!(said.status, Some(1), "{said:?}");
    let value = said.json();
    let paths = value["paths"].as_array().unwrap();
    let changes: Vec<_> = paths
        .iter()
        .map(|path| {
            (
                path["path"].as_str().unwrap(),
                path["change"].as_str().unwrap(),
            )
        })
        .collect();
    let release = "/usr/lib/extension-release.d/extension-release.a";
    let expected = [
        ("/usr/bin/a", "changed"),
        ("/usr/bin/b", "removed"),
        ("/usr/bin/c", "added"),
        (release, "changed"),
    ];
    assert_eq!(changes, expected);
    assert_eq!(paths[0]["what"][0]["name"], "content");
    let names: Vec<_> = value["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    for name in [
        "root hash",
        "verity salt",
        "disk id",
        "release a SYSEXT_VERSION_ID",
    ] {
        assert!(names.iter().any(|it| *it == name), "{name}: {names:?}");
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/difference.schema.json");
    let schema: serde_json::Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    if let Err(error) = jsonschema::validate(&schema, &value) {
        panic!("{error}");
    }
    let text = workspace.run("diff one/a.raw two/a.raw").out;
    assert!(text.contains("- /usr/bin/b\n+ /usr/bin/c\n"), "{text}");
}

#[test]
fn compressed_images_are_read_through_and_unpacked() {
    if !have(&["gzip", "xz", "zstd", "sha256sum"]) {
        return;
    }
    let workspace = Workspace::new();
    let key = "verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt";
    workspace.config(&format!(
        "sysext: {{{key}, extensions: [{{name: a, files: ['bin/tool:/usr/bin/a']}}]}}\n"
    ));
    workspace.run("build --rootfs ../rootfs").succeeded();
    let image = workspace.path("project/.sysext/a.raw");
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let name = format!("vendor.raw.{ending}");
        let packed = output(command(program).arg("-c").arg(&image)).stdout;
        workspace.write(&format!("project/{name}"), &packed, 0o644);
        let seen = workspace
            .run(&format!("inspect {name} --output json"))
            .json();
        assert_eq!(seen["wrapped"]["codec"], program);
        assert_eq!(seen["wrapped"]["size"], packed.len());
        workspace
            .run(&format!("verify {name} --certificate ../keys/cert.crt"))
            .succeeded();
        workspace
            .run(&format!("diff {name} .sysext/a.raw"))
            .succeeded();
        // Taken in, it is what was packed, byte for byte, and both digests are recorded.
        let sum = run(command("sha256sum").arg(workspace.path("project").join(&name)));
        let sum = sum.split(' ').next().unwrap();
        workspace.config(&format!(
            "sysext: {{outputDirectory: out-{ending}, certificates: [../keys/cert.crt], extensions: [{{image: {{path: {name}, sha256: {sum}}}}}]}}\n"
        ));
        workspace.run("apply --rootfs ../rootfs").succeeded();
        let unpacked = workspace.read(&format!("project/out-{ending}/a.raw"));
        assert!(unpacked == fs::read(&image).unwrap());
        let placed = workspace.read("rootfs/var/lib/extensions/a.raw");
        assert!(placed == unpacked);
        let manifest = workspace.read(&format!("project/out-{ending}/sysext-manifest.json"));
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let entry = &manifest["extensions"][0];
        assert_eq!(entry["unpackedFrom"]["sha256"], sum);
        assert_eq!(entry["sha256"].as_str().unwrap().len(), 64);
        workspace.run("expand --rootfs ../rootfs").succeeded();
        let plain = String::from_utf8(workspace.read("project/config.prism.yaml")).unwrap();
        assert!(plain.contains(&format!("out-{ending}/a.raw")), "{plain}");
    }
    // systemd does not unpack, so check does not either.
    let said = workspace.run("check vendor.raw.gz --rootfs ../rootfs");
    assert_eq!(said.status, Some(1), "{said:?}");
}
