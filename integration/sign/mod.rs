//! Keys, signatures, and that no secret comes out.

mod secrets;
mod signing;
mod trust;
