//! Plans for the tests of what carries them out.

use std::path::Path;

use crate::base::{Base, profile};
use crate::build::{Built, build};
use crate::finding::Findings;
use crate::image::testing::pair;
use crate::io::open::testing::write;
use crate::io::progress::Progress;
use crate::plan::testing::config;
use crate::plan::{BaseIdentity, Environment, Plan, plan};
use crate::sign::passphrase::Secrets;
use crate::systemd::arch::Arch;

/// The plan for a section in the folder `dir`, on Azure Linux 3.0.
pub(crate) fn planned(dir: &Path, section: &str) -> Plan {
    let text = format!("sysext:\n  outputDirectory: out\n{section}");
    let base = Base {
        arch: Some(Arch::X86_64),
        ..profile::by_name("azurelinux-3.0").unwrap()
    };
    let environment = Environment {
        digests: true,
        ..Environment::default()
    };
    plan(
        &config(dir, &text),
        Some(&BaseIdentity::of(&base)),
        &environment,
    )
    .unwrap()
}

/// Builds with the key in [`KEY`].
pub(crate) fn built(plan: &Plan) -> anyhow::Result<Built> {
    let secrets = Secrets::new(&|_| None, &|_| None);
    build(plan, &secrets, &Progress::new())
}

/// The ids of the findings that a build failed with.
pub(crate) fn ids(error: anyhow::Error) -> Vec<&'static str> {
    match error.downcast::<Findings>() {
        Ok(findings) => findings.0.iter().map(|finding| finding.id).collect(),
        Err(error) => panic!("{error:#}"),
    }
}

/// Keys of a section that signs.
pub(crate) const KEY: &str = "  verityKey: key.pem\n  verityCertificate: cert.pem\n";

/// Writes the key and its certificate.
pub(crate) fn write_key(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let (key, certificate) = pair("own");
    write(dir, "key.pem", key);
    write(dir, "cert.pem", certificate.pem());
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(dir.join("key.pem"), private).unwrap();
}
