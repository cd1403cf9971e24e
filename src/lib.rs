//! Builds, takes in, checks and places systemd system extensions for images
//! made with Prism (Azure Linux Image Customizer).
//!
//! The modules read in the order in which data flows: [`config`] is what the
//! user wrote ([`mkosi`] what stands in files of mkosi), [`base`] what the base OS is, [`plan`] joins both into what will
//! be done, and [`chain`] the plans of configs that build on each other; [`build`] makes images out of [`content`], [`ingest`] takes in those
//! of others; [`verify`] recomputes them, [`inspect`] describes them, [`check`] predicts what systemd does
//! with them, [`lint`] looks at what they hold; [`inject`] places them in a root file system, [`expand`] turns the
//! config into a plain one and [`customize`] runs Prism on it. [`image`] and
//! [`tree`] are the leaves that know formats and nothing else.
//!
//! Functions return data; only the command line prints.

pub mod arch;
pub mod assemble;
pub mod base;
pub mod build;
pub mod chain;
pub mod check;
pub mod cli;
pub mod compression;
pub mod config;
pub mod content;
pub mod customize;
pub mod demands;
pub mod digest;
pub mod expand;
pub mod explain;
pub mod finding;
pub mod identity;
pub mod image;
pub mod ingest;
pub mod inject;
pub mod input;
pub mod inspect;
pub mod key;
pub mod lint;
pub mod manifest;
pub mod mkosi;
pub mod name;
pub mod oci;
pub mod pending;
pub mod plan;
pub mod prism;
pub mod progress;
pub mod release;
pub mod repair;
pub mod results;
pub mod sign;
pub mod signer;
pub mod signing_key;
pub mod staged;
pub mod tree;
pub mod trident;
pub mod trust;
pub mod verify;
