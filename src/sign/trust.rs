//! The certificates that the target will trust.
//!
//! Every `*.crt` file in `verity.d` is a trusted signer, and systemd reads the
//! first PEM certificate of each only (`validate_signature_userspace`,
//! src/shared/dissect-image.c). So each file that we place holds one
//! certificate as PEM under a name that ends in `.crt`.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::model::Sysext;
use crate::finding::Finding;
use crate::image::x509;
use crate::image::x509::flaws::Flaw;
use crate::image::x509::{Certificate, flaws};
use crate::io::open;

/// Largest certificate file that is read, in bytes; a bundle of public roots has about 200 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// What a PEM certificate begins with.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// A certificate and the name under which it is placed.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// File name in the certificate folder of the target, ending in `.crt`.
    pub file_name: String,
    /// Where the config names it.
    pub at: String,
    /// The file as the config names it, if that file can be placed as it is: one PEM certificate.
    pub as_is: Option<PathBuf>,
    /// The certificate.
    pub certificate: Certificate,
}

/// Reads all certificates that the config names, the same one once.
///
/// Certificates of signed and deferred extensions come along by themselves.
pub(crate) fn read(config: &Config, sysext: &Sysext) -> Result<Vec<Trusted>, Vec<Finding>> {
    let mut store = Store::default();
    for (index, entry) in sysext.certificates.iter().enumerate() {
        let at = format!("sysext.certificates[{index}]");
        store.add(config, &entry.source, &at, entry.name.as_deref(), entry.all);
    }
    if let Some(path) = &sysext.verity_certificate {
        store.add(config, path, "sysext.verityCertificate", None, false);
    }
    for (index, extension) in sysext.extensions.iter().enumerate() {
        if let Some(path) = &extension.verity_certificate {
            let at = format!("sysext.extensions[{index}].verityCertificate");
            store.add(config, path, &at, None, false);
        }
    }
    if store.findings.is_empty() {
        Ok(store.trusted)
    } else {
        Err(store.findings)
    }
}

/// Reads the certificate of a key: exactly one.
pub(crate) fn read_one(path: &Path) -> Result<Certificate, Finding> {
    one_of(&bytes_of(path)?, &path.display().to_string())
}

/// The one certificate in the bytes of a file, or of something else that messages call `name`.
pub(crate) fn one_of(bytes: &[u8], name: &str) -> Result<Certificate, Finding> {
    let mut all = parsed(bytes, name)?;
    match (all.pop(), all.len()) {
        (Some(one), 0) => Ok(one),
        (Some(_), others) => Err(bundle(name, others.saturating_add(1))),
        (None, _) => Err(Finding::error(
            "not-a-certificate",
            format!("reading {name}: it holds no certificate"),
        )),
    }
}

fn bundle(name: &str, count: usize) -> Finding {
    Finding::error(
        "certificate-bundle",
        format!("{name} holds {count} certificates"),
    )
    .because(
        "systemd reads the first certificate of a file only, and trusts the signer of every file",
    )
    .help("name a file with one certificate; an entry of `certificates` may say `all: true` to trust every one")
}

/// The certificates of a file, and whether it is PEM.
fn load(path: &Path) -> Result<(Vec<Certificate>, bool), Finding> {
    let bytes = bytes_of(path)?;
    let is_pem = bytes
        .windows(PEM_BEGIN.len())
        .any(|window| window == PEM_BEGIN);
    Ok((parsed(&bytes, &path.display().to_string())?, is_pem))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Finding> {
    open::read(path, MAX_BYTES).map_err(|error| {
        Finding::error(
            "certificate-unreadable",
            format!("reading the certificate {}: {error}", path.display()),
        )
        .help("name a PEM or DER file that you may read")
    })
}

fn parsed(bytes: &[u8], name: &str) -> Result<Vec<Certificate>, Finding> {
    x509::load(bytes).map_err(|error| {
        Finding::error("not-a-certificate", format!("reading {name}: {error}"))
            .help("name one X.509 certificate, PEM or DER")
    })
}

/// What is to be said of trusted certificates at a time in Unix seconds.
pub(crate) fn flaws(trusted: &[Trusted], now: Option<i64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in trusted {
        let name = &one.file_name;
        for flaw in flaws::flaws(&one.certificate, now) {
            let (id, message, help) = match flaw {
                Flaw::Expired(when) => (
                    "certificate-expired",
                    format!("{name} has expired ({when})"),
                    "make a new one in time, trust both while images by the old one are in use",
                ),
                Flaw::NotYetValid(when) => (
                    "certificate-not-yet-valid",
                    format!("{name} is valid from {when} only"),
                    "check the clock of this machine and of the one that made it",
                ),
                Flaw::Weak(why) => (
                    "certificate-weak",
                    format!("{name}: {why}"),
                    "make a key of 2048 bits or more (or ECDSA), and a certificate signed with SHA-256",
                ),
                Flaw::Usage(why) => (
                    "certificate-usage",
                    format!("{name}: {why}"),
                    "make a certificate for signing code",
                ),
            };
            findings.push(
                Finding::warning(id, message)
                    .at(&one.at)
                    .because("it counts all the same: systemd's check looks at no date, chain or usage (PKCS7_NOVERIFY, src/shared/dissect-image.c), nor does the kernel's (crypto/asymmetric_keys/pkcs7_trust.c)")
                    .help(help),
            );
        }
    }
    findings
}

#[derive(Default)]
struct Store {
    trusted: Vec<Trusted>,
    findings: Vec<Finding>,
}

impl Store {
    fn add(&mut self, config: &Config, path: &Path, at: &str, name: Option<&str>, all: bool) {
        match load(&config.resolve(path)) {
            Err(finding) => self.findings.push(finding.at(at)),
            Ok((certificates, _)) if certificates.len() > 1 && !all => {
                self.findings.push(
                    bundle(
                        &config.resolve(path).display().to_string(),
                        certificates.len(),
                    )
                    .at(at),
                );
            }
            Ok((certificates, is_pem)) => {
                let stem = path
                    .file_stem()
                    .map(|stem| stem.to_string_lossy())
                    .unwrap_or_default();
                let several = certificates.len() > 1;
                for (index, certificate) in certificates.into_iter().enumerate() {
                    let file_name = match (name, several) {
                        (Some(name), false) => name.to_owned(),
                        (Some(name), true) => {
                            format!("{}-{}.crt", name.trim_end_matches(".crt"), index + 1)
                        }
                        (None, false) => format!("{stem}.crt"),
                        (None, true) => format!("{stem}-{}.crt", index + 1),
                    };
                    self.insert(Trusted {
                        file_name,
                        at: at.to_owned(),
                        as_is: (is_pem && !several).then(|| path.to_owned()),
                        certificate,
                    });
                }
            }
        }
    }

    fn insert(&mut self, new: Trusted) {
        if self
            .trusted
            .iter()
            .any(|known| known.certificate.der == new.certificate.der)
        {
            return;
        }
        if let Some(known) = self
            .trusted
            .iter()
            .find(|known| known.file_name == new.file_name)
        {
            self.findings.push(
                Finding::error(
                    "certificate-collision",
                    format!(
                        "two different certificates would be placed as {}",
                        new.file_name
                    ),
                )
                .at(&new.at)
                .help(format!(
                    "the other one stands at {}; give one of them another `name`",
                    known.at
                )),
            );
            return;
        }
        self.trusted.push(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Source;

    fn config(dir: &Path, block: &str) -> Config {
        let text = format!("sysext:\n  extensions: [a.raw]\n{block}");
        Config::from_source(Source::parse(&dir.join("config.yaml"), text).unwrap()).unwrap()
    }

    fn names(dir: &Path, block: &str) -> Result<Vec<String>, &'static str> {
        let config = config(dir, block);
        match read(&config, config.sysext.as_ref().unwrap()) {
            Ok(trusted) => Ok(trusted
                .into_iter()
                .map(|trusted| trusted.file_name)
                .collect()),
            Err(findings) => Err(findings[0].id),
        }
    }

    #[test]
    fn one_certificate_per_file_under_a_crt_name() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            crate::image::x509::key_pair::KeyPair::generate(name, 1_700_000_000, 1).unwrap()
        };
        let (a, b) = (make("a"), make("b"));
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        write("a.pem", &a.certificate);
        write("copy.crt", &a.certificate);
        write(
            "both.pem",
            &[a.certificate.clone(), b.certificate.clone()].concat(),
        );
        write("key.pem", a.key.bytes());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        write("sub/a.crt", &b.certificate);

        let names = |block: &str| names(dir.path(), block);
        assert_eq!(
            names("  certificates: [a.pem]\n"),
            Ok(vec!["a.crt".to_owned()])
        );
        assert_eq!(
            names("  certificates: [a.pem, copy.crt]\n"),
            Ok(vec!["a.crt".to_owned()]),
            "the same DER once"
        );
        assert_eq!(
            names("  certificates: [a.pem, sub/a.crt]\n"),
            Err("certificate-collision")
        );
        assert_eq!(
            names("  certificates: [a.pem, {source: sub/a.crt, name: b.crt}]\n"),
            Ok(vec!["a.crt".to_owned(), "b.crt".to_owned()])
        );
        assert_eq!(
            names("  certificates: [both.pem]\n"),
            Err("certificate-bundle")
        );
        assert_eq!(
            names("  certificates: [{source: both.pem, all: true}]\n"),
            Ok(vec!["both-1.crt".to_owned(), "both-2.crt".to_owned()])
        );
        assert_eq!(
            names("  certificates: [key.pem]\n"),
            Err("not-a-certificate")
        );
        assert_eq!(
            names("  certificates: [missing.crt]\n"),
            Err("certificate-unreadable")
        );
        assert_eq!(
            names("  verityCertificate: a.pem\n"),
            Ok(vec!["a.crt".to_owned()])
        );
    }
}
