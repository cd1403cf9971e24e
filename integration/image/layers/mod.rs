//! Stacks of layers before `umoci unpack`, and archives before `tar -x`: what we make of them without
//! unpacking is what those leave on disk. Named stacks are the traps of the OCI image-spec
//! (layer.md); generated ones mix all kinds of entries over few paths.

mod entry;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use prism_sysext::io::progress::Progress;
use prism_sysext::systemd::arch::Arch;
use prism_sysext::tree::oci;
use prism_sysext::tree::pick::Pick;
use prism_sysext::tree::tar_read::Layers;
use prism_sysext::tree::{Tree, collect, tar_write as pax};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::tools::{command, have, output, root, transcript};
use entry::{Entry, Kind, Numbers, archive, generated};

/// Stacks and archives by default; `PRISM_SYSEXT_CASES` asks for more.
const CASES: u64 = 120;

fn cases() -> u64 {
    let asked = std::env::var("PRISM_SYSEXT_CASES");
    asked.map_or(CASES, |text| text.parse().unwrap())
}

/// A tree, or why there is none.
type Outcome = Result<Vec<u8>, String>;

/// Everything of a tree that an image can show: names, kinds, modes, owners, attributes, links, bytes.
fn shown(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    pax::write(tree, 0, &Progress::new(), &mut bytes).unwrap();
    bytes
}

/// What is on disk below a folder.
fn unpacked(folder: &Path) -> Vec<u8> {
    let options = collect::Options { keep_owners: true };
    shown(&collect::collect(folder, &options).unwrap().tree)
}

fn pick() -> Pick {
    Pick {
        keep_owners: true,
        ..Pick::default()
    }
}

/// An OCI layout of these layers, compressed by turns; with a second image for another architecture.
fn layout(folder: &Path, layers: &[Vec<u8>], zstd: bool) {
    let blob = |bytes: &[u8], media: &str| -> Value {
        let digest = digest(bytes);
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let packed = layers
        .iter()
        .enumerate()
        .map(|(index, bytes)| match index % 2 {
            0 if zstd => blob(
                &zstd::encode_all(&bytes[..], 1).unwrap(),
                "layer.v1.tar+zstd",
            ),
            0 => {
                let mut gzip =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut gzip, bytes).unwrap();
                blob(&gzip.finish().unwrap(), "layer.v1.tar+gzip")
            }
            _ => blob(bytes, "layer.v1.tar"),
        });
    let packed: Vec<Value> = packed.collect();
    let manifest = |arch: &str, layers: &[Value], plain: &[Vec<u8>]| {
        let ids: Vec<_> = plain
            .iter()
            .map(|it| format!("sha256:{}", digest(it)))
            .collect();
        let config = json!({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}, "config": {}});
        let config = blob(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut found = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
        found["platform"] = json!({"architecture": arch, "os": "linux"});
        found
    };
    let mut wanted = manifest("amd64", &packed, layers);
    wanted["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let other = manifest("arm64", &packed[..1], &layers[..1]);
    let index = json!({"schemaVersion": 2, "manifests": [other, wanted]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(
        folder.join("oci-layout"),
        "{\"imageLayoutVersion\": \"1.0.0\"}",
    )
    .unwrap();
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ours(layout: &Path) -> Outcome {
    match oci::read(layout, Some(Arch::X86_64), &pick()) {
        Ok((tree, _)) => Ok(shown(&tree)),
        Err(finding) => Err(finding.message),
    }
}

fn umocis(layout: &Path, bundle: &Path) -> Outcome {
    let mut umoci = command("umoci");
    umoci.arg("unpack").arg("--image");
    umoci
        .arg(format!("{}:latest", layout.display()))
        .arg(bundle);
    let said = output(&mut umoci);
    match said.status.success() {
        true => Ok(unpacked(&bundle.join("rootfs"))),
        false => Err(transcript(&said)),
    }
}

/// Both outcomes of a stack.
fn both(stack: &[Vec<Entry>]) -> (Outcome, Outcome) {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<_> = stack.iter().map(|entries| archive(entries)).collect();
    let (one, other) = (dir.path().join("layout"), dir.path().join("zstd"));
    layout(&one, &layers, false);
    layout(&other, &layers, true);
    let found = ours(&one);
    assert_eq!(found.is_ok(), ours(&other).is_ok());
    if let (Ok(gzip), Ok(zstd)) = (&found, ours(&other)) {
        assert!(*gzip == zstd, "{stack:#?}");
    }
    (found, umocis(&one, &dir.path().join("bundle")))
}

/// What an archive of [`shown`] holds, a line for each entry.
fn listing(bytes: &[u8]) -> String {
    let mut archive = tar::Archive::new(bytes);
    let mut lines = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        let attributes: Vec<_> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|it| String::from_utf8_lossy(it.unwrap().value_bytes()).into_owned())
            .collect();
        let header = entry.header().clone();
        let path = entry.path().unwrap().into_owned();
        let link = entry.link_name().unwrap().map(std::borrow::Cow::into_owned);
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        lines += &format!(
            "  {} {:?} {:o} {}:{} {link:?} {attributes:?} {text:.8}\n",
            path.display(),
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        );
    }
    lines
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Ok(bytes) => listing(bytes),
        Err(why) => format!("  {why}\n"),
    }
}

/// What `tar -x` of root leaves, in which the last entry of a name counts.
fn tars(bytes: &[u8], dir: &Path) -> Outcome {
    let (file, folder) = (dir.join("a.tar"), dir.join("unpacked"));
    fs::write(&file, bytes).unwrap();
    fs::create_dir(&folder).unwrap();
    let mut tar = command("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]);
    let said = output(tar.arg(&file).arg("-C").arg(&folder));
    match said.status.success() {
        true => Ok(unpacked(&folder)),
        false => Err(transcript(&said)),
    }
}

fn our_archive(file: &Path) -> Outcome {
    let opened = Arc::new(fs::File::open(file).unwrap());
    let window = (0, opened.metadata().unwrap().len());
    let mut layers = Layers::default();
    match layers.add(&opened, window, file, &pick(), false) {
        Ok(()) => Ok(shown(&layers.finish().0)),
        Err(finding) => Err(finding.message),
    }
}

fn both_of_archive(entries: &[Entry]) -> (Outcome, Outcome) {
    let dir = tempfile::tempdir().unwrap();
    let theirs = tars(&archive(entries), dir.path());
    (our_archive(&dir.path().join("a.tar")), theirs)
}

/// Draws cases and compares; at least a third of them has to be one that both take.
fn compare(draw: impl Fn(&mut Numbers) -> (String, (Outcome, Outcome))) {
    let (mut wrong, mut alike, mut refused) = (Vec::new(), 0, 0);
    for case in 0..cases() {
        let (what, (ours, theirs)) = draw(&mut Numbers(0x5eed + case));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs => alike += 1,
            (Err(_), Err(_)) => refused += 1,
            _ => wrong.push(format!(
                "case {case}: {what}\nours:\n{}theirs:\n{}",
                told(&ours),
                told(&theirs)
            )),
        }
    }
    eprintln!(
        "{alike} alike, {refused} refused by both, {} not alike",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(alike * 3 > cases(), "{alike}");
}

#[test]
fn generated_stacks_are_what_umoci_unpacks() {
    if !(root() && have(&["umoci"])) {
        return;
    }
    compare(|numbers| {
        let mut files = Vec::new();
        let layers = 2 + numbers.below(3);
        let stack = (0..layers).map(|_| generated(numbers, &mut files, true));
        let stack: Vec<_> = stack.collect();
        (format!("{stack:#?}"), both(&stack))
    });
}

#[test]
fn generated_archives_are_what_tar_unpacks() {
    if !(root() && have(&["tar"])) {
        return;
    }
    compare(|numbers| {
        let entries = generated(numbers, &mut Vec::new(), false);
        (format!("{entries:#?}"), both_of_archive(&entries))
    });
}

/// Layers by name: `NAME/` is a folder, `NAME>TARGET` a link, `NAME=OTHER` a hard link.
fn named(layers: &[&[&str]]) -> Vec<Vec<Entry>> {
    let entry = |text: &&str| {
        if let Some((name, target)) = text.split_once('>') {
            Entry::new(name, Kind::Link(target.to_owned()))
        } else if let Some((name, target)) = text.split_once('=') {
            Entry::new(name, Kind::HardLink(target.to_owned()))
        } else if let Some(name) = text.strip_suffix('/') {
            Entry::new(name, Kind::Folder)
        } else {
            Entry::new(text, Kind::File((*text).to_owned()))
        }
    };
    let layers = layers.iter();
    layers.map(|it| it.iter().map(entry).collect()).collect()
}

#[test]
fn the_traps_of_layers_are_what_umoci_unpacks() {
    if !(root() && have(&["umoci"])) {
        return;
    }
    let below: &[&str] = &[
        "usr/d/",
        "usr/d/old",
        "usr/d/e/",
        "usr/d/e/old",
        "usr/f",
        "usr/l=usr/f",
    ];
    for (what, layer) in [
        (
            "whiteouts",
            &["usr/.wh.f", "usr/d/.wh.e", "usr/.wh.never"][..],
        ),
        ("an opaque folder", &["usr/d/.wh..wh..opq"]),
        ("opaque, then filled", &["usr/d/.wh..wh..opq", "usr/d/new"]),
        (
            "filled, then opaque",
            &["usr/d/new", "usr/d/e/new", "usr/d/.wh..wh..opq"],
        ),
        ("whiteout, then anew", &["usr/.wh.d", "usr/d/", "usr/d/new"]),
        ("a file over a folder", &["usr/d"]),
        ("a folder over a file", &["usr/f/", "usr/f/x"]),
        ("a link over a folder", &["usr/d>f"]),
        ("a hard link over a folder", &["usr/d=usr/f"]),
        ("a hard link to a lower layer", &["usr/new=usr/d/e/old"]),
        (
            "a hard link whose other name goes",
            &["usr/.wh.f", "usr/again=usr/l"],
        ),
        (
            "a hard link to what went",
            &["usr/.wh.f", "usr/again=usr/f"],
        ),
        ("a file through a link", &["usr/to>d/e", "usr/to/new"]),
        (
            "a file through an absolute link",
            &["usr/to>/usr/d", "usr/to/new"],
        ),
        (
            "a file through a link out of it",
            &["usr/to>../../../../usr/d", "usr/to/new"],
        ),
        ("a whiteout through a link", &["usr/to>d", "usr/to/.wh.old"]),
        ("a circle", &["usr/to>to", "usr/to/new"]),
        ("absolute names", &["/usr/d/new", "/usr/.wh.f"]),
        ("an absolute hard link", &["usr/new=/usr/f"]),
        ("dots", &["./usr/./d//new", "././usr/.wh.f"]),
        (
            "a name that is nearly a whiteout",
            &["usr/d/.whnot", "usr/d/wh.old"],
        ),
    ] {
        let (ours, theirs) = both(&named(&[below, layer]));
        let alike = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            (ours, theirs) => ours.is_err() && theirs.is_err(),
        };
        assert!(
            alike,
            "{what}:\nours:\n{}theirs:\n{}",
            told(&ours),
            told(&theirs)
        );
    }
}

/// What umoci and tar make something of and we refuse, because nobody means it in an extension: `..`
/// in a name (umoci takes the container's `/` for all there is, tar leaves the entry out) and device
/// nodes, which do nothing where everything is mounted nodev.
#[test]
fn what_is_refused_is_told() {
    if !root() {
        return;
    }
    for (entry, why) in [
        (
            Entry::new("usr/../../x", Kind::Fifo),
            "it leads out with `..`",
        ),
        (Entry::new("usr/null", Kind::Device), "mounted nodev"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        layout(dir.path(), &[archive(&[entry])], false);
        let ours = ours(dir.path()).unwrap_err();
        assert!(ours.contains(why), "{ours}");
    }
}
