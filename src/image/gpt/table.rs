//! A partition table that was read, and what holds of the ranges of any.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::error::GptError;
use super::types::PartitionType;

/// Attribute bit 60: to be mounted read-only.
pub const READ_ONLY: u64 = 1 << 60;
/// Attribute bit 59: the file system grows on mount.
pub const GROW_FS: u64 = 1 << 59;
/// Attribute bit 63: systemd skips the partition.
pub const NO_AUTO: u64 = 1 << 63;

/// A partition that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Position in the table, from 1.
    pub number: u32,
    /// What it holds, by GUID.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub type_guid: Uuid,
    /// Its own id.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub guid: Uuid,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// The attribute bits, see [`READ_ONLY`], [`GROW_FS`] and [`NO_AUTO`].
    #[serde(serialize_with = "as_hex")]
    #[schemars(with = "String")]
    pub attributes: u64,
    /// Name for people.
    pub label: String,
}

impl Entry {
    /// The type, if it is one that extensions use.
    pub fn partition_type(&self) -> Option<PartitionType> {
        PartitionType::from_guid(self.type_guid)
    }
}

/// A partition table that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Bytes per sector: 512 or 4096.
    pub sector_size: u64,
    /// Id of the disk.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub disk_guid: Uuid,
    /// The partitions in use, in the order of the table.
    pub entries: Vec<Entry>,
    /// Whether the primary header was damaged and the backup at the end was used.
    pub from_backup: bool,
}

fn as_text<S: Serializer>(value: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// JSON numbers do not hold 64 bits everywhere.
fn as_hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#018x}"))
}

/// Checks that ranges of sectors (number, first, last) are in order, usable and disjoint.
pub(super) fn check_ranges(
    ranges: impl Iterator<Item = (u32, u64, u64)>,
    (first_usable, last_usable): (u64, u64),
) -> Result<(), GptError> {
    let mut sorted: Vec<_> = ranges.collect();
    sorted.sort_by_key(|(_, first, _)| *first);
    let mut previous: Option<(u32, u64)> = None;
    for (number, first, last) in sorted {
        let wrong = |reason: String| Err(GptError::Entry { number, reason });
        if first > last {
            return wrong(format!("it starts at sector {first}, after its end {last}"));
        }
        if first < first_usable || last > last_usable {
            return wrong(format!(
                "sectors {first} to {last} are not within the usable {first_usable} to {last_usable}"
            ));
        }
        if let Some((other, end)) = previous
            && first <= end
        {
            return wrong(format!(
                "it starts at sector {first}, inside partition {other}"
            ));
        }
        previous = Some((number, last));
    }
    Ok(())
}
