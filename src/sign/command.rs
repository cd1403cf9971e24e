//! Signing with a key that lies elsewhere: a command gets the bytes and returns the raw signature.
//!
//! The command reads on its standard input the bytes to sign: the 64 lower-case hex characters of
//! the root hash, no line break. It writes on its standard output the raw signature of their
//! SHA-256 and nothing else: RSA PKCS#1 v1.5, or ECDSA as DER or as r and s one after the other.
//! Services that take a digest find it in `PRISM_SYSEXT_SHA256` (hex), which key is wanted in
//! `PRISM_SYSEXT_CERTIFICATE_SHA256` (fingerprint, hex) and `PRISM_SYSEXT_CERTIFICATE` (a path), the
//! algorithm in `PRISM_SYSEXT_ALGORITHM` (`RS256` or `ES256`). Anything but exit status 0 is a failure and tried
//! again; its standard error is passed on. What comes back is checked against the certificate
//! before it is used.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use openssl::pkey::Id;
use sha2::{Digest, Sha256};

use crate::image::signature::Signer;
use crate::image::x509::Certificate;
use crate::io::hex;

/// Most of a signature that is read; one of RSA-16384 has 2 KiB.
const MAX_SIGNATURE: u64 = 16 << 10;
/// Most of a command's complaints that are repeated.
const MAX_WORDS: u64 = 4 << 10;
/// How often it is looked whether the command has ended.
const POLL: Duration = Duration::from_millis(10);

/// A command of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerCommand {
    /// Program and arguments; a program with a slash in its name is relative to `directory`.
    pub command: Vec<String>,
    /// Where it runs: the config's folder.
    pub directory: PathBuf,
    /// How long one try may take.
    pub time_limit: Duration,
    /// How often it is tried again.
    pub retries: u32,
}

/// A command and the certificate of its key.
pub(crate) struct CommandSigner<'a> {
    command: &'a SignerCommand,
    certificate: &'a Certificate,
    path: &'a Path,
}

impl<'a> CommandSigner<'a> {
    /// `path` is where the certificate lies, for the command.
    pub(crate) fn new(
        command: &'a SignerCommand,
        certificate: &'a Certificate,
        path: &'a Path,
    ) -> Self {
        CommandSigner {
            command,
            certificate,
            path,
        }
    }

    fn once(&self, data: &[u8]) -> Result<Vec<u8>> {
        let SignerCommand {
            command, directory, ..
        } = self.command;
        let (program, arguments) = command.split_first().context("the command is empty")?;
        let resolved = match program.contains('/') {
            true => directory.join(program),
            false => PathBuf::from(program),
        };
        let public = self.certificate.x509()?.public_key()?;
        let algorithm = match public.id() {
            Id::EC => "ES256",
            _ => "RS256",
        };
        let (mut said, mut words) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut child = Command::new(resolved)
            .args(arguments)
            .current_dir(match directory.as_os_str().is_empty() {
                true => Path::new("."),
                false => directory,
            })
            .env("PRISM_SYSEXT_SHA256", hex::encode(&Sha256::digest(data)))
            .env("PRISM_SYSEXT_CERTIFICATE", self.path)
            .env(
                "PRISM_SYSEXT_CERTIFICATE_SHA256",
                &self.certificate.fingerprint_sha256_hex,
            )
            .env("PRISM_SYSEXT_ALGORITHM", algorithm)
            .stdin(Stdio::piped())
            .stdout(said.try_clone()?)
            .stderr(words.try_clone()?)
            .spawn()
            .with_context(|| format!("running the signer command {program}"))?;
        if let Some(mut input) = child.stdin.take() {
            // A command that reads nothing (it takes the digest) may be gone already.
            let _ = input.write_all(data);
        }
        let status = self.wait(&mut child)?;
        let complaint = String::from_utf8_lossy(&read_back(&mut words, MAX_WORDS)?)
            .trim()
            .to_owned();
        let status = match status {
            Some(status) => status,
            None => bail!(
                "the signer command {program} took longer than {} s and was ended: {complaint}",
                self.command.time_limit.as_secs()
            ),
        };
        ensure!(
            status.success(),
            "the signer command {program} failed, {status}: {complaint}"
        );
        let signature = read_back(&mut said, MAX_SIGNATURE + 1)?;
        ensure!(
            !signature.is_empty(),
            "the signer command {program} wrote nothing on its standard output, expected a raw signature: {complaint}"
        );
        ensure!(
            signature.len() as u64 <= MAX_SIGNATURE,
            "the signer command {program} wrote more than {MAX_SIGNATURE} bytes, expected a raw signature"
        );
        Ok(signature)
    }

    fn wait(&self, child: &mut std::process::Child) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        while start.elapsed() < self.command.time_limit {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            sleep(POLL);
        }
        // It may have ended this very moment.
        let _ = child.kill();
        child.wait()?;
        Ok(None)
    }
}

impl Signer for CommandSigner<'_> {
    fn certificate_der(&self) -> &[u8] {
        &self.certificate.der
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut pause = Duration::from_millis(500);
        for _ in 0..self.command.retries {
            match self.once(data) {
                Ok(signature) => return Ok(signature),
                Err(_) => sleep(pause),
            }
            pause = pause.saturating_mul(2).min(Duration::from_secs(30));
        }
        self.once(data)
    }
}

fn read_back(file: &mut File, most: u64) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::x509;

    fn signed(script: &str, retries: u32, seconds: u64) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let pair = crate::image::x509::key_pair::KeyPair::generate("t", 1_700_000_000, 1).unwrap();
        let certificate = x509::load(&pair.certificate).unwrap().remove(0);
        let command = SignerCommand {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            directory: dir.path().to_owned(),
            time_limit: Duration::from_secs(seconds),
            retries,
        };
        CommandSigner::new(&command, &certificate, Path::new("/c.crt")).sign(b"abc")
    }

    #[test]
    fn the_command_reads_the_bytes_and_the_digest() {
        assert_eq!(signed("cat", 0, 10).unwrap(), b"abc");
        // SHA-256 of `abc`, FIPS 180-4.
        let digest = signed("printf %.8s $PRISM_SYSEXT_SHA256", 0, 10).unwrap();
        assert_eq!(digest, b"ba7816bf");
        let named = signed(
            "printf '%s %s' $PRISM_SYSEXT_ALGORITHM $PRISM_SYSEXT_CERTIFICATE",
            0,
            10,
        );
        assert_eq!(named.unwrap(), b"RS256 /c.crt");
    }

    #[test]
    fn a_failure_is_tried_again_and_its_words_are_passed_on() {
        let second = "[ -e tried ] && exec cat; touch tried; exit 1";
        assert_eq!(signed(second, 1, 10).unwrap(), b"abc");
        let error = signed("echo no such slot >&2; exit 3", 0, 10).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("no such slot") && text.contains("exit status: 3"),
            "{text}"
        );
        let error = signed("true", 0, 10).unwrap_err().to_string();
        assert!(error.contains("wrote nothing"), "{error}");
    }

    #[test]
    fn it_has_to_end() {
        let error = signed("exec sleep 60", 0, 1).unwrap_err().to_string();
        assert!(error.contains("longer than 1 s"), "{error}");
    }
}
