//! mkosi's configuration, read with mkosi's own syntax and meaning.
//!
//! [`ini`] knows the syntax, `read` the files, `settings` what they set;
//! `config::mkosi_import` turns that into an extension of our own config. What
//! only mkosi itself can do (packages, scripts, …) is listed, never guessed. The
//! rules are those of mkosi 25.3 (mkosi/config.py), and the words of `Verity=`
//! those of 26.

pub mod ini;
mod read;
pub(crate) mod settings;
