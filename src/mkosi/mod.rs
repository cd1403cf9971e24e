//! mkosi's configuration, read with mkosi's own syntax and meaning.
//!
//! [`ini`] knows the syntax, [`settings`] the files and what they set,
//! [`import`] turns that into an extension of our own config. What only mkosi
//! itself can do (packages, scripts, …) is listed, never guessed: [`run`] lets
//! mkosi do it where that is installed. The rules
//! are those of mkosi 25.3 (mkosi/config.py), and the words of `Verity=` those
//! of 26.

pub mod ini;
pub mod settings;
