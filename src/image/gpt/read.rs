//! Reading anyone's partition tables, within bounds.

use std::io;
use std::io::{Cursor, Read, Seek, SeekFrom};

use gpt::disk::LogicalBlockSize;
use gpt::header::{Header, read_header_from_arbitrary_device};
use gpt::partition::file_read_partitions;

use super::error::GptError;
use super::table::{Entry, Table, check_ranges};

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of a header and of a partition entry, as UEFI defines and every tool writes them.
const HEADER_SIZE: usize = 92;
const ENTRY_SIZE: u64 = 128;
/// More entries than any tool makes; keeps memory for a hostile header at 512 KiB.
const MAX_ENTRIES: u32 = 4096;

/// Reads the partition table of an image of `length` bytes; `None` when it has none.
///
/// Memory is bounded by 512 KiB, whatever the header says.
///
/// # Errors
/// [`GptError::Header`] if neither header is usable or there are two of different sector sizes,
/// [`GptError::Entry`], [`GptError::NoProtectiveMbr`], and [`GptError::Io`], also for a file
/// shorter than `length`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::gpt::table::READ_ONLY;
    use crate::image::gpt::types::Role;
    use crate::image::gpt::write::testing::{TOTAL, partition};
    use crate::image::gpt::write::{SECTOR, write};
    use proptest::prelude::*;
    use uuid::Uuid;

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
