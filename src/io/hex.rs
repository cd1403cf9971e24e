//! Lower-case hexadecimal text, as root hashes and fingerprints are written.

use std::fmt::Write;

/// The bytes as lower-case hex without separators.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of hex in either case; `None` for any other character or an odd length.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_there_and_back_in_either_case() {
        assert_eq!(encode(&[0, 0xaf, 9]), "00af09");
        assert_eq!(decode("00AF09"), Some(vec![0, 0xaf, 9]));
        assert_eq!(decode("00a"), None);
        assert_eq!(decode("0é"), None);
        assert_eq!(decode("+1"), None);
    }
}
