//! Images that we make or read, before other people's tools.

mod corpus;
mod ext4;
mod layers;
mod layout;
mod look;
mod referees;
mod reproducible;
mod sources;
