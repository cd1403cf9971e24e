//! The openssl program as a judge of signed images.

use std::fs;
use std::path::Path;

use prism_sysext::image::dissect;
use prism_sysext::image::dissect::SignatureState;

use super::tools::{command, output};

/// Whether openssl takes the signature of an image for one by this certificate, with the flags that
/// systemd uses (`validate_signature_userspace`, src/shared/dissect-image.c).
pub(crate) fn is_signed(image: &Path, certificate: &Path) -> bool {
    let ddi = dissect::open(image).unwrap();
    let SignatureState::Present { partition, .. } = &ddi.signature else {
        return false;
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("p7s"), &partition.signature).unwrap();
    fs::write(at("text"), ddi.root_hash.unwrap().to_string()).unwrap();
    let verified = output(
        command("openssl")
            .args(["smime", "-verify", "-binary", "-inform", "DER", "-noverify"])
            .args(["-nointern", "-in"])
            .arg(at("p7s"))
            .arg("-content")
            .arg(at("text"))
            .arg("-certfile")
            .arg(certificate),
    );
    verified.status.success()
}
