//! Who takes part, and how each is called.

/// A way to build the tree in `tree/`.
#[derive(Debug)]
pub struct Contestant {
    /// In the table.
    pub name: &'static str,
    /// What it writes and must be synced, in the folder of the bench; the image first.
    pub outputs: &'static [&'static str],
    /// For `sh -c` in that folder.
    pub command: String,
    /// Where the root file system begins in the image, if there is one.
    pub root: Option<Root>,
    /// Whether the result is compressed.
    pub compresses: bool,
    /// Whose time is 1 in its row: an index of [`contestants`]. The first does not compress.
    pub against: usize,
}

/// Where the root file system is.
#[derive(Debug, Clone, Copy)]
pub enum Root {
    /// The image is nothing else.
    Whole,
    /// In the first partition.
    First,
}

/// All of them; the first is ours without compression.
pub fn contestants() -> Vec<Contestant> {
    let ours = |name, compression: &str, output| Contestant {
        name,
        outputs: output,
        command: format!(
            "./prism-sysext build --quiet --config-file {compression}.yaml --output-dir out-{compression}"
        ),
        root: Some(Root::First),
        compresses: compression != "none",
        against: 0,
    };
    // The tools make a hash tree of their own file; nothing is joined or signed there.
    let by_hand = |name, outputs: &'static [&'static str; 2], command: &str, against| Contestant {
        name,
        outputs,
        command: format!(
            "{command} && veritysetup format {} >/dev/null",
            outputs.join(" ")
        ),
        root: Some(Root::Whole),
        compresses: against != 0,
        against,
    };
    vec![
        ours("prism-sysext, signed", "none", &["out-none/t.raw"]),
        ours("prism-sysext, signed, lz4", "lz4", &["out-lz4/t.raw"]),
        ours("prism-sysext, signed, lz4hc", "lz4hc", &["out-lz4hc/t.raw"]),
        ours("prism-sysext, signed, zstd", "zstd", &["out-zstd/t.raw"]),
        Contestant {
            name: "systemd-repart --make-ddi=sysext",
            outputs: &["repart.raw"],
            // Loop devices, its default for root, only make it slower.
            command: "systemd-repart --offline=yes --make-ddi=sysext --copy-source=/bench/tree \
                      --private-key=key.pem --certificate=cert.crt repart.raw"
                .to_owned(),
            root: Some(Root::First),
            compresses: false,
            against: 0,
        },
        Contestant {
            name: "mkosi",
            outputs: &["mkosi.raw"],
            command: "mkosi --force build".to_owned(),
            root: Some(Root::First),
            compresses: false,
            against: 0,
        },
        by_hand(
            "mkfs.erofs, veritysetup",
            &["plain.img", "plain.hash"],
            "mkfs.erofs --quiet plain.img tree",
            0,
        ),
        by_hand(
            "mkfs.erofs -zlz4 -C65536, veritysetup",
            &["lz4.img", "lz4.hash"],
            "mkfs.erofs --quiet -zlz4 -C65536 lz4.img tree",
            1,
        ),
        by_hand(
            "mkfs.erofs -zlz4hc,9 -C65536, veritysetup",
            &["lz4hc.img", "lz4hc.hash"],
            "mkfs.erofs --quiet -zlz4hc,9 -C65536 lz4hc.img tree",
            2,
        ),
        by_hand(
            "mkfs.erofs -zzstd,3 -C65536, veritysetup",
            &["zstd.img", "zstd.hash"],
            "mkfs.erofs --quiet -zzstd,3 -C65536 zstd.img tree",
            3,
        ),
        by_hand(
            "mksquashfs -comp zstd, veritysetup",
            &["squashfs.img", "squashfs.hash"],
            "mksquashfs tree squashfs.img -comp zstd -Xcompression-level 3 -quiet -no-progress",
            3,
        ),
        Contestant {
            name: "dd conv=fsync of our image",
            outputs: &["copy.raw"],
            command: "dd if=out-none/t.raw of=copy.raw bs=1M conv=fsync status=none".to_owned(),
            root: None,
            compresses: false,
            against: 0,
        },
    ]
}
