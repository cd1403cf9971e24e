//! Input made to hurt: files, images, root file systems, and being killed in the middle.

mod atomic;
mod bad_files;
mod bad_input;
mod library;
mod midway;
mod rootfs;
