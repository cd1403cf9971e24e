//! The edit of a config that changes nothing else.

mod cases;
mod forms;
mod mutilate;
mod random;
