//! Everything that can be damaged in an image and beside it, one at a time.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use openssl::base64::{decode_block, encode_block};
use serde_json::Value;

use super::set::{Range, Set, text_of};
use crate::harness::tools::{command, run};

/// A way to change a set of files in place.
pub(crate) struct Damage<'a> {
    pub(crate) name: String,
    /// Whether it is done to the partition table.
    pub(crate) to_table: bool,
    pub(crate) change: Box<dyn Fn() + 'a>,
}

fn damage<'a>(name: impl Into<String>, change: impl Fn() + 'a) -> Damage<'a> {
    Damage {
        name: name.into(),
        to_table: false,
        change: Box::new(change),
    }
}

/// Changes a byte of a file.
fn flip(path: &Path, offset: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x11], offset).unwrap();
}

/// Everything that can be damaged, one at a time.
pub(crate) fn damages(set: &Set) -> Vec<Damage<'_>> {
    let mut all = vec![damage("nothing", || ())];
    if let Some((file, start)) = set.hash() {
        let tree = Tree::of(&file, start);
        let data = set.parts.first().map_or(0, |part| part.offset);
        for block in [0, tree.data_blocks / 2, tree.data_blocks - 1] {
            let at = data + block * tree.data_block + 77 % tree.data_block;
            let name = format!("data block {block}");
            all.push(damage(name, move || flip(&set.image, at)));
        }
        for (level, (offset, blocks)) in tree.levels.iter().enumerate() {
            for block in [0, blocks - 1] {
                let last = tree.hash_block - 1;
                for at in [0, last] {
                    let (file, at) = (file.clone(), offset + block * tree.hash_block + at);
                    let name = format!("level {level} from the top, byte {at}");
                    all.push(damage(name, move || flip(&file, at)));
                }
            }
        }
        // Magic, version, type, id, digest, block sizes, count, salt; the rest of the block.
        for field in [0, 8, 12, 16, 32, 40, 64, 68, 72, 79, 80, 88, 119, 300, 500] {
            let file = file.clone();
            let name = format!("superblock, byte {field}");
            all.push(damage(name, move || flip(&file, start + field)));
        }
    }
    match set.parts.as_slice() {
        [] => beside(set, &mut all),
        parts => {
            if let Some(part) = parts.get(2) {
                signatures(set, part, &mut all);
            }
            let of_table = all.len();
            tables(set, &mut all);
            all[of_table..].iter_mut().for_each(|it| it.to_table = true);
        }
    }
    all
}

/// Of a signature partition.
fn signatures<'a>(set: &'a Set, part: &'a Range, all: &mut Vec<Damage<'a>>) {
    let write = move |bytes: &[u8]| {
        let file = fs::File::options().write(true).open(&set.image).unwrap();
        let mut whole = vec![0; usize::try_from(part.size).unwrap()];
        whole[..bytes.len()].copy_from_slice(bytes);
        file.write_all_at(&whole, part.offset).unwrap();
    };
    let Some(text) = text_of(set, part) else {
        all.push(damage("a signature of no use", move || write(b"{}")));
        return;
    };
    let mut changed = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        let text = value.to_string();
        all.push(damage(name, move || write(text.as_bytes())));
    };
    let digit = |value: &mut Value, at: usize| {
        let mut text = value.as_str().unwrap().to_owned();
        let other = if &text[at..=at] == "0" { "1" } else { "0" };
        text.replace_range(at..=at, other);
        *value = text.into();
    };
    changed("JSON written anew", &|_| ());
    changed("first digit of the signed hash", &|it| {
        digit(&mut it["rootHash"], 0)
    });
    changed("last digit of the signed hash", &|it| {
        digit(&mut it["rootHash"], 63)
    });
    changed("a hash that is too short", &|it| {
        it["rootHash"] = "00".into()
    });
    changed("no hash", &|it| it["rootHash"] = Value::Null);
    changed("no signature", &|it| it["signature"] = Value::Null);
    changed("a signature that is no base64", &|it| {
        it["signature"] = "?".into()
    });
    changed("upper case", &|it| {
        it["rootHash"] = it["rootHash"].as_str().unwrap().to_uppercase().into();
    });
    changed("a further field", &|it| it["more"] = 1.into());
    if text.contains("certificateFingerprint") {
        changed("fingerprint", &|it| {
            digit(&mut it["certificateFingerprint"], 5)
        });
    }
    let der = |value: &Value| decode_block(value["signature"].as_str().unwrap()).unwrap();
    let length = der(&serde_json::from_str(&text).unwrap()).len();
    for at in [
        0,
        1,
        5,
        20,
        length / 2,
        length - 300,
        length - 100,
        length - 1,
    ] {
        changed(&format!("byte {at} of the signature"), &|it| {
            let mut bytes = der(it);
            bytes[at] ^= 0x11;
            it["signature"] = encode_block(&bytes).into();
        });
    }
    let mut raw = |name: &str, text: String| {
        all.push(damage(name, move || write(text.as_bytes())));
    };
    raw("JSON cut", text[..text.len() - 5].to_owned());
    raw("no JSON", "x".repeat(100));
    raw("JSON twice", format!("{text}{text}"));
    raw("more after the JSON", format!("{text}\0x"));
    raw("nothing in the signature partition", String::new());
}

/// Of the partition table.
fn tables<'a>(set: &'a Set, all: &mut Vec<Damage<'a>>) {
    let sgdisk = |arg: String| {
        move || {
            run(command("sgdisk").arg(&arg).arg(&set.image));
        }
    };
    for number in 1..=set.parts.len() {
        let id = sgdisk(format!("--partition-guid={number}:R"));
        all.push(damage(format!("id of partition {number}"), id));
        // Linux, swap, and not to be found by itself.
        for kind in ["8300", "8200"] {
            let kind = sgdisk(format!("--typecode={number}:{kind}"));
            all.push(damage(format!("type of partition {number}"), kind));
        }
        let hidden = sgdisk(format!("--attributes={number}:set:63"));
        all.push(damage(format!("attribute of partition {number}"), hidden));
        let gone = sgdisk(format!("--delete={number}"));
        all.push(damage(format!("no partition {number}"), gone));
    }
    let length = fs::metadata(&set.image).unwrap().len();
    for (name, at) in [
        ("magic of the protective MBR", 510),
        ("type in the protective MBR", 450),
        ("magic of the table", 512),
        ("sum of the table", 512 + 16),
        ("place of the entries", 512 + 72),
        ("sum of the entries", 512 + 88),
        ("first entry", 1024),
        ("id in the first entry", 1024 + 20),
        ("an empty entry", 1024 + 40 * 128),
        ("second table", length - 512),
        ("entries of the second table", length - 512 - 16384),
    ] {
        all.push(damage(name, move || flip(&set.image, at)));
    }
    let cut = move |length: u64| {
        let image = fs::File::options().write(true).open(&set.image).unwrap();
        image.set_len(length).unwrap();
    };
    all.push(damage("a cut end".to_owned(), move || cut(length - 4096)));
    all.push(damage("a longer end", move || cut(length + 4096)));
}

/// Of the files beside a file system.
fn beside<'a>(set: &'a Set, all: &mut Vec<Damage<'a>>) {
    for ending in ["roothash", "usrhash", "roothash.p7s", "usrhash.p7s"] {
        let path = set.beside(ending);
        let Ok(length) = fs::metadata(&path).map(|it| it.len()) else {
            continue;
        };
        for at in [0, 5, 40, length / 2, length - 1] {
            let path = path.clone();
            all.push(damage(
                format!("{ending}, byte {at}"),
                Box::new(move || flip(&path, at)),
            ));
        }
        let (cut, gone) = (path.clone(), path);
        let cut = move || {
            let file = fs::File::options().write(true).open(&cut).unwrap();
            file.set_len(9).unwrap();
        };
        all.push(damage(format!("{ending} cut"), cut));
        let gone = move || fs::remove_file(&gone).unwrap();
        all.push(damage(format!("no {ending}"), gone));
    }
}

/// The shape of a hash tree, by `veritysetup dump`.
struct Tree {
    data_blocks: u64,
    data_block: u64,
    hash_block: u64,
    /// Offset in the file and count of blocks, the top first.
    levels: Vec<(u64, u64)>,
}

impl Tree {
    fn of(file: &Path, start: u64) -> Tree {
        let said = run(command("veritysetup")
            .arg("dump")
            .arg(file)
            .arg(format!("--hash-offset={start}")));
        let field = |name: &str| -> u64 {
            let line = said.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace()
                .find_map(|word| word.parse().ok())
                .unwrap()
        };
        let (data_blocks, data_block) = (field("Data blocks:"), field("Data block size:"));
        let hash_block = field("Hash block size:");
        let mut counts = vec![];
        let mut below = data_blocks;
        while below > 1 {
            below = below.div_ceil(hash_block / 32);
            counts.insert(0, below);
        }
        let mut offset = start + hash_block;
        let levels = counts.into_iter().map(|blocks| {
            let level = (offset, blocks);
            offset += blocks * hash_block;
            level
        });
        Tree {
            data_blocks,
            data_block,
            hash_block,
            levels: levels.collect(),
        }
    }
}
