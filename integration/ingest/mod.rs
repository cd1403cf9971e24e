//! Images that others made: read, repaired, and joined with the files beside them.

mod beside;
mod foreign;
mod repair;
