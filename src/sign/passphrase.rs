//! Private keys with their passphrases, from wherever the config or the command line has them.

use std::cell::RefCell;

use crate::config::model::KeyReference;
use crate::finding::Finding;
use crate::image::signature::{KeyFile, needs_passphrase};
use crate::image::x509::Certificate;
use crate::io::secret::KeyText;
use crate::sign::key;

/// Longest passphrase, in bytes (PEM_BUFSIZE of OpenSSL's `pem.h`).
const MAX_PASSPHRASE: usize = 1024;

/// Where secrets come from that are in no file.
pub struct Secrets<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    ask: &'a dyn Fn(&str) -> Option<KeyText>,
    /// Answers, each for the key that it was asked for; nobody types one twice.
    answers: RefCell<Vec<(KeyReference, KeyText)>>,
}

impl<'a> Secrets<'a> {
    /// `variable` reads the environment, `ask` puts a question to a person and gives nothing if there
    /// is none.
    pub fn new(
        variable: &'a dyn Fn(&str) -> Option<String>,
        ask: &'a dyn Fn(&str) -> Option<KeyText>,
    ) -> Secrets<'a> {
        Secrets {
            variable,
            ask,
            answers: RefCell::default(),
        }
    }

    /// Reads a key in PEM, DER or PKCS#12 that belongs to a certificate, and its passphrase from
    /// what the config names or, without that, from a person.
    ///
    /// # Errors
    /// `key-unreadable`, `key-permissions` if others than the owner may read the file, and
    /// `key-refused` for a wrong passphrase or a key that can't be used. No secret is in any
    /// message.
    pub fn open(
        &self,
        reference: &KeyReference,
        passphrase: Option<&KeyReference>,
        certificate: &Certificate,
    ) -> Result<KeyFile, Finding> {
        let text = key::read(reference, self.variable, "the PEM text of the private key")?;
        let open = |passphrase: Option<&KeyText>| {
            let passphrase = passphrase.map(KeyText::first_line);
            if passphrase.is_some_and(|it| it.len() > MAX_PASSPHRASE) {
                anyhow::bail!("the passphrase is longer than {MAX_PASSPHRASE} bytes");
            }
            KeyFile::read(text.bytes(), passphrase, certificate)
        };
        let key = match passphrase {
            Some(from) => open(Some(&key::read(from, self.variable, "the passphrase")?)),
            None if needs_passphrase(text.bytes()) => self.asked(reference, open),
            None => open(None),
        };
        key.map_err(|error| {
            Finding::error(
                "key-refused",
                format!("using {}: {error:#}", named(reference)),
            )
            .help("name the private key that belongs to the certificate: PEM, DER or PKCS#12")
        })
    }

    /// Asks for a passphrase that [`Secrets::open`] would ask for; what else is wrong it tells.
    pub fn prepare(&self, reference: &KeyReference, passphrase: Option<&KeyReference>) {
        if passphrase.is_none()
            && let Ok(text) = key::read(reference, self.variable, "the PEM text of the private key")
            && needs_passphrase(text.bytes())
        {
            self.asked(reference, |_| ());
        }
    }

    fn asked<T>(&self, reference: &KeyReference, open: impl Fn(Option<&KeyText>) -> T) -> T {
        let mut answers = self.answers.borrow_mut();
        if !answers.iter().any(|(known, _)| known == reference) {
            let answer = (self.ask)(&format!("passphrase of {}: ", named(reference)));
            answers.extend(answer.map(|answer| (reference.clone(), answer)));
        }
        let answer = answers.iter().find(|(known, _)| known == reference);
        open(answer.map(|(_, answer)| answer))
    }
}

/// A key as messages call it.
fn named(reference: &KeyReference) -> String {
    match reference {
        KeyReference::File(path) => path.display().to_string(),
        KeyReference::Env(name) => format!("env:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::x509::key_pair::KeyPair;
    use openssl::pkey::PKey;
    use openssl::symm::Cipher;
    use std::cell::Cell;

    #[test]
    fn a_person_is_asked_once_and_only_where_it_helps() {
        let pair = KeyPair::generate("x", 1_700_000_000, 1).unwrap();
        let certificate = crate::image::x509::load(&pair.certificate).unwrap();
        let certificate = certificate.into_iter().next().unwrap();
        let key = PKey::private_key_from_pem(pair.key.bytes()).unwrap();
        let pem = key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open")
            .unwrap();
        let pem = String::from_utf8(pem).unwrap();
        let plain = String::from_utf8(pair.key.bytes().to_vec()).unwrap();
        let variable = |name: &str| match name {
            "LOCKED" => Some(pem.clone()),
            "PLAIN" => Some(plain.clone()),
            "WORD" => Some("open".to_owned()),
            _ => None,
        };
        let asked = Cell::new(0);
        let try_with = |answer: Option<&str>, key: &str, word: Option<&str>| {
            asked.set(0);
            let ask = |_: &str| {
                asked.set(asked.get() + 1);
                answer.map(|text| KeyText::from_bytes(text.as_bytes().to_vec()))
            };
            let secrets = Secrets::new(&variable, &ask);
            let env = |name: &str| KeyReference::Env(name.to_owned());
            let open = || secrets.open(&env(key), word.map(env).as_ref(), &certificate);
            let first = open().map(drop).map_err(|finding| finding.message);
            assert_eq!(first, open().map(drop).map_err(|finding| finding.message));
            (first, asked.get())
        };
        assert_eq!(try_with(Some("open"), "LOCKED", None), (Ok(()), 1));
        assert_eq!(try_with(Some("shut"), "LOCKED", Some("WORD")), (Ok(()), 0));
        assert_eq!(try_with(Some("shut"), "PLAIN", None), (Ok(()), 0));
        let (wrong, count) = try_with(Some("shut"), "LOCKED", None);
        assert!(wrong.unwrap_err().contains("does not open it") && count == 1);
        let (nobody, _) = try_with(None, "LOCKED", None);
        assert!(nobody.unwrap_err().contains("verityKeyPassphrase"));
    }
}
