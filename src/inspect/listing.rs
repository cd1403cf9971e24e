//! Everything in an image, one entry each: as `ls -l` shows it, and as an mtree specification
//! (mtree(5) of NetBSD and FreeBSD, in the form with whole paths).

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::survey::MAX_ENTRIES;
use super::{SCHEMA_VERSION, lossy};
use crate::image::read::{FileKind, FileSystem, FsError, Metadata};
use crate::io::hex;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// One entry of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Absolute path in the image; the root is `/`.
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky, as four octal digits.
    #[serde(serialize_with = "octal")]
    #[schemars(with = "String")]
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; of folders what the file system says.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds after that.
    pub mtime_nanos: u32,
    /// Major and minor number of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Where a symbolic link leads.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "lossy_target"
    )]
    #[schemars(with = "Option<String>")]
    pub target: Option<PathBuf>,
    /// The same for all names of one file that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_link: Option<u64>,
}

/// All entries for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Version of this format.
    pub schema_version: u32,
    /// The root first, folders before what is in them.
    pub entries: Vec<Entry>,
}

impl Listing {
    /// Of the present version.
    pub fn new(entries: Vec<Entry>) -> Listing {
        Listing {
            schema_version: SCHEMA_VERSION,
            entries,
        }
    }
}

fn octal<S: Serializer>(mode: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn lossy_target<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_deref().unwrap_or(Path::new("")).display())
}

/// All entries, the root first, folders before what is in them.
///
/// # Errors
/// Those of [`FileSystem::walk`].
pub fn list(fs: &FileSystem) -> Result<Vec<Entry>, FsError> {
    let root = fs
        .metadata("/")?
        .ok_or_else(|| FsError::NotFound(PathBuf::from("/")))?;
    let mut entries = vec![entry(fs, PathBuf::from("/"), root)?];
    for (path, found) in fs.walk(MAX_ENTRIES)? {
        entries.push(entry(fs, path, found)?);
    }
    Ok(entries)
}

fn entry(fs: &FileSystem, path: PathBuf, found: Metadata) -> Result<Entry, FsError> {
    let target = match found.kind {
        FileKind::Symlink => Some(fs.read_link(&path)?),
        _ => None,
    };
    let hard_link = fs.hard_link(&path)?;
    Ok(Entry {
        path,
        kind: found.kind,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        size: found.size,
        mtime: found.mtime,
        mtime_nanos: found.mtime_nanos,
        device: found.device,
        target,
        hard_link,
    })
}

impl Entry {
    /// Mode, owner, size, time (UTC), path, as `ls -l` and `tar -tv` show them.
    pub fn columns(&self) -> Vec<String> {
        let size = match self.device {
            Some((major, minor)) => format!("{major},{minor}"),
            None => self.size.to_string(),
        };
        let mut name = self.path.display().to_string();
        if let Some(target) = &self.target {
            let _ = write!(name, " -> {}", target.display());
        }
        let owner = format!("{}:{}", self.uid, self.gid);
        vec![self.letters(), owner, size, time(self.mtime), name]
    }

    /// The ten letters of `ls -l`.
    fn letters(&self) -> String {
        let kind = match self.kind {
            FileKind::Directory => 'd',
            FileKind::File => '-',
            FileKind::Symlink => 'l',
            FileKind::Fifo => 'p',
            FileKind::Socket => 's',
            FileKind::CharDevice => 'c',
            FileKind::BlockDevice => 'b',
        };
        let mut text = String::from(kind);
        // The third letter also tells of setuid, setgid and sticky.
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bits = self.mode >> shift;
            text.push(if bits & 4 != 0 { 'r' } else { '-' });
            text.push(if bits & 2 != 0 { 'w' } else { '-' });
            text.push(match (bits & 1 != 0, self.mode & special != 0) {
                (true, true) => letter,
                (false, true) => letter.to_ascii_uppercase(),
                (true, false) => 'x',
                (false, false) => '-',
            });
        }
        text
    }

    fn mtree(&self, fs: &FileSystem, out: &mut dyn Write) -> Result<(), FsError> {
        let kind = match self.kind {
            FileKind::Directory => "dir",
            FileKind::File => "file",
            FileKind::Symlink => "link",
            FileKind::Fifo => "fifo",
            FileKind::Socket => "socket",
            FileKind::CharDevice => "char",
            FileKind::BlockDevice => "block",
        };
        let below = self.path.strip_prefix("/").unwrap_or(&self.path);
        let mut line = String::from(".");
        if !below.as_os_str().is_empty() {
            line.push('/');
            line.push_str(&escaped(below.as_os_str()));
        }
        let (mode, uid, gid) = (self.mode, self.uid, self.gid);
        let _ = write!(line, " type={kind} mode={mode:04o} uid={uid} gid={gid}");
        let _ = write!(line, " time={}.{:09}", self.mtime, self.mtime_nanos);
        if let Some((major, minor)) = self.device {
            let _ = write!(line, " device=native,{major},{minor}");
        }
        if let Some(target) = &self.target {
            let _ = write!(line, " link={}", escaped(target.as_os_str()));
        }
        if self.kind == FileKind::File {
            let digest = digest(fs, &self.path)?;
            let _ = write!(line, " size={} sha256={}", self.size, hex::encode(&digest));
        }
        line.push('\n');
        Ok(out.write_all(line.as_bytes())?)
    }
}

/// Writes entries as an mtree specification, with digests of all files.
///
/// # Errors
/// Those of [`FileSystem::copy`]; [`FsError::Io`] also for `out`, which has the lines of the
/// entries before.
pub fn mtree(fs: &FileSystem, entries: &[Entry], out: &mut dyn Write) -> Result<(), FsError> {
    out.write_all(b"#mtree\n")?;
    for entry in entries {
        entry.mtree(fs, out)?;
    }
    Ok(())
}

/// SHA-256 of a file's content.
pub(super) fn digest(fs: &FileSystem, path: &Path) -> Result<[u8; 32], FsError> {
    struct Sink(Sha256);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(Sha256::new());
    fs.copy(path, &mut sink)?;
    Ok(sink.0.finalize().into())
}

/// As vis(3) with VIS_OCTAL writes it, also what begins a comment or a pattern.
fn escaped(name: &OsStr) -> String {
    let mut text = String::new();
    for byte in name.as_bytes() {
        match byte {
            b'\\' | b'#' | b'*' | b'?' | b'[' | b'=' => {
                let _ = write!(text, "\\{byte:03o}");
            }
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text
}

/// A time as `2026-01-31 12:00:00`, UTC. The days are counted from March on, so that the leap day
/// is the last of a year (Howard Hinnant, `civil_from_days`).
fn time(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(-1), "1969-12-31 23:59:59");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time(1_700_000_000), "2023-11-14 22:13:20");
        assert_eq!(time(4_107_542_400), "2100-03-01 00:00:00");
        // Whatever an image says.
        assert!(!time(i64::MAX).is_empty() && !time(i64::MIN).is_empty());
    }

    #[test]
    fn letters_tell_of_special_bits() {
        let letters = |kind, mode| {
            let entry = Entry {
                path: PathBuf::from("/x"),
                kind,
                mode,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: 0,
                mtime_nanos: 0,
                device: None,
                target: None,
                hard_link: None,
            };
            entry.letters()
        };
        assert_eq!(letters(FileKind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(letters(FileKind::Directory, 0o3776), "drwxrwsrwT");
        assert_eq!(letters(FileKind::CharDevice, 0o640), "crw-r-----");
    }

    #[test]
    fn names_in_mtree_are_plain() {
        assert_eq!(
            escaped(OsStr::new("a b#*\\é")),
            "a\\040b\\043\\052\\134\\303\\251"
        );
    }
}
