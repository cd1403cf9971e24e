//! What holds of systemd whatever the base is: names, paths, versions, and the rules of release files.

pub mod arch;
pub(crate) mod changes;
pub(crate) mod citations;
pub mod drop_in;
pub mod extension_name;
pub mod kind;
pub(crate) mod paths;
pub mod release_file;
pub(crate) mod release_match;
pub(crate) mod unit_file;
pub(crate) mod version;
