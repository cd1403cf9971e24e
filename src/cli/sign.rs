//! `sign`: key pairs, and signatures that are made later or anew.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::args::{Attach, Keygen, Request, Resign};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::prompt::prompt;
use super::text::findings;
use crate::cli::environment::now;
use crate::config::model::KeyReference;
use crate::finding::Finding;
use crate::image::dissect::Ddi;
use crate::image::signature::{SignaturePartition, sign_root_hash};
use crate::image::x509::Certificate;
use crate::image::x509::key_pair::KeyPair;
use crate::io::atomic_file::{AtomicFile, write_whole};
use crate::session::open_image;
use crate::sign::deferred::{Attachment, SignRequest};
use crate::sign::passphrase::Secrets;
use crate::sign::{deferred, trust};

/// The certificate that was named, if one was.
fn named(path: Option<&Path>) -> Result<Option<Certificate>, Finding> {
    path.map(trust::read_one).transpose()
}

pub(crate) fn request(screen: &Screen, args: &Request) -> Result<(), Failure> {
    let certificate = named(args.certificate.as_deref())?;
    let mut requests = Vec::new();
    for path in &args.images {
        let image = open_image(path)?;
        let request = watch(screen, |progress| {
            deferred::request(&image, certificate.as_ref(), progress)
        })?;
        requests.push(request);
    }
    let file = SignRequest {
        schema_version: 1,
        requests,
    };
    let text = file.to_text().map_err(anyhow::Error::from)?;
    let Some(path) = &args.output_file else {
        return screen.raw(&text);
    };
    write_whole(path, text.as_bytes(), 0o644)?;
    screen.result(
        &format!("sign request: {}\n", findings::path(path)),
        &serde_json::json!({"schemaVersion": 1, "signRequest": path}),
    )
}

pub(crate) fn attach(screen: &Screen, args: &Attach) -> Result<(), Failure> {
    let certificate = named(args.certificate.as_deref())?;
    let image = open_image(&args.image)?;
    let signature = deferred::read_signature(&image, &args.signature, certificate.as_ref())?;
    put(screen, &image, &signature)
}

pub(crate) fn resign(screen: &Screen, args: &Resign) -> Result<(), Failure> {
    let certificate = trust::read_one(&args.certificate)?;
    let image = open_image(&args.image)?;
    let root = deferred::root_hash(&image)?;
    let variable = |name: &str| std::env::var(name).ok();
    let secrets = Secrets::new(&variable, &prompt);
    let reference = KeyReference::from(args.key.clone());
    let passphrase = args.passphrase.clone().map(KeyReference::from);
    let key = secrets.open(&reference, passphrase.as_ref(), &certificate)?;
    let signature = SignaturePartition {
        root_hash: root.as_bytes().to_vec(),
        certificate_fingerprint: Some(certificate.fingerprint_sha256_hex.clone()),
        signature: sign_root_hash(&key, &root.to_string())?,
    };
    put(screen, &image, &signature)
}

fn put(screen: &Screen, image: &Ddi, signature: &SignaturePartition) -> Result<(), Failure> {
    let outcome = deferred::attach(image, signature)?;
    let word = match outcome {
        Attachment::Attached => "signed",
        Attachment::Replaced => "signed anew",
        Attachment::Unchanged => "unchanged",
    };
    let signer = signature.certificate_fingerprint.as_deref();
    let text = format!(
        "{word}: {}, by the certificate {}\n",
        findings::path(&image.path),
        signer.unwrap_or("?")
    );
    screen.result(
        &text,
        &serde_json::json!({
            "schemaVersion": 1,
            "image": image.path,
            "outcome": outcome,
            "certificateSha256": signer,
        }),
    )
}

pub(crate) fn keygen(screen: &Screen, args: &Keygen) -> Result<(), Failure> {
    for path in [&args.key, &args.certificate] {
        if path.symlink_metadata().is_ok() {
            return Err(Finding::error(
                "would-overwrite",
                format!("{} exists already", path.display()),
            )
            .help("remove it, or choose another name with --key and --certificate")
            .into());
        }
    }
    let pair = KeyPair::generate(&args.common_name, now(), args.days)?;
    write_pair(args, &pair)?;
    let text = format!(
        "private key: {}\ncertificate: {}\n",
        findings::path(&args.key),
        findings::path(&args.certificate)
    );
    screen.result(
        &text,
        &serde_json::json!({"schemaVersion": 1, "key": args.key, "certificate": args.certificate}),
    )
}

/// Both files or none: a key without its certificate is of no use and in the way of the next try.
fn write_pair(args: &Keygen, pair: &KeyPair) -> anyhow::Result<()> {
    let start = |path: &Path, bytes: &[u8], mode| {
        let begin = || {
            let mut pending = AtomicFile::create(path, mode)?;
            pending.file().write_all(bytes).map(|()| pending)
        };
        begin().with_context(|| format!("writing {}", path.display()))
    };
    let key = start(&args.key, pair.key.bytes(), 0o600)?;
    let certificate = start(&args.certificate, &pair.certificate, 0o644)?;
    key.commit()
        .with_context(|| format!("writing {}", args.key.display()))?;
    certificate
        .commit()
        .with_context(|| format!("writing {}", args.certificate.display()))
}
