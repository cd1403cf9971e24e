//! What is right of an image, by veritysetup, openssl, systemd-dissect, partx and sgdisk.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use openssl::base64::decode_block;
use prism_sysext::inspect::verify::{Outcome, Report, verify};
use serde_json::Value;

use super::damage::damages;
use super::set::{Range, Set, partitions, text_of};
use crate::harness::tools::{command, output, run};
use crate::harness::workshop::Workshop;

/// What the others' programs say.
#[derive(Debug, PartialEq)]
struct Judged {
    /// The hash tree is that of the data and of the root hash in the partitions' ids or beside.
    tree: bool,
    /// The signature is by the signer and of the root hash.
    signature: bool,
    /// All is as it should be: what there is of both, and nothing contradicts it.
    good: bool,
}

/// Damages the set in every way and compares what is said; how many ways.
pub(crate) fn damaged(set: &Set, dissector: &Workshop, what: &str) -> usize {
    let work = set.image.parent().unwrap();
    let kept: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(work)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|it| it.as_encoded_bytes().starts_with(b"x."))
        })
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let whole = verify(&set.image, std::slice::from_ref(&set.trusted)).unwrap();
    assert!(whole.is_good(), "{what}: {whole:#?}");
    let mut wrong = Vec::new();
    let damages = damages(set);
    for damage in &damages {
        (damage.change)();
        let dissector = damage.to_table.then_some(dissector);
        if let Err(why) = compare(set, dissector) {
            wrong.push(format!("{}: {why}", damage.name));
        }
        for (path, bytes) in &kept {
            fs::write(path, bytes).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    damages.len()
}

fn compare(set: &Set, dissector: Option<&Workshop>) -> Result<(), String> {
    let theirs = judged(set);
    let report = verify(&set.image, std::slice::from_ref(&set.trusted));
    let ours = match &report {
        Ok(report) => said(report),
        Err(_) => Judged {
            tree: false,
            signature: false,
            good: false,
        },
    };
    let differs = |why: &str| Err(format!("{why}: {theirs:?}, but {report:#?}"));
    if let Some(dissector) = dissector {
        let dissected = dissects(set, dissector);
        let refused = match &report {
            Ok(report) => bad(report, "partition-table") || bad(report, "file-system"),
            Err(_) => true,
        };
        // A table of which only the second copy is left is taken by libblkid, and told by sgdisk.
        let disk = run(command("sh")
            .arg("-c")
            .arg("sgdisk -v \"$0\" 2>&1 || true")
            .arg(&set.image));
        let told = ["Caution", "Warning", "Problem"]
            .iter()
            .any(|it| disk.contains(it));
        if dissected && refused && !told || !dissected && !refused {
            return differs(&format!("dissected {dissected}, table {told}"));
        }
        if refused {
            return Ok(());
        }
    }
    match ours == theirs {
        true => Ok(()),
        false => differs("verified otherwise"),
    }
}

fn outcome(report: &Report, id: &str) -> Outcome {
    report.check(id).unwrap().outcome
}

fn bad(report: &Report, id: &str) -> bool {
    outcome(report, id) == Outcome::Bad
}

fn said(report: &Report) -> Judged {
    let hashes = [
        "data-partition-uuid",
        "hash-partition-uuid",
        "sidecar-root-hash",
    ];
    Judged {
        tree: outcome(report, "hash-tree") == Outcome::Ok
            && !hashes.into_iter().any(|id| bad(report, id)),
        signature: report.is_signed(),
        good: report.is_good(),
    }
}

/// Whether systemd would take the image for an extension: it dissects, and there is a root or `/usr`,
/// which `--validate` alone does not ask for.
fn dissects(set: &Set, dissector: &Workshop) -> bool {
    const GENERIC: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
    let work = set.image.parent().unwrap();
    let mut dissect = dissector.command(work, "systemd-dissect");
    let dissected = output(dissect.args(["--validate", "x.raw"]));
    let is_data = |it: &Range| !it.hidden && [&set.parts[0].kind, GENERIC].contains(&&*it.kind);
    dissected.status.success() && partitions(&set.image).iter().any(is_data)
}

fn judged(set: &Set) -> Judged {
    let dir = tempfile::tempdir().unwrap();
    match set.parts.is_empty() {
        true => beside_judged(set, dir.path()),
        false => parts_judged(set, dir.path()),
    }
}

/// By the partitions' ids and the signature partition.
fn parts_judged(set: &Set, dir: &Path) -> Judged {
    let found = partitions(&set.image);
    // One that became something else is none.
    let parts: Vec<&Range> = set
        .parts
        .iter()
        .filter_map(|was| found.iter().find(|it| it.kind == was.kind && !it.hidden))
        .collect();
    let cut = |part: &Range, name: &str| {
        let file = fs::File::open(&set.image).unwrap();
        let mut bytes = vec![0; usize::try_from(part.size).unwrap()];
        file.read_exact_at(&mut bytes, part.offset).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
    };
    let [data, hash, ..] = parts.as_slice() else {
        return Judged {
            tree: false,
            signature: false,
            good: true,
        };
    };
    cut(data, "data");
    cut(hash, "tree");
    let root: String = [data.uuid, hash.uuid]
        .concat()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tree = is_tree(&dir.join("data"), &dir.join("tree"), &root);
    let text = parts.get(2).and_then(|part| text_of(set, part));
    let Some(text) = text else {
        return Judged {
            tree,
            signature: false,
            good: tree,
        };
    };
    let signature = || -> Option<bool> {
        let value: Value = serde_json::from_str(&text).ok()?;
        let hash = value["rootHash"].as_str()?.to_lowercase();
        let bytes = decode_block(value["signature"].as_str()?).ok()?;
        let claimed = value["certificateFingerprint"].as_str();
        let fingerprint = claimed.is_none_or(|it| it.to_lowercase() == fingerprint(set));
        Some(hash == root && is_signed(&hash, &bytes, set, dir) && fingerprint)
    };
    let signature = signature().unwrap_or(false);
    Judged {
        tree,
        signature: signature && tree,
        good: signature && tree,
    }
}

/// By the files beside a file system.
fn beside_judged(set: &Set, dir: &Path) -> Judged {
    let hashes = [("roothash", "roothash.p7s"), ("usrhash", "usrhash.p7s")];
    let found = hashes.iter().find(|(hash, _)| set.beside(hash).exists());
    // Without a root hash the tree is that of the data or not, whatever its root.
    let Some((hash, signature)) = found else {
        let report = verify(&set.image, &[]).unwrap();
        let root = report.root_hash.clone().unwrap_or_default();
        let tree = is_tree(&set.image, &set.beside("verity"), &root);
        assert!(tree, "{report:?}");
        return Judged {
            tree,
            signature: false,
            good: tree,
        };
    };
    let text = fs::read(set.beside(hash)).unwrap();
    let text = String::from_utf8_lossy(&text).trim().to_lowercase();
    let tree = is_tree(&set.image, &set.beside("verity"), &text);
    match fs::read(set.beside(signature)) {
        Err(_) => Judged {
            tree,
            signature: false,
            good: tree,
        },
        Ok(bytes) => {
            let signature = tree && is_signed(&text, &bytes, set, dir);
            Judged {
                tree,
                signature,
                good: signature,
            }
        }
    }
}

fn is_tree(data: &Path, hash: &Path, root: &str) -> bool {
    let mut call = command("veritysetup");
    let said = output(call.arg("verify").args([data, hash]).arg(root));
    said.status.success()
}

/// With the flags of systemd (`validate_signature_userspace`, src/shared/dissect-image.c).
fn is_signed(root: &str, signature: &[u8], set: &Set, dir: &Path) -> bool {
    fs::write(dir.join("text"), root).unwrap();
    fs::write(dir.join("p7s"), signature).unwrap();
    let mut call = command("openssl");
    call.current_dir(dir)
        .args(["smime", "-verify", "-binary", "-inform", "DER", "-noverify"])
        .args(["-nointern", "-in", "p7s", "-content", "text", "-certfile"])
        .arg(&set.certificate);
    output(&mut call).status.success()
}

fn fingerprint(set: &Set) -> String {
    let said = run(command("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&set.certificate));
    let (_, digits) = said.trim().split_once('=').unwrap();
    digits.replace(':', "").to_lowercase()
}
