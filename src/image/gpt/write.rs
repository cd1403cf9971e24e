//! Writing our partition tables: the same arguments give the same bytes.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::{fmt, io};

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::header::HeaderError;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use uuid::Uuid;

use super::error::GptError;
use super::table::{READ_ONLY, check_ranges};

/// Bytes per sector of the tables that we write.
pub const SECTOR: u64 = 512;

/// A partition to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it holds, by GUID.
    pub type_guid: Uuid,
    /// Its own id.
    pub guid: Uuid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
    /// Whether attribute bit 60 is set.
    pub read_only: bool,
    /// At most 36 UTF-16 units.
    pub label: String,
}

/// Writes protective MBR, primary table and backup table of a file of `total_sectors` sectors of
/// 512 bytes ([`SECTOR`]).
///
/// The same arguments give the same bytes. Everything between the tables stays as it is; the file
/// grows to `total_sectors` when it is shorter.
///
/// # Errors
/// [`GptError::Entry`] for a label that is too long and for sectors that overlap or are not usable,
/// [`GptError::Header`] if `out` is longer than `total_sectors` or they are too many,
/// [`GptError::Io`]. Only a protective MBR may have been written when an entry is rejected for its
/// sectors.
pub fn write(
    out: &mut (impl Read + Write + Seek),
    disk_guid: Uuid,
    partitions: &[Partition],
    total_sectors: u64,
) -> Result<(), GptError> {
    let mut entries = BTreeMap::new();
    for (number, partition) in (1u32..).zip(partitions) {
        let units = partition.label.encode_utf16().count();
        if units > 36 {
            let reason = format!("its label has {units} UTF-16 units, at most 36 fit");
            return Err(GptError::Entry { number, reason });
        }
        let entry = gpt::partition::Partition {
            part_type_guid: Type {
                guid: partition.type_guid,
                os: OperatingSystem::Linux,
            },
            part_guid: partition.guid,
            first_lba: partition.first_lba,
            last_lba: partition.last_lba,
            flags: if partition.read_only { READ_ONLY } else { 0 },
            name: partition.label.clone(),
        };
        entries.insert(number, entry);
    }
    let length = total_sectors
        .checked_mul(SECTOR)
        .ok_or_else(|| GptError::Header(format!("{total_sectors} sectors are too many")))?;
    let found = out.seek(SeekFrom::End(0))?;
    if found > length {
        return Err(GptError::Header(format!(
            "the file has {found} bytes, more than its {total_sectors} sectors"
        )));
    }
    // The crate wants a Debug device and takes the length from a seek to the end.
    let mut device = Device { inner: out, length };
    let protected = u32::try_from(total_sectors.saturating_sub(1)).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(protected)
        .overwrite_lba0(&mut device)
        .map_err(|error| GptError::Header(format!("writing the protective MBR: {error}")))?;
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(&mut device, Some(disk_guid))
        .map_err(written)?;
    let header = disk.header();
    let usable = (header.first_usable, header.last_usable);
    let ranges = entries
        .iter()
        .map(|(number, entry)| (*number, entry.first_lba, entry.last_lba));
    check_ranges(ranges, usable)?;
    disk.update_partitions(entries).map_err(written)?;
    disk.write().map_err(written)?;
    Ok(())
}

fn written(error: gpt::GptError) -> GptError {
    match error {
        gpt::GptError::Io(error) | gpt::GptError::Header(HeaderError::Io(error)) => {
            GptError::Io(error)
        }
        other => GptError::Header(other.to_string()),
    }
}

/// Gives the crate a device that is `length` bytes long and has a `Debug`.
struct Device<'a, T> {
    inner: &'a mut T,
    length: u64,
}

impl<T> fmt::Debug for Device<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} bytes)", self.length)
    }
}

impl<T: Read> Read for Device<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<T: Write> Write for Device<'_, T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Seek> Seek for Device<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::End(delta) => {
                let position = self.length.checked_add_signed(delta);
                SeekFrom::Start(position.ok_or(io::ErrorKind::InvalidInput)?)
            }
            other => other,
        };
        self.inner.seek(to)
    }
}

/// Partitions to write, for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::image::gpt::types::{Designator, PartitionType, Role};
    use crate::systemd::arch::Arch;

    /// Sectors of the disk.
    pub(crate) const TOTAL: u64 = 512;

    /// A partition of these sectors.
    pub(crate) fn partition(role: Role, first_lba: u64, last_lba: u64) -> Partition {
        let kind = PartitionType::new(Arch::X86_64, Designator::Root, role);
        Partition {
            type_guid: kind.guid().unwrap(),
            guid: Uuid::from_u128(u128::from(first_lba) << 64 | 7),
            first_lba,
            last_lba,
            read_only: true,
            label: kind.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{TOTAL, partition};
    use super::*;
    use crate::image::gpt::types::Role;
    use std::io::Cursor;

    #[test]
    fn partitions_that_overlap_or_leave_the_disk_are_refused() {
        for (partitions, expected) in [
            (vec![partition(Role::Data, 100, 99)], "after its end"),
            (vec![partition(Role::Data, 2, 99)], "usable"),
            (vec![partition(Role::Data, 100, TOTAL)], "usable"),
            (
                vec![
                    partition(Role::Data, 100, 200),
                    partition(Role::Verity, 200, 300),
                ],
                "inside partition 1",
            ),
        ] {
            let mut out = Cursor::new(Vec::new());
            let error = write(&mut out, Uuid::nil(), &partitions, TOTAL).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
