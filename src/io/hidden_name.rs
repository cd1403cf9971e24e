//! Names of what is under construction.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Bytes of a name that are kept; 255 is NAME_MAX, and the rest is for what stands around it.
const LONGEST: usize = 240;

/// A name beside `name` that is told apart by what stands before and behind it.
pub(super) fn hidden_name(before: &str, name: &OsStr, behind: &str) -> OsString {
    let name = name.as_bytes();
    let mut hidden = OsString::from(before);
    hidden.push(OsStr::from_bytes(name.get(..LONGEST).unwrap_or(name)));
    hidden.push(behind);
    hidden
}

/// A hidden name beside `name` that no other process of this machine uses.
pub(super) fn temporary_name(name: &OsStr, what: &str) -> OsString {
    hidden_name(".", name, &format!(".{}.{what}", std::process::id()))
}
