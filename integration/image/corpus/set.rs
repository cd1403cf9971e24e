//! What is damaged and judged: an image, or a file system and the files beside it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use prism_sysext::image::x509;
use prism_sysext::image::x509::Certificate;

use crate::harness::signer::Signer;
use crate::harness::tools::{command, output};

/// A range of bytes of an image.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// The type, as partx writes it.
    pub(crate) kind: String,
    /// Not to be found by itself.
    pub(crate) hidden: bool,
    /// The partition's own id.
    pub(crate) uuid: [u8; 16],
}

/// An image or a file system with what lies beside it.
pub(crate) struct Set {
    pub(crate) image: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) trusted: Certificate,
    /// Data, hash tree and signature, in this order; empty for a naked file system.
    pub(crate) parts: Vec<Range>,
}

impl Set {
    pub(crate) fn of_image(work: &Path, signer: &Signer) -> Set {
        let image = work.join("x.raw");
        Set {
            parts: partitions(&image),
            ..Set::of_file_system(image, signer)
        }
    }

    pub(crate) fn of_file_system(image: PathBuf, signer: &Signer) -> Set {
        let pem = fs::read(signer.certificate()).unwrap();
        Set {
            image,
            certificate: signer.certificate(),
            trusted: x509::load(&pem).unwrap().remove(0),
            parts: Vec::new(),
        }
    }

    pub(crate) fn beside(&self, ending: &str) -> PathBuf {
        self.image.with_extension(ending)
    }

    /// Where the hash tree is, if there is one: a file and an offset in it.
    pub(crate) fn hash(&self) -> Option<(PathBuf, u64)> {
        let beside = self.beside("verity");
        match self.parts.get(1) {
            Some(part) => Some((self.image.clone(), part.offset)),
            None => beside.exists().then_some((beside, 0)),
        }
    }
}

/// The partitions as libblkid sees them, which systemd asks as well; none where it sees no table.
pub(crate) fn partitions(image: &Path) -> Vec<Range> {
    let said = output(
        command("partx")
            .args(["-g", "-r", "-b", "-o", "NR,START,SECTORS,TYPE,FLAGS,UUID"])
            .arg(image),
    );
    let text = String::from_utf8(said.stdout).unwrap();
    let rows = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Without an id it is a partition of an MBR.
        let [_, start, sectors, kind, flags, uuid] = words[..] else {
            return None;
        };
        let bytes = |sectors: &str| sectors.parse::<u64>().unwrap() * 512;
        Some(Range {
            offset: bytes(start),
            size: bytes(sectors),
            kind: kind.to_owned(),
            hidden: u64::from_str_radix(flags.trim_start_matches("0x"), 16).ok()? >> 63 == 1,
            uuid: uuid::Uuid::parse_str(uuid).ok()?.into_bytes(),
        })
    });
    rows.collect::<Option<_>>().unwrap_or_default()
}

/// The JSON of a signature partition.
pub(crate) fn text_of(set: &Set, part: &Range) -> Option<String> {
    let file = fs::File::open(&set.image).unwrap();
    let mut bytes = vec![0; usize::try_from(part.size).unwrap()];
    file.read_exact_at(&mut bytes, part.offset).ok()?;
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    String::from_utf8(bytes[..end].to_vec()).ok()
}
