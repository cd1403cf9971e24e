//! What people read: findings, images, plans and changes as text.

pub(super) mod changes;
pub(super) mod findings;
pub(super) mod image;
pub(super) mod plan;
