//! What we place and predict, before the real systemd.

mod boot;
mod confext;
mod differential;
mod forged;
mod merge;
mod observed;
mod verdicts;
