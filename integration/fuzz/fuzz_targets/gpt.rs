//! Partition tables never panic, and no partition leaves the file.
//!
//! Checksums are put right first; blind changes never get past them.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use prism_sysext::image::gpt;

const SECTOR: usize = 512;

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC)
        .checksum(bytes)
        .to_le_bytes()
}

fn fix(image: &mut [u8], at: usize) {
    let Some(header) = image.get(at..at + 92) else {
        return;
    };
    let number = |from: usize| {
        header[from..from + 4]
            .try_into()
            .map_or(0, u32::from_le_bytes)
    };
    let start = header[72..80].try_into().map_or(0, u64::from_le_bytes);
    let length = number(80).saturating_mul(number(84)) as usize;
    let start = usize::try_from(start)
        .unwrap_or(usize::MAX)
        .saturating_mul(SECTOR);
    let sum = image.get(start..start.saturating_add(length)).map(crc);
    if let Some(sum) = sum {
        image[at + 88..at + 92].copy_from_slice(&sum);
    }
    image[at..at + 8].copy_from_slice(b"EFI PART");
    image[at + 16..at + 20].fill(0);
    let sum = crc(&image[at..at + 92]);
    image[at + 16..at + 20].copy_from_slice(&sum);
}

fuzz_target!(|data: &[u8]| {
    let mut image = data.to_vec();
    image.resize(image.len().max(3 * SECTOR).next_multiple_of(SECTOR), 0);
    image[450] = 0xee;
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    fix(&mut image, SECTOR);
    let last = image.len() - SECTOR;
    fix(&mut image, last);
    let length = image.len() as u64;
    if let Ok(Some(table)) = gpt::read(&mut Cursor::new(&image), length) {
        for entry in table.entries {
            assert!(entry.offset + entry.size <= length);
        }
    }
});
