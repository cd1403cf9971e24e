//! What people read: findings, images, plans and changes as text.

pub mod changes;
pub mod findings;
pub mod image;
pub mod plan;
