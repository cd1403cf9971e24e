//! What protects an extension, who signs it, and that no key stands in the config itself.

use std::path::Path;

use crate::config::model::{Extension, KeyReference, Signer, Sysext, VerityMode};
use crate::finding::Finding;

/// How an extension is protected once all defaults are applied; an error says what is missing.
pub(crate) fn effective_verity(
    sysext: &Sysext,
    extension: &Extension,
) -> Result<VerityMode, Finding> {
    let has_key = signed_by(sysext, extension).is_some();
    if let Some(why) = extension.layout.without_verity() {
        return match extension.verity {
            None | Some(VerityMode::None) => Ok(VerityMode::None),
            Some(verity) => {
                let (verity, layout) = (verity.word(), extension.layout.word());
                let message = format!("`verity: {verity}` can't be had with `layout: {layout}`");
                Err(Finding::error("layout-without-verity", message)
                    .because(why)
                    .help("leave `layout` out for a disk image that is protected, or write `verity: none`"))
            }
        };
    }
    match extension.verity {
        Some(VerityMode::Signed) if !has_key => Err(Finding::error(
            "key-missing",
            "`verity: signed` needs a private key",
        )
        .help("add `verityKey: file:verity_key.pem` (`prism-sysext sign keygen` makes a development pair)")),
        Some(verity) => Ok(verity),
        None if has_key => Ok(VerityMode::Signed),
        None => Err(Finding::error(
            "verity-not-chosen",
            "there is no key, so it must be written how the image is protected",
        )
        .help("add `verityKey` and `verityCertificate` to sign it, or write `verity: none` (unprotected), `hash` or `defer`")),
    }
}

/// What signs an extension.
#[derive(Debug, Clone, Copy)]
pub enum SignedBy<'a> {
    /// A key, and its passphrase.
    Key(&'a KeyReference, Option<&'a KeyReference>),
    /// A command.
    Command(&'a Signer),
}

/// What signs this extension: its own key or command before that of all.
pub fn signed_by<'a>(sysext: &'a Sysext, extension: &'a Extension) -> Option<SignedBy<'a>> {
    let one = |key: &'a Option<KeyReference>,
               passphrase: &'a Option<KeyReference>,
               signer: &'a Option<Signer>| {
        let key = key
            .as_ref()
            .map(|key| SignedBy::Key(key, passphrase.as_ref()));
        key.or(signer.as_ref().map(SignedBy::Command))
    };
    let Extension {
        verity_key,
        verity_key_passphrase,
        signer,
        ..
    } = extension;
    let own = one(verity_key, verity_key_passphrase, signer);
    own.or(one(
        &sysext.verity_key,
        &sysext.verity_key_passphrase,
        &sysext.signer,
    ))
}

/// The certificate that belongs to that key.
pub fn certificate<'a>(sysext: &'a Sysext, extension: &'a Extension) -> Option<&'a Path> {
    extension
        .verity_certificate
        .as_deref()
        .or(sysext.verity_certificate.as_deref())
}

/// One of both signs, and a command is one.
pub(super) fn signing_keys(
    signer: Option<&Signer>,
    key: Option<&KeyReference>,
    at: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(signer) = signer else { return };
    let at = format!("{at}.signer");
    if key.is_some() {
        let message = "both `signer` and `verityKey` are given, expected one of them";
        findings.push(
            Finding::error("one-signer", message)
                .at(&at)
                .help("remove one"),
        );
    }
    if signer.command.first().is_none_or(String::is_empty) {
        let finding = Finding::error("missing-key", "the signer's `command` names no program");
        findings.push(finding.at(format!("{at}.command")));
    }
    if signer.timeout_seconds == 0 || signer.retries > 10 {
        let message = "expected `timeoutSeconds` of at least 1 and at most 10 `retries`";
        findings.push(Finding::error("wrong-value", message).at(&at));
    }
}

/// A key in place of its name must not get into messages as a path.
pub(super) fn key_text(reference: Option<&KeyReference>, at: &str, findings: &mut Vec<Finding>) {
    let text = match reference {
        None => return,
        Some(KeyReference::File(path)) => path.to_string_lossy(),
        Some(KeyReference::Env(name)) => name.into(),
    };
    if text.contains("-----BEGIN") || text.contains('\n') {
        findings.push(
            Finding::error(
                "key-in-config",
                "the config holds a key, expected the name of a file or of a variable",
            )
            .at(at)
            .help("keep the key in a file of mode 0600 and write `file:PATH`, or use `env:NAME`; consider this key as leaked"),
        );
    }
}
