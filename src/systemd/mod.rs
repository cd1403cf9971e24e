//! What holds of systemd whatever the base is: names, paths, versions, and the rules of release files.

pub mod arch;
pub mod changes;
pub mod citations;
pub mod drop_in;
pub mod extension_name;
pub mod kind;
pub mod paths;
pub mod release_file;
pub mod release_match;
pub mod unit_file;
pub mod version;
