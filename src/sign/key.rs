//! Private keys: reading them without ever showing them.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::model::KeyReference;
use crate::finding::Finding;
use crate::io::open;
use crate::io::secret::KeyText;

/// Largest key file that is read, in bytes; an RSA key of 16384 bits has about 12 KiB.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Reads what a reference names; `what` ends the advice for a variable that is not set.
pub(crate) fn read(
    reference: &KeyReference,
    variable: &dyn Fn(&str) -> Option<String>,
    what: &str,
) -> Result<KeyText, Finding> {
    match reference {
        KeyReference::File(path) => read_file(path),
        KeyReference::Env(name) => match variable(name) {
            Some(text) if !text.is_empty() => Ok(KeyText::from_bytes(text.into_bytes())),
            _ => Err(Finding::error(
                "key-unreadable",
                format!("the environment variable {name} is not set"),
            )
            .help(format!("set it to {what}"))),
        },
    }
}

/// Reads a key file that nobody but its owner can read.
pub(crate) fn read_file(path: &Path) -> Result<KeyText, Finding> {
    let refuse = |message: String, help: &str| {
        Finding::error(
            "key-unreadable",
            format!("reading the private key {}: {message}", path.display()),
        )
        .help(help)
    };
    let file = open::open(path).map_err(|error| {
        refuse(
            error.to_string(),
            "name a PEM file with `verityKey: file:PATH`, or use `env:NAME`",
        )
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| refuse(error.to_string(), "check the file system"))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Finding::error(
            "key-permissions",
            format!(
                "the private key {} has mode {:04o}, others than its owner may use it",
                path.display(),
                metadata.mode() & 0o7777
            ),
        )
        .help(format!("chmod 600 {}", path.display())));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = KeyText::from_bytes(Vec::with_capacity(
        usize::try_from(metadata.len()).unwrap_or(0).min(1 << 16),
    ));
    file.take(MAX_KEY_BYTES + 1)
        .read_to_end(text.bytes_mut())
        .map_err(|error| refuse(error.to_string(), "check the file system"))?;
    if text.bytes().len() as u64 > MAX_KEY_BYTES {
        return Err(refuse(
            "it is larger than 64 KiB".to_owned(),
            "name a PEM file",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn others_must_not_be_able_to_read_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, "secret").unwrap();
        for (mode, expected) in [
            (0o644, Some("key-permissions")),
            (0o640, Some("key-permissions")),
            (0o600, None),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let result = read_file(&path);
            assert_eq!(
                result.as_ref().err().map(|finding| finding.id),
                expected,
                "{mode:o}"
            );
            if let Err(finding) = result {
                assert!(!finding.to_string().contains("secret"));
            }
        }
    }

    #[test]
    fn a_missing_or_odd_file_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read_file(&dir.path().join("no")).err().unwrap().id,
            "key-unreadable"
        );
        assert_eq!(read_file(dir.path()).err().unwrap().id, "key-unreadable");
    }
}
