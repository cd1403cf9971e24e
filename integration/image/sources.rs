//! Content out of archives and container images, held against what tar itself unpacks: an image
//! built from the archive has the bytes of one built from the unpacked folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::tools::{command, have, run};
use crate::harness::workspace::Workspace;

fn config(workspace: &Workspace, content: &str) {
    workspace.config(&format!(
        "sysext:\n  target: azurelinux-3.0\n  extensions:\n  - name: t\n    verity: hash\n    {content}\n"
    ));
}

fn built(workspace: &Workspace, content: &str) -> Vec<u8> {
    config(workspace, content);
    let _ = fs::remove_file(workspace.path("project/.sysext/t.raw"));
    workspace.run("build").succeeded();
    workspace.read("project/.sysext/t.raw")
}

/// `tar` in the project folder.
fn tar(workspace: &Workspace, args: &str) {
    run(command("tar")
        .current_dir(workspace.path("project"))
        .args(args.split_whitespace()));
}

/// A folder with all that an extension can carry.
fn content(root: &Path) {
    let long = "n".repeat(200);
    let deep = format!("usr/share/{long}/{long}");
    fs::create_dir_all(root.join(&deep)).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("opt/empty")).unwrap();
    fs::write(root.join(deep).join("é"), "deep").unwrap();
    fs::write(root.join("usr/bin/a"), vec![7; 300_000]).unwrap();
    fs::hard_link(root.join("usr/bin/a"), root.join("usr/bin/b")).unwrap();
    symlink("a", root.join("usr/bin/c")).unwrap();
    symlink("/usr/bin/a", root.join("usr/bin/d")).unwrap();
    fs::write(root.join("usr/share/empty"), "").unwrap();
    let attribute = |name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("usr/share/empty"), name, value, flags).unwrap();
    };
    attribute("user.kept", b"\0value\n");
}

#[test]
fn an_archive_gives_what_tar_unpacks() {
    if !have(&["tar", "gzip", "xz", "zstd"]) {
        return;
    }
    let workspace = Workspace::new();
    let project = workspace.path("project");
    content(&project.join("first"));
    fs::create_dir_all(project.join("second/usr/bin")).unwrap();
    fs::write(project.join("second/usr/bin/c"), "a file now").unwrap();
    for format in ["pax", "gnu"] {
        // GNU's format has no attributes.
        let attributes = if format == "pax" {
            "--xattrs"
        } else {
            "--no-xattrs"
        };
        tar(
            &workspace,
            &format!("{attributes} --format={format} -cf a.tar -C first ./usr opt"),
        );
        // A second entry of a name counts.
        tar(
            &workspace,
            &format!("{attributes} --format={format} -rf a.tar -C ../project/second usr/bin/c"),
        );
        let _ = fs::remove_dir_all(project.join("unpacked"));
        fs::create_dir(project.join("unpacked")).unwrap();
        tar(
            &workspace,
            &format!("{attributes} --xattrs-include=* -xpf a.tar -C unpacked"),
        );
        let expected = built(&workspace, "tree: unpacked");
        assert!(built(&workspace, "tar: a.tar") == expected, "{format}");
        for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
            let packed = format!("a.tar.{ending}");
            let words = format!("{program} -c a.tar > {packed}");
            run(command("sh").current_dir(&project).args(["-c", &words]));
            assert!(
                built(&workspace, &format!("tar: {packed}")) == expected,
                "{packed}"
            );
        }
    }
}

#[test]
fn parts_of_a_whole_root_are_picked() {
    if !have(&["tar"]) {
        return;
    }
    let workspace = Workspace::new();
    let project = workspace.path("project");
    for path in [
        "whole/etc/passwd",
        "whole/usr/bin/a",
        "whole/usr/share/doc/a/x",
        "whole/opt/x/y",
    ] {
        workspace.write(&format!("project/{path}"), path, 0o644);
    }
    tar(&workspace, "-cf whole.tar whole");
    config(&workspace, "tar: whole.tar");
    workspace.refused("build", "outside-hierarchy");
    for path in ["picked/usr/bin/a", "picked/opt/x/y"] {
        let from = path.replace("picked", "whole");
        workspace.write(&format!("project/{path}"), from, 0o644);
    }
    fs::create_dir_all(project.join("picked/usr/share")).unwrap();
    let picked = built(
        &workspace,
        "tar: {path: whole.tar, strip: 1, include: [/usr, /opt], exclude: ['/usr/share/do*']}",
    );
    assert!(picked == built(&workspace, "tree: picked"));
}

#[test]
fn what_leads_out_or_is_damaged_is_refused() {
    if !have(&["tar", "gzip"]) {
        return;
    }
    let workspace = Workspace::new();
    workspace.write("project/usr/a", "x".repeat(100_000), 0o644);
    let project = workspace.path("project");
    let entry = |name: &str, kind: tar::EntryType, link: Option<&str>, file: &str| {
        let mut builder = tar::Builder::new(fs::File::create(project.join(file)).unwrap());
        let mut header = tar::Header::new_gnu();
        // `set_path` is too careful for this.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        builder.finish().unwrap();
    };
    use tar::EntryType::{Char, Link, Regular};
    entry("usr/../../etc/x", Regular, None, "up.tar");
    entry("usr/gone", Link, Some("usr/none"), "link.tar");
    entry("usr/out", Link, Some("../../../etc/passwd"), "out.tar");
    entry("usr/dev", Char, None, "dev.tar");
    for file in ["up.tar", "link.tar", "out.tar", "dev.tar"] {
        config(&workspace, &format!("tar: {file}"));
        workspace
            .refused("build", "archive-entry-refused")
            .names(&[file, "at byte 0"]);
    }
    tar(&workspace, "-czf whole.tgz usr");
    let whole = workspace.read("project/whole.tgz");
    workspace.write("project/cut.tgz", &whole[..whole.len() / 2], 0o644);
    workspace.write("project/none.tar", "no archive at all".repeat(100), 0o644);
    // Zeros in layers of compression, as many as would fill a disk.
    run(command("sh").current_dir(&project).args([
        "-c",
        "(tar -cf - usr; head -c 700000000 /dev/zero) | gzip -9 > bomb.tgz; tar -cf - usr | head -c 1500 | gzip > short.tgz",
    ]));
    for file in ["cut.tgz", "none.tar", "short.tgz"] {
        config(&workspace, &format!("tar: {file}"));
        workspace
            .refused("build", "archive-unreadable")
            .names(&[file]);
    }
    // What follows the end of the archive is not read.
    built(&workspace, "tar: bomb.tgz");
    config(&workspace, "tar: gone.tar");
    workspace.refused("build", "archive-unreadable");
}

/// Stores a blob and returns its descriptor.
fn blob(layout: &Path, bytes: &[u8], media: &str) -> serde_json::Value {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let folder = layout.join("blobs/sha256");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&digest), bytes).unwrap();
    json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

#[test]
fn layers_of_a_container_image_count_in_their_order() {
    if !have(&["tar", "gzip", "zstd"]) {
        return;
    }
    let workspace = Workspace::new();
    let project = workspace.path("project");
    let layout = project.join("layout");
    let file = |path: &str, text: &str| workspace.write(&format!("project/{path}"), text, 0o644);
    for path in [
        "usr/gone",
        "usr/kept",
        "usr/old/a",
        "usr/old/b",
        "usr/turns/x",
        "opt/whole/x",
    ] {
        file(&format!("one/{path}"), "one");
    }
    fs::hard_link(project.join("one/usr/kept"), project.join("one/usr/link")).unwrap();
    for path in [
        "usr/.wh.gone",
        "usr/.wh.never",
        "usr/old/.wh..wh..opq",
        "usr/old/new",
        "usr/turns",
        "opt/.wh.whole",
    ] {
        file(&format!("two/{path}"), "two");
    }
    file("three/usr/old/last", "three");
    let expected = [
        ("usr/kept", "one"),
        ("usr/old/new", "two"),
        ("usr/old/last", "three"),
        ("usr/turns", "two"),
    ];
    for (path, text) in expected {
        file(&format!("expected/{path}"), text);
    }
    fs::hard_link(
        project.join("expected/usr/kept"),
        project.join("expected/usr/link"),
    )
    .unwrap();
    fs::create_dir_all(project.join("expected/opt")).unwrap();

    let mut layers = Vec::new();
    for (name, pack) in [("one", "gzip -c"), ("two", "zstd -c"), ("three", "cat")] {
        let words = format!("tar --sort=name -cf - -C {name} $(cd {name}; ls) | {pack}");
        let made = command("sh")
            .current_dir(&project)
            .args(["-c", &words])
            .output()
            .unwrap();
        layers.push(blob(
            &layout,
            &made.stdout,
            "application/vnd.oci.image.layer.v1.tar",
        ));
    }
    let manifest = json!({"schemaVersion": 2, "layers": layers}).to_string();
    let other = json!({"schemaVersion": 2, "layers": [layers[0]]}).to_string();
    let descriptor = |text: &str, arch: &str| {
        let mut found = blob(
            &layout,
            text.as_bytes(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        found["platform"] = json!({"architecture": arch, "os": "linux"});
        found
    };
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(&other, "arm64"), descriptor(&manifest, "amd64")]});
    file("layout/index.json", &index.to_string());
    file("layout/oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}");
    tar(&workspace, "-cf layout.tar -C layout .");

    let wanted = built(&workspace, "tree: expected");
    assert!(built(&workspace, "oci: layout") == wanted);
    assert!(built(&workspace, "oci: ./layout.tar") == wanted);
    config(&workspace, "oci: layout\n    arch: riscv64");
    workspace
        .refused("build", "oci-refused")
        .names(&["riscv64", "arm64, amd64"]);

    let digest = layers[1]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "blobs/sha256/");
    fs::write(layout.join(digest), "something else").unwrap();
    config(&workspace, "oci: layout");
    workspace
        .refused("build", "oci-refused")
        .names(&["is announced"]);
    fs::remove_file(layout.join("index.json")).unwrap();
    workspace
        .refused("build", "oci-refused")
        .names(&["index.json"]);
}

#[test]
fn a_unit_that_comes_with_any_content_is_not_there_to_be_enabled() {
    let workspace = Workspace::new();
    workspace.write(
        "project/root/usr/lib/systemd/system/tool.service",
        "[Service]\n",
        0o644,
    );
    tar(&workspace, "-C root -cf root.tar usr");
    let os = "os: {services: {enable: [sshd, tool]}}\n";
    let of = |content: &str| {
        let text = format!("{os}sysext:\n  extensions:\n  - {content}\n");
        workspace.config(&text);
        let said = workspace.run("build --rootfs ../rootfs");
        let told = said
            .succeeded()
            .err
            .matches("warning[unit-inside-extension]")
            .count();
        assert!(
            told == 0 || said.err.contains("config.yaml:1:32"),
            "{said:?}"
        );
        told
    };
    let built = "name: t, verity: hash, arch: x86-64";
    for content in [
        format!("{{{built}, tree: root}}"),
        format!("{{{built}, tar: root.tar}}"),
        "{image: .sysext/t.raw}".to_owned(),
        "{image: .sysext/t.raw, repair: {except: [protection]}}".to_owned(),
    ] {
        assert_eq!(of(&content), 1, "{content}");
    }
    // An image is looked into before Prism gets the config, too.
    let said = workspace.run("expand --rootfs ../rootfs");
    said.succeeded().names(&["warning[unit-inside-extension]"]);
    workspace.write(
        "rootfs/usr/lib/systemd/system/tool.service",
        "[Service]\n",
        0o644,
    );
    assert_eq!(of("{image: .sysext/t.raw}"), 0);
}
