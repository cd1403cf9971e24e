//! What a user writes: accepted, refused, completed by an editor, and joined to a chain.

mod bad_config;
mod chain;
mod editor;
mod invalid;
mod schema;
