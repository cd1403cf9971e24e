//! A config cut at random places, with pieces of YAML put there.

use proptest::prelude::*;
use proptest::sample::Index;

/// Where in a text, how many bytes go, and what comes there.
pub(crate) type Cut = (Index, usize, &'static str);

/// One to three cuts, each of fewer than `reach` bytes.
pub(crate) fn cuts(reach: usize) -> impl Strategy<Value = Vec<Cut>> {
    let piece = prop::sample::select(&PIECES[..]);
    prop::collection::vec((any::<Index>(), 0..reach, piece), 1..4)
}

/// The text after these cuts, each at the boundaries of characters.
pub(crate) fn mangled(mut text: String, cuts: Vec<Cut>) -> String {
    for (at, length, new) in cuts {
        let from = text.floor_char_boundary(at.index(text.len() + 1));
        let to = text.ceil_char_boundary((from + length).min(text.len()));
        text.replace_range(from..to, new);
    }
    text
}

const PIECES: [&str; 44] = [
    "",
    " ",
    "\n",
    "\t",
    "- ",
    ": ",
    "#",
    " # c\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "&a0 ",
    "*a",
    "*a0",
    "*a1 ",
    "!!str ",
    "!x ",
    "? ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "---\n",
    "...\n",
    "\r",
    "\r\n",
    "<<: ",
    "<<: *a0\n",
    "sysext: 1\n",
    "os:\n",
    "  ",
    "~",
    "null",
    "%",
    "%YAML 1.1\n",
    "ü",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "\0",
    "\u{7f}",
];
