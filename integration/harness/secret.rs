//! Looks for pieces of private keys, and for words that are secret, in everything that the program said
//! and left behind in the folder of a test.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use openssl::pkey::{PKey, Private};

/// Bytes of a key that count as a leak when they turn up elsewhere.
const PIECE: usize = 24;
/// Between two places that are looked at, so a leak of `PIECE + STRIDE - 1` bytes is found for sure: every
/// number of an RSA or P-256 key, every line of a PEM file.
const STRIDE: usize = 8;
/// No key is longer.
const MAX_KEY: u64 = 64 << 10;

/// What programs said, by the folder in which they ran.
static SAID: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());

/// Remembers what a program said.
pub(crate) fn heard(folder: &Path, text: &str) {
    let mut said = SAID.lock().unwrap_or_else(|broken| broken.into_inner());
    said.push((folder.to_owned(), text.to_owned()));
}

/// Searches a folder when the test is over.
pub(crate) struct Watch {
    root: PathBuf,
    words: RefCell<Vec<String>>,
    apart: RefCell<Vec<PathBuf>>,
}

impl Watch {
    pub(crate) fn new(root: &Path) -> Watch {
        Watch {
            root: root.to_owned(),
            words: RefCell::default(),
            apart: RefCell::default(),
        }
    }

    /// A word that must not be seen either, such as a passphrase.
    pub(crate) fn word(&self, word: &str) {
        assert!(word.len() >= 6, "`{word}` may be anywhere");
        self.words.borrow_mut().push(word.to_owned());
    }

    /// A file or folder in which the test itself put secrets.
    pub(crate) fn apart(&self, name: &str) {
        self.apart.borrow_mut().push(self.root.join(name));
    }

    fn may_hold_secrets(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        below.components().any(|part| part.as_os_str() == "keys")
            || path
                .file_name()
                .is_some_and(|name| name == "verity_key.pem")
            || self
                .apart
                .borrow()
                .iter()
                .any(|apart| path.starts_with(apart))
    }

    /// Says where a secret is that should not be there, or how much was searched.
    pub(crate) fn search(&self) -> Result<Searched, String> {
        let (mut pieces, mut others) = (Pieces::default(), Vec::new());
        let mut found = Searched::default();
        for entry in walkdir::WalkDir::new(&self.root) {
            // Some tests take permissions away, or a folder.
            let Ok(entry) = entry else { continue };
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            if !self.may_hold_secrets(entry.path()) {
                others.push(entry.path().to_owned());
            } else if metadata.len() <= MAX_KEY
                && let Ok(bytes) = fs::read(entry.path())
                && let Some(key) = private_key(&bytes)
            {
                pieces.add(&key, &bytes);
                found.keys += 1;
            }
        }
        let words = self.words.borrow();
        let leak = |bytes: &[u8]| {
            let word = || words.iter().any(|word| contains(bytes, word.as_bytes()));
            pieces.one_is_in(bytes) || word()
        };
        for path in others {
            if let Ok(bytes) = fs::read(&path) {
                if leak(&bytes) {
                    return Err(format!("a secret is in {}", path.display()));
                }
                found.files += 1;
            }
        }
        let said = SAID.lock().unwrap_or_else(|broken| broken.into_inner());
        let ours = said
            .iter()
            .filter(|(folder, _)| folder.starts_with(&self.root));
        for (_, text) in ours {
            if leak(text.as_bytes()) {
                return Err(format!("a secret was said: {text}"));
            }
            found.streams += 1;
        }
        Ok(found)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.search().unwrap();
        }
    }
}

/// What a search went through.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    pub(crate) keys: usize,
    pub(crate) files: usize,
    pub(crate) streams: usize,
}

fn private_key(bytes: &[u8]) -> Option<PKey<Private>> {
    // With a passphrase at hand openssl does not ask for one.
    PKey::private_key_from_pem_passphrase(bytes, b"-")
        .or_else(|_| PKey::private_key_from_der(bytes))
        .ok()
}

/// Pieces by their first two bytes, so that a large image is searched fast.
#[derive(Default)]
struct Pieces {
    heads: HashSet<[u8; 2]>,
    pieces: HashMap<[u8; 2], HashSet<Vec<u8>>>,
}

impl Pieces {
    /// The numbers of a key that are not public, as bytes and as they stand in PEM text.
    fn add(&mut self, key: &PKey<Private>, file: &[u8]) {
        let mut numbers = Vec::new();
        let mut texts = vec![key.private_key_to_pem_pkcs8().unwrap(), file.to_vec()];
        if let Ok(rsa) = key.rsa() {
            let more = [rsa.p(), rsa.q(), rsa.dmp1(), rsa.dmq1(), rsa.iqmp()];
            numbers.push(rsa.d().to_vec());
            numbers.extend(more.into_iter().flatten().map(|number| number.to_vec()));
            texts.push(rsa.private_key_to_pem().unwrap());
        }
        if let Ok(curve) = key.ec_key() {
            numbers.push(curve.private_key().to_vec());
            texts.push(curve.private_key_to_pem().unwrap());
        }
        for number in &numbers {
            self.insert_all(number);
        }
        // Ed25519; of RSA-PSS openssl gives no numbers.
        numbers.extend(key.raw_private_key());
        for text in texts {
            let body = body(&text);
            let base64: String = body.chars().filter(|char| *char != '\n').collect();
            let Ok(der) = openssl::base64::decode_block(&base64) else {
                continue;
            };
            for number in &numbers {
                let Some(start) = position(&der, number) else {
                    continue;
                };
                // Four characters stand for three bytes.
                let (from, to) = ((start * 4).div_ceil(3), (start + number.len()) * 4 / 3);
                self.insert_all(&base64.as_bytes()[from..to]);
                // The same with its line ends.
                let place = |index: usize| {
                    let mut places = body.bytes().enumerate().filter(|(_, byte)| *byte != b'\n');
                    places.nth(index).map(|(at, _)| at).unwrap()
                };
                self.insert_all(&body.as_bytes()[place(from)..=place(to - 1)]);
            }
        }
    }

    fn insert_all(&mut self, secret: &[u8]) {
        for piece in secret.windows(PIECE) {
            let head = [piece[0], piece[1]];
            self.heads.insert(head);
            self.pieces.entry(head).or_default().insert(piece.to_vec());
        }
    }

    fn one_is_in(&self, bytes: &[u8]) -> bool {
        let mut heads = vec![false; 1 << 16];
        for head in &self.heads {
            heads[usize::from(u16::from_le_bytes(*head))] = true;
        }
        let mut at = 0;
        while let Some(window) = bytes.get(at..at + PIECE) {
            let head = [window[0], window[1]];
            if heads[usize::from(u16::from_le_bytes(head))] && self.pieces[&head].contains(window) {
                return true;
            }
            at += STRIDE;
        }
        false
    }
}

/// The base64 of the first private key in PEM text, with its line ends.
fn body(pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    let lines = text
        .lines()
        .skip_while(|line| !line.ends_with("PRIVATE KEY-----"));
    let lines = lines.skip(1).take_while(|line| !line.starts_with("-----"));
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut windows = haystack.windows(needle.len());
    windows.position(|window| window == needle)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let mut starts = haystack
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == needle[0]);
    starts.any(|(at, _)| haystack[at..].starts_with(needle))
}
