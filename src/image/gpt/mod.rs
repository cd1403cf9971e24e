//! GUID partition tables: writing ours, reading anyone's.
//!
//! The `gpt` crate does the encoding. Its reader asserts on crafted headers
//! and follows offsets from the header without looking, so [`read`] vets the
//! header and reads the entries only after that; this module also checks what
//! the crate does not (ranges, order, overlap). Nothing read from an image is
//! ever written back.
//!
//! Rules for reading follow libblkid (`libblkid/src/partitions/gpt.c`), which
//! systemd dissects images with: a protective MBR must be there, the backup
//! header is used when the primary is damaged, checksums must be right. Sector
//! sizes are found as systemd does (`src/shared/dissect-image.c`,
//! `probe_sector_size`), but only 512 and 4096.

pub mod types;

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::{fmt, io};

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::header::{Header, HeaderError, read_header_from_arbitrary_device};
use gpt::mbr::ProtectiveMBR;
use gpt::partition::file_read_partitions;
use gpt::partition_types::{OperatingSystem, Type};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::gpt::types::PartitionType;

/// Bytes per sector of the tables that we write.
pub const SECTOR: u64 = 512;
/// Attribute bit 60: to be mounted read-only.
pub const READ_ONLY: u64 = 1 << 60;
/// Attribute bit 59: the file system grows on mount.
pub const GROW_FS: u64 = 1 << 59;
/// Attribute bit 63: systemd skips the partition.
pub const NO_AUTO: u64 = 1 << 63;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of a header and of a partition entry, as UEFI defines and every tool writes them.
const HEADER_SIZE: usize = 92;
const ENTRY_SIZE: u64 = 128;
/// More entries than any tool makes; keeps memory for a hostile header at 512 KiB.
const MAX_ENTRIES: u32 = 4096;

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

/// Why a partition table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The file itself could not be read or written.
    #[error("accessing the partition table: {0}")]
    Io(#[from] io::Error),
    /// The header says something that no tool writes, or its checksum is wrong.
    #[error("the GPT header is not usable: {0}")]
    Header(String),
    /// An entry contradicts the header, the file or another entry.
    #[error("GPT partition {number} is not usable: {reason}")]
    Entry {
        /// Position in the table, from 1.
        number: u32,
        /// What was expected and found.
        reason: String,
    },
    /// libblkid, and so systemd, would not look at the GPT.
    #[error("the image has a GPT but no protective MBR, so systemd sees no partition table")]
    NoProtectiveMbr,
}

/// Writes protective MBR, primary table and backup table of a file of `total_sectors` sectors.
///
/// The same arguments give the same bytes. Everything between the tables stays
/// as it is; the file grows to `total_sectors` when it is shorter.
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

/// Reads the partition table of an image of `length` bytes; `None` when it has none.
///
/// Memory is bounded by 512 KiB, whatever the header says.
pub fn read(image: &mut (impl Read + Seek), length: u64) -> Result<Option<Table>, GptError> {
    let mut candidates = Vec::new();
    for sector in [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096] {
        let primary = raw_header(image, sector.as_u64(), length)?;
        if primary.is_some_and(|bytes| bytes.starts_with(SIGNATURE)) {
            candidates.push((sector, primary));
        }
    }
    let (sector, primary) = match candidates.as_slice() {
        // Nothing in front: only a backup of a 512-byte-sector table is looked for,
        // because without a primary header systemd assumes that size.
        [] => (LogicalBlockSize::Lb512, None),
        [only] => *only,
        _ => {
            let reason = "there is one at 512 and one at 4096 bytes, systemd refuses both";
            return Err(GptError::Header(reason.to_owned()));
        }
    };
    let sectors = length / sector.as_u64();
    let (table, from_backup) = match vetted(primary, 1, sector, sectors) {
        Ok(header) => (read_entries(image, &header, sector), false),
        Err(reason) => {
            let last = sectors.saturating_sub(1);
            let offset = last.saturating_mul(sector.as_u64());
            let backup = raw_header(image, offset, length)?;
            match (vetted(backup, last, sector, sectors), primary) {
                // Without a protective MBR it is what an earlier content left behind.
                (Ok(_), None) if !has_protective_mbr(image)? => return Ok(None),
                (Ok(header), _) => (read_entries(image, &header, sector), true),
                (Err(_), Some(_)) => return Err(GptError::Header(reason)),
                (Err(_), None) => return Ok(None),
            }
        }
    };
    if !has_protective_mbr(image)? {
        return Err(GptError::NoProtectiveMbr);
    }
    table.map(|table| {
        Some(Table {
            from_backup,
            ..table
        })
    })
}

/// The bytes of a header at `offset`, if the file reaches that far.
fn raw_header(
    image: &mut (impl Read + Seek),
    offset: u64,
    length: u64,
) -> io::Result<Option<[u8; HEADER_SIZE]>> {
    let mut bytes = [0; HEADER_SIZE];
    let end = offset.checked_add(bytes.len() as u64);
    if end.is_none_or(|end| end > length) {
        return Ok(None);
    }
    image.seek(SeekFrom::Start(offset))?;
    image.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Parses a header that claims to stand at sector `lba`, and refuses whatever
/// the crate would panic on or libblkid would not accept.
fn vetted(
    bytes: Option<[u8; HEADER_SIZE]>,
    lba: u64,
    sector: LogicalBlockSize,
    sectors: u64,
) -> Result<Header, String> {
    let bytes = bytes.ok_or("the file ends before it")?;
    let mut device = vec![0; sector.as_usize()];
    device.extend_from_slice(&bytes);
    let header = read_header_from_arbitrary_device(&mut Cursor::new(device), sector)
        .map_err(|error| error.to_string())?;
    let wants = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
    wants(
        header.header_size_le == 92,
        format!("its size is {} instead of 92", header.header_size_le),
    )?;
    wants(
        header.current_lba == lba,
        format!(
            "it says that it is sector {} and is sector {lba}",
            header.current_lba
        ),
    )?;
    wants(
        header.part_size == 128,
        format!("its entries have {} bytes instead of 128", header.part_size),
    )?;
    wants(
        (1..=MAX_ENTRIES).contains(&header.num_parts),
        format!(
            "it has {} entries, at most {MAX_ENTRIES} are read",
            header.num_parts
        ),
    )?;
    wants(
        header.first_usable <= header.last_usable && header.last_usable < sectors,
        format!(
            "its usable sectors are {} to {} and the file has {sectors}; the file may be cut",
            header.first_usable, header.last_usable
        ),
    )?;
    let entries = (u64::from(header.num_parts) * ENTRY_SIZE).div_ceil(sector.as_u64());
    let end = header.part_start.checked_add(entries);
    wants(
        header.part_start >= 2 && end.is_some_and(|end| end <= sectors),
        format!(
            "its entries start at sector {} of {sectors}",
            header.part_start
        ),
    )?;
    Ok(header)
}

fn read_entries(
    image: &mut (impl Read + Seek),
    header: &Header,
    sector: LogicalBlockSize,
) -> Result<Table, GptError> {
    let found = file_read_partitions(image, header, sector)
        .map_err(|error| GptError::Header(error.to_string()))?;
    let used: Vec<_> = found.iter().filter(|(_, entry)| entry.is_used()).collect();
    let ranges = used
        .iter()
        .map(|(number, entry)| (**number, entry.first_lba, entry.last_lba));
    check_ranges(ranges, (header.first_usable, header.last_usable))?;
    let mut entries = Vec::new();
    for (number, entry) in used {
        let invalid = |error: io::Error| GptError::Entry {
            number: *number,
            reason: error.to_string(),
        };
        entries.push(Entry {
            number: *number,
            type_guid: entry.part_type_guid.guid,
            guid: entry.part_guid,
            offset: entry.bytes_start(sector).map_err(invalid)?,
            size: entry.bytes_len(sector).map_err(invalid)?,
            attributes: entry.flags,
            label: entry.name.clone(),
        });
    }
    Ok(Table {
        sector_size: sector.as_u64(),
        disk_guid: header.disk_guid,
        entries,
        from_backup: false,
    })
}

/// Checks that ranges of sectors (number, first, last) are in order, usable and disjoint.
fn check_ranges(
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

/// Whether sector 0 holds an MBR with an entry of type 0xEE.
fn has_protective_mbr(image: &mut (impl Read + Seek)) -> io::Result<bool> {
    let mut sector = [0; 512];
    image.seek(SeekFrom::Start(0))?;
    image.read_exact(&mut sector)?;
    // Four entries of 16 bytes from 446, the type in byte 4 of each.
    let protective = [450, 466, 482, 498]
        .iter()
        .any(|at| sector.get(*at) == Some(&0xee));
    Ok(protective && sector.ends_with(&[0x55, 0xaa]))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::gpt::types::{Designator, Role};
    use crate::systemd::arch::Arch;
    use proptest::prelude::*;

    const TOTAL: u64 = 512;

    fn partition(role: Role, first_lba: u64, last_lba: u64) -> Partition {
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

    fn image() -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let partitions = [
            partition(Role::Data, 64, 127),
            partition(Role::Verity, 128, 135),
        ];
        write(&mut out, Uuid::from_u128(1), &partitions, TOTAL).unwrap();
        out.into_inner()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Option<Table>, GptError> {
        read(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    /// Makes the header checksum right again after a test changed the header.
    fn fix_crc(bytes: &mut [u8], at: usize) {
        bytes[at + 16..at + 20].fill(0);
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[at..at + 92]);
        bytes[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = image();
        assert_eq!(bytes.len() as u64, TOTAL * SECTOR);
        assert_eq!(bytes, image(), "the same input must give the same bytes");
        let table = read_bytes(&bytes).unwrap().unwrap();
        assert_eq!(table.sector_size, 512);
        assert_eq!(table.disk_guid, Uuid::from_u128(1));
        assert!(!table.from_backup);
        let [data, verity] = table.entries.as_slice() else {
            panic!("{table:?}")
        };
        assert_eq!((data.offset, data.size), (32 << 10, 32 << 10));
        assert_eq!(data.attributes, READ_ONLY);
        assert_eq!(data.label, "root-x86-64");
        assert_eq!(verity.partition_type().unwrap().role, Role::Verity);
    }

    #[test]
    fn a_file_without_a_table_is_not_an_error() {
        assert_eq!(read_bytes(&[]).unwrap(), None);
        assert_eq!(read_bytes(&[0; 600]).unwrap(), None);
        assert_eq!(read_bytes(&vec![0; 1 << 20]).unwrap(), None);
    }

    #[test]
    fn a_damaged_primary_header_leaves_the_backup() {
        let mut bytes = image();
        bytes[512 + 40] ^= 1;
        assert!(read_bytes(&bytes).unwrap().unwrap().from_backup);
        bytes[512..1024].fill(0);
        assert!(read_bytes(&bytes).unwrap().unwrap().from_backup);
        let backup = bytes.len() - 512;
        bytes[backup + 40] ^= 1;
        assert_eq!(read_bytes(&bytes).unwrap(), None);
    }

    #[test]
    fn a_cut_file_is_refused() {
        let bytes = image();
        let error = read_bytes(&bytes[..128 << 10]).unwrap_err().to_string();
        assert!(error.contains("may be cut"), "{error}");
    }

    #[test]
    fn the_protective_mbr_is_needed() {
        let mut bytes = image();
        bytes[450] = 0x83;
        assert!(matches!(read_bytes(&bytes), Err(GptError::NoProtectiveMbr)));
        bytes[..1024].fill(0);
        assert_eq!(read_bytes(&bytes).unwrap(), None);
    }

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

    #[test]
    fn entries_of_an_odd_size_are_refused_not_asserted() {
        let mut bytes = image();
        for at in [512, bytes.len() - 512] {
            bytes[at + 84] = 0;
            bytes[at + 85] = 1;
            fix_crc(&mut bytes, at);
        }
        let error = read_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains("256 bytes instead of 128"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn changed_headers_never_panic(
            changes in prop::collection::vec((0usize..92, any::<u8>()), 1..6),
            entry in (0usize..256, any::<u8>()),
            fix in any::<bool>(),
            cut in prop::option::of(0usize..(TOTAL * SECTOR) as usize),
        ) {
            let mut bytes = image();
            let backup = bytes.len() - 512;
            for at in [512, backup] {
                for (offset, value) in &changes {
                    bytes[at + offset] = *value;
                }
            }
            bytes[1024 + entry.0] = entry.1;
            if fix {
                let table = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC)
                    .checksum(&bytes[1024..1024 + 128 * 128]);
                bytes[512 + 88..512 + 92].copy_from_slice(&table.to_le_bytes());
                fix_crc(&mut bytes, 512);
                fix_crc(&mut bytes, backup);
            }
            bytes.truncate(cut.unwrap_or(bytes.len()));
            if let Ok(Some(table)) = read_bytes(&bytes) {
                for entry in table.entries {
                    prop_assert!(entry.offset + entry.size <= bytes.len() as u64);
                }
            }
        }
    }
}
