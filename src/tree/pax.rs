//! What stands before an entry of a tar archive: the long names of GNU tar and the records of
//! pax(1) ("pax Extended Header", POSIX.1-2017).
//!
//! The tar crate splits these records at line breaks, but values of attributes are any bytes; file
//! capabilities often hold such a byte.

use std::io;
use std::io::Read;

use tar::Entry;

/// Most bytes of all such headers of one entry.
const MAX_SIZE: u64 = 1 << 20;

/// What the headers before an entry say of it; they count more than its own header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) size: Option<u64>,
    /// Length of all headers that were read for it, in bytes.
    pub(super) bytes: u64,
    /// Whether it is a sparse file in one of GNU tar's forms.
    pub(super) is_sparse: bool,
    /// Extended attributes by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extended {
    /// Takes in what says something of the next entry; whether it was that.
    pub(super) fn take_in<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<bool> {
        let kind = entry.header().entry_type();
        let is_header = kind.is_pax_local_extensions()
            || kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_global_extensions();
        if !is_header {
            return Ok(false);
        }
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > MAX_SIZE {
            return Err(io::Error::other(
                "the headers of an entry are longer than 1 MiB",
            ));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if kind.is_gnu_longname() {
            self.path = Some(long_name(&bytes));
        } else if kind.is_gnu_longlink() {
            self.link = Some(long_name(&bytes));
        } else if kind.is_pax_local_extensions() {
            let read = self.read(&bytes);
            read.ok_or_else(|| io::Error::other("a pax header is malformed"))?;
        }
        Ok(true)
    }

    /// The target of a hard link.
    pub(super) fn link_target<R: Read>(&self, entry: &Entry<'_, R>) -> Option<Vec<u8>> {
        let target = match &self.link {
            Some(link) => Some(link.clone()),
            None => entry.link_name_bytes().map(|name| name.into_owned()),
        };
        target.filter(|target| !target.is_empty())
    }

    /// Takes in a pax header; nothing if it is malformed.
    fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        // Some writers pad with NUL.
        while let Some(first) = bytes.first()
            && *first != 0
        {
            let space = bytes.iter().position(|byte| *byte == b' ')?;
            let length = number(bytes.get(..space)?)?;
            let record = bytes.get(space + 1..usize::try_from(length).ok()?)?;
            let record = record.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            self.set(record.get(..equals)?, record.get(equals + 1..)?)?;
            bytes = bytes.get(usize::try_from(length).ok()?..)?;
        }
        Some(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"size" => self.size = Some(number(value)?),
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The name in a header of GNU tar, which ends with NUL.
fn long_name(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes
        .get(..end.unwrap_or(bytes.len()))
        .unwrap_or_default()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_any_byte() {
        let mut extended = Extended::default();
        let text = b"29 SCHILY.xattr.user.x=a\n\0=b\n16 path=usr/bin\n12 size=123\n";
        assert_eq!(extended.read(text), Some(()));
        assert_eq!(extended.path.as_deref(), Some(b"usr/bin".as_slice()));
        assert_eq!(extended.size, Some(123));
        assert_eq!(extended.xattrs, [(b"user.x".to_vec(), b"a\n\0=b".to_vec())]);
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        for text in [
            "8 path=a\n",
            "99 path=a\n",
            "x path=a\n",
            "8 path a\n",
            "0 a=b\n",
            "10 path=ab\nx",
        ] {
            assert_eq!(Extended::default().read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Extended::default().read(b"\0\0"), Some(()));
    }
}
