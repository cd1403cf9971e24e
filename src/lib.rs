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

pub mod base;
pub mod build;
pub mod chain;
pub mod check;
pub mod cli;
pub mod config;
pub mod expand;
pub mod finding;
pub mod image;
pub mod inspect;
pub mod io;
pub mod mkosi;
pub mod output;
pub mod place;
pub mod plan;
pub mod prism;
pub mod session;
pub mod sign;
pub mod systemd;
pub mod tree;
