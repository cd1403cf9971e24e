//! A question to the person at the terminal whose answer is not shown.

use std::io::{IsTerminal, stderr, stdin};

use crate::io::secret::KeyText;

/// The answer, if somebody is there to give one: both ends of the dialogue are a terminal.
pub(crate) fn prompt(question: &str) -> Option<KeyText> {
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        return None;
    }
    let answer = rpassword::prompt_password(question).ok()?;
    Some(KeyText::from_bytes(answer.into_bytes()))
}
