//! The signature partition.

use serde::{Deserialize, Serialize};

use crate::io::hex;

/// Bytes of the signature partition (systemd `src/repart/repart.c`, `VERITY_SIG_SIZE`).
pub const PARTITION_SIZE: u64 = 16 * 1024;
/// Above this systemd refuses a signature partition with `EFBIG` (`src/shared/dissect-image.c`).
pub const MAX_PARTITION_SIZE: u64 = 4 * 1024 * 1024;

/// What the signature partition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignaturePartition {
    /// The signed root hash, normally 32 bytes.
    pub root_hash: Vec<u8>,
    /// SHA-256 of the signer's certificate in hex; systemd does not look at it.
    pub certificate_fingerprint: Option<String>,
    /// The PKCS#7 envelope in DER.
    pub signature: Vec<u8>,
}

/// Field names and order of systemd `src/repart/repart.c`, `partition_format_verity_sig`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureJson {
    root_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_fingerprint: Option<String>,
    signature: String,
}

/// Why the content of a signature partition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// systemd refuses it with `EFBIG`.
    #[error("the signature partition has {0} bytes, at most {MAX_PARTITION_SIZE} are read")]
    TooBig(usize),
    /// Other bytes follow the NUL that ends the text.
    #[error("the signature partition has bytes after the NUL that ends its text")]
    AfterNul,
    /// Not the JSON that systemd expects.
    #[error("the signature partition holds no usable JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `rootHash` is not hex, or too short.
    #[error("the `rootHash` of the signature partition is not a hash in hex")]
    RootHash,
    /// `signature` is not base64.
    #[error("the `signature` of the signature partition is not base64")]
    Base64,
    /// The text does not fit into 16 KiB.
    #[error(
        "the signature text has {0} bytes, at most {max} fit into the partition; \
         use a smaller certificate",
        max = PARTITION_SIZE - 1
    )]
    DoesNotFit(usize),
}

impl SignaturePartition {
    /// The whole content of the partition: compact JSON, then NUL up to 16 KiB.
    ///
    /// # Errors
    /// [`SignatureError::DoesNotFit`] if the text has more than 16383 bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SignatureError> {
        let json = SignatureJson {
            root_hash: hex::encode(&self.root_hash),
            certificate_fingerprint: self.certificate_fingerprint.clone(),
            signature: openssl::base64::encode_block(&self.signature),
        };
        let mut bytes = serde_json::to_vec(&json)?;
        let size = usize::try_from(PARTITION_SIZE).unwrap_or(usize::MAX);
        if bytes.len() >= size {
            return Err(SignatureError::DoesNotFit(bytes.len()));
        }
        bytes.resize(size, 0);
        Ok(bytes)
    }

    /// Reads the content of the partition; `None` when it is all NUL, that is
    /// kept free for a later signature.
    ///
    /// The rules are those of systemd `src/shared/dissect-image.c`,
    /// `dissected_image_load_verity_sig_partition`: at most 4 MiB, one JSON
    /// object, then only NUL; unknown keys are ignored.
    ///
    /// # Errors
    /// Every [`SignatureError`] but `DoesNotFit`.
    pub fn parse(bytes: &[u8]) -> Result<Option<SignaturePartition>, SignatureError> {
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_PARTITION_SIZE) {
            return Err(SignatureError::TooBig(bytes.len()));
        }
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        let (text, padding) = bytes.split_at(end);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(SignatureError::AfterNul);
        }
        if text.is_empty() {
            return Ok(None);
        }
        let json: SignatureJson = serde_json::from_slice(text)?;
        let root_hash = hex::decode(&json.root_hash)
            .filter(|hash| hash.len() >= 16)
            .ok_or(SignatureError::RootHash)?;
        let signature =
            openssl::base64::decode_block(&json.signature).map_err(|_| SignatureError::Base64)?;
        Ok(Some(SignaturePartition {
            root_hash,
            certificate_fingerprint: json.certificate_fingerprint,
            signature,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::HASH;
    use super::*;

    #[test]
    fn the_partition_goes_there_and_back() {
        let partition = SignaturePartition {
            root_hash: hex::decode(HASH).unwrap(),
            certificate_fingerprint: Some("ab".repeat(32)),
            signature: vec![1, 2, 3, 4],
        };
        let bytes = partition.to_bytes().unwrap();
        assert_eq!(bytes.len(), 16384);
        let text = format!(
            r#"{{"rootHash":"{HASH}","certificateFingerprint":"{}","signature":"AQIDBA=="}}"#,
            "ab".repeat(32)
        );
        assert!(bytes.starts_with(text.as_bytes()));
        assert_eq!(
            SignaturePartition::parse(&bytes).unwrap(),
            Some(partition.clone())
        );
        assert_eq!(
            SignaturePartition::parse(text.as_bytes()).unwrap(),
            Some(partition)
        );
    }

    #[test]
    fn the_partition_is_read_as_systemd_reads_it() {
        assert_eq!(SignaturePartition::parse(&[]).unwrap(), None);
        assert_eq!(SignaturePartition::parse(&[0; 16384]).unwrap(), None);
        let loose = br#" { "signature" : "AQ==", "rootHash" : "00112233445566778899AABBCCDDEEFF", "x": [1] } "#;
        let partition = SignaturePartition::parse(loose).unwrap().unwrap();
        assert_eq!(partition.root_hash[10], 0xaa);
        assert_eq!(partition.certificate_fingerprint, None);

        let parse = |bytes: &[u8]| SignaturePartition::parse(bytes).unwrap_err();
        let short = br#"{"signature":"AQ==","rootHash":"00"}"#;
        assert!(matches!(parse(short), SignatureError::RootHash));
        let text = br#"{"signature":"A","rootHash":"00112233445566778899AABBCCDDEEFF"}"#;
        assert!(matches!(parse(text), SignatureError::Base64));
        assert!(matches!(parse(b"{}\0\0x"), SignatureError::AfterNul));
        assert!(matches!(parse(b"{}"), SignatureError::Json(_)));
        let big = vec![b' '; 4 * 1024 * 1024 + 1];
        assert!(matches!(parse(&big), SignatureError::TooBig(_)));
        let deep = [b'['; 100_000];
        assert!(matches!(parse(&deep), SignatureError::Json(_)));
    }

    #[test]
    fn a_signature_that_does_not_fit_is_refused() {
        let partition = SignaturePartition {
            root_hash: vec![0; 32],
            certificate_fingerprint: None,
            signature: vec![0; 12_300],
        };
        assert!(matches!(
            partition.to_bytes(),
            Err(SignatureError::DoesNotFit(_))
        ));
    }
}
