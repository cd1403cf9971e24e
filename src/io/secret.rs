//! Text that is wiped when dropped and never shown.

use zeroize::Zeroizing;

/// The text of a private key or a passphrase. It has no `Debug` and is wiped when dropped.
pub struct KeyText(Zeroizing<Vec<u8>>);

impl KeyText {
    /// The PEM bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be read into.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// What stands before the first line break, as in a file that holds a passphrase.
    pub fn first_line(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        self.0
            .get(..end.unwrap_or(self.0.len()))
            .unwrap_or_default()
    }

    /// Key text that was read from somewhere else than a file.
    pub fn from_bytes(bytes: Vec<u8>) -> KeyText {
        KeyText(Zeroizing::new(bytes))
    }
}
