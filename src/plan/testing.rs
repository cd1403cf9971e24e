//! Configs and images for tests, made on the spot.

use std::path::Path;

use openssl::nid::Nid;

use super::{BaseIdentity, Environment, Plan, plan};
use crate::base::profile::by_name;
use crate::config::Config;
use crate::config::source::Source;
use crate::finding::Finding;
use crate::image::signature::KeyFile;
use crate::image::signature::testing::signer;
use crate::image::testing::{erofs, tree};
use crate::image::x509::Certificate;
use crate::image::x509::testing::ec_key;

/// A config in a folder.
pub(crate) fn config(dir: &Path, text: &str) -> Config {
    let source = Source::parse(&dir.join("c.yaml"), text.to_owned()).unwrap();
    Config::from_source(source).unwrap()
}

/// The plan for a config in a folder and a profile, if one is given.
pub(crate) fn planned_for(
    profile: Option<&str>,
    dir: &Path,
    text: &str,
) -> Result<Plan, Vec<Finding>> {
    let base = profile.map(|name| by_name(name).unwrap());
    let identity = base.as_ref().map(BaseIdentity::of);
    plan(
        &config(dir, text),
        identity.as_ref(),
        &Environment::default(),
    )
}

/// The plan for a config in a folder and Azure Linux 3.0.
pub(crate) fn planned(dir: &Path, text: &str) -> Result<Plan, Vec<Finding>> {
    planned_for(Some("azurelinux-3.0"), dir, text)
}

/// Ids and places.
pub(crate) fn said(findings: &[Finding]) -> Vec<String> {
    let said = findings.iter().map(|finding| {
        let place = finding.place.as_ref().map(ToString::to_string);
        format!("{} {}", finding.id, place.unwrap_or_default())
    });
    said.collect()
}

/// The path of the release file of a system extension.
pub(crate) fn release_path(name: &str) -> String {
    format!("usr/lib/extension-release.d/extension-release.{name}")
}

/// A system extension without a partition table: a release file that says `fields`, and a file.
pub(crate) fn bare(name: &str, fields: &str) -> Vec<u8> {
    erofs(&tree(&[
        (&release_path(name), fields),
        ("usr/bin/x", "hello"),
    ]))
}

/// A key and its certificate, which lies in a folder as `NAME.crt`.
pub(crate) fn key_pair(dir: &Path, name: &str) -> (KeyFile, Certificate) {
    let (key, certificate) = signer(&ec_key(Nid::X9_62_PRIME256V1), name);
    std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
    (key, certificate)
}
