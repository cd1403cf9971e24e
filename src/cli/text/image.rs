//! An image as text: its partitions as a bar and a table, then everything else in named rows.

use std::fmt::Write as _;

use super::findings::{size, table};
use crate::image::dissect::{Ddi, Layout, SignatureState};
use crate::image::gpt;
use crate::image::gpt::types::{PartitionType, Role};
use crate::image::gpt::{Entry, Table};
use crate::image::read::FsKind;
use crate::inspect::{Change, Difference, Inspection, Survey};
use crate::io::hex;

/// Columns of the bar.
const BAR: usize = 78;
/// Most folders that are shown.
const MAX_FOLDERS: usize = 24;
/// Most units and files with privileges that are shown.
const MAX_NAMES: usize = 12;

/// Most characters of a value that differs.
const MAX_VALUE: usize = 64;

/// Rows of a name and a value; the name stands once for several values.
#[derive(Default)]
struct Rows(Vec<Vec<String>>);

impl Rows {
    fn add(&mut self, what: &str, value: impl Into<String>) {
        self.0.push(vec![what.to_owned(), value.into()]);
    }

    /// Several values below each other.
    fn add_all(&mut self, what: &str, values: impl IntoIterator<Item = String>) {
        for (index, value) in values.into_iter().enumerate() {
            self.add(if index == 0 { what } else { "" }, value);
        }
    }
}

/// What an image is.
pub(crate) fn image(inspection: &Inspection) -> String {
    let ddi = &inspection.image;
    let file = ddi.path.file_name().unwrap_or_default();
    let name = file.to_string_lossy().into_owned();
    let mut text = String::new();
    match &ddi.layout {
        Layout::Naked => {
            let what = ddi.fs_kind.map_or("an unknown file system", FsKind::name);
            let what = format!("{name}: {what}, {}, no partition table", size(ddi.size));
            text.push_str(&table(&[vec![what]]));
        }
        Layout::Gpt(gpt) => {
            let _ = writeln!(text, "{}", bar(gpt, ddi.size));
            text.push_str(&partitions(gpt, &name));
        }
    }
    text.push('\n');
    let mut rows = Rows::default();
    if let Some(wrapped) = ddi.compressed {
        let (codec, packed) = (wrapped.codec.name(), size(wrapped.size));
        let what = format!("{codec}, {packed}: systemd takes it only unpacked");
        rows.add("wrapped by", what);
    }
    identity(ddi, &mut rows);
    file_system(ddi, &mut rows);
    verity(ddi, &mut rows);
    signature(ddi, &mut rows);
    for sidecar in &inspection.sidecars {
        let shown = sidecar.path.display().to_string();
        let what = match &sidecar.hash {
            Some(hash) => format!("{shown}: {} {hash}", sidecar.kind.noun()),
            None => format!("{shown}: {}, {}", sidecar.kind.noun(), size(sidecar.size)),
        };
        rows.add("beside it", what);
    }
    content(ddi, &mut rows);
    if let Some(survey) = &inspection.survey {
        counts(survey, &mut rows);
    }
    text.push_str(&table(&rows.0));
    if let Some(survey) = &inspection.survey {
        text.push_str(&tree(survey));
    }
    text
}

/// The partitions to scale, each at least wide enough to be seen.
fn bar(gpt: &Table, total: u64) -> String {
    let mut entries: Vec<&Entry> = gpt.entries.iter().collect();
    entries.sort_by_key(|entry| entry.offset);
    let used: u64 = entries
        .iter()
        .fold(0, |sum, entry| sum.saturating_add(entry.size));
    let scale = u128::from(used.max(1));
    let room = BAR.saturating_sub(1 + entries.len() * 4);
    let mut text = String::from("|");
    for entry in entries {
        let share = u128::from(entry.size) * room as u128 / scale;
        let width = 3 + usize::try_from(share).unwrap_or(room);
        let role = match entry.partition_type().map(|kind| kind.role) {
            Some(Role::Data) => " data",
            Some(Role::Verity) => " hashes",
            Some(Role::Signature) => " signature",
            None => "",
        };
        let bare = format!(" {}", entry.number);
        let named = format!("{bare}{role}");
        let full = format!("{named} {}", size(entry.size));
        let label = [full, named, bare]
            .into_iter()
            .find(|label| label.len() < width)
            .unwrap_or_default();
        let _ = write!(text, "{label:<width$}|");
    }
    let _ = write!(text, " {}", size(total));
    text
}

/// The table of `systemd-dissect` and `fdisk -l`.
fn partitions(gpt: &Table, name: &str) -> String {
    let heads = ["Device", "Start", "End", "Size", "Type", "Label", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for entry in &gpt.entries {
        let kind = entry
            .partition_type()
            .map_or_else(|| entry.type_guid.to_string(), PartitionType::display_name);
        let sector = gpt.sector_size.max(1);
        let end = entry.offset.saturating_add(entry.size);
        let flags = [
            (gpt::READ_ONLY, "read-only"),
            (gpt::GROW_FS, "growfs"),
            (gpt::NO_AUTO, "no-auto"),
        ];
        let flags = flags
            .iter()
            .filter(|(bit, _)| entry.attributes & bit != 0)
            .map(|(_, name)| *name)
            .collect::<Vec<_>>();
        rows.push(vec![
            format!("{name}{}", entry.number),
            (entry.offset / sector).to_string(),
            (end / sector).saturating_sub(1).to_string(),
            size(entry.size),
            kind,
            entry.label.clone(),
            flags.join(" "),
        ]);
    }
    table(&rows)
}

fn identity(ddi: &Ddi, rows: &mut Rows) {
    let Layout::Gpt(gpt) = &ddi.layout else {
        return;
    };
    rows.add("disk id", gpt.disk_guid.to_string());
    for entry in &gpt.entries {
        rows.add(&format!("id of {}", entry.number), entry.guid.to_string());
    }
    let arch = ddi.arch.map_or("any architecture", |arch| arch.name());
    let inside = ddi.designator.name();
    rows.add("stands for", format!("{inside}, {arch}"));
    if gpt.from_backup {
        rows.add("partition table", "the backup; the first one is damaged");
    }
}

fn file_system(ddi: &Ddi, rows: &mut Rows) {
    let Some(kind) = ddi.fs_kind else { return };
    let mut words = vec![kind.name().to_owned()];
    let details = ddi.fs.as_ref();
    words.extend(details.into_iter().flat_map(|it| it.compression.clone()));
    if let Some(block) = details.and_then(|it| it.block_size) {
        words.push(format!("blocks of {block} bytes"));
    }
    rows.add("file system", words.join(", "));
    if let Some(details) = details {
        if !details.features.is_empty() {
            rows.add("features", details.features.join(" "));
        }
        if let Some(uuid) = &details.uuid {
            rows.add("file system id", uuid.clone());
        }
    }
}

fn verity(ddi: &Ddi, rows: &mut Rows) {
    let Some(superblock) = &ddi.superblock else {
        if ddi.hash.is_none() {
            rows.add("verity", "none: nothing protects the content");
        }
        return;
    };
    rows.add(
        "verity",
        format!(
            "{}, {} blocks of {} bytes, hashes in blocks of {} bytes",
            superblock.algorithm.name(),
            superblock.data_blocks,
            superblock.data_block_size,
            superblock.hash_block_size
        ),
    );
    if let Some(hash) = &ddi.root_hash {
        rows.add("root hash", hash.to_string());
    }
    rows.add("verity salt", hex::encode(&superblock.salt));
    rows.add(
        "verity id",
        uuid::Uuid::from_bytes(superblock.uuid).to_string(),
    );
}

fn signature(ddi: &Ddi, rows: &mut Rows) {
    match &ddi.signature {
        SignatureState::Absent => {}
        SignatureState::Empty => rows.add("signature", "not made yet; there is room for it"),
        SignatureState::Unusable(why) => rows.add("signature", format!("unusable: {why}")),
        SignatureState::Present { signers, .. } => {
            for signer in signers {
                let Some(certificate) = &signer.certificate else {
                    let who = format!("issuer {}, serial {}", signer.issuer, signer.serial);
                    rows.add("signed by", who);
                    continue;
                };
                rows.add("signed by", certificate.subject.clone());
                let (from, to) = (&certificate.not_before, &certificate.not_after);
                rows.add("valid", format!("{from} to {to}"));
                rows.add("fingerprint", certificate.fingerprint_sha256_hex.clone());
            }
        }
    }
}

fn content(ddi: &Ddi, rows: &mut Rows) {
    let Some(content) = &ddi.content else { return };
    if content.releases.is_empty() {
        rows.add("release file", "none: systemd does not take it");
    }
    for release in &content.releases {
        let name = format!("extension-release.{}", release.suffix);
        rows.add(
            "release file",
            match &release.problem {
                Some(problem) => format!("{name}: {problem}"),
                None => format!("{name} ({})", release.kind.name()),
            },
        );
        for (key, value) in release.fields.iter().flat_map(|fields| fields.iter()) {
            rows.add("", format!("{key}={value}"));
        }
    }
    if content.has_os_release {
        rows.add("os-release", "inside, which systemd refuses");
    }
    if !content.outside.is_empty() {
        rows.add("never merged", content.outside.join(" "));
    }
    rows.add_all("units", some(content.units.clone()));
}

/// The first few, and how many more there are.
fn some(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(MAX_NAMES);
    if more > 0 {
        names.truncate(MAX_NAMES);
        names.push(format!("and {more} more"));
    }
    names
}

fn counts(survey: &Survey, rows: &mut Rows) {
    let mut counts = format!(
        "{} files, {}; {} folders, {} links",
        survey.files,
        size(survey.bytes),
        survey.folders,
        survey.links
    );
    if survey.others > 0 {
        let _ = write!(counts, ", {} pipes, sockets or devices", survey.others);
    }
    rows.add("content", counts);
    if survey.foreign_owners > 0 {
        rows.add(
            "owners",
            format!("{} entries are not root's", survey.foreign_owners),
        );
    }
    let privileged = survey.privileged.iter();
    let privileged = privileged.map(|it| format!("{} ({})", it.path.display(), it.by.join(", ")));
    rows.add_all("privileges", some(privileged.collect()));
}

/// The top of the tree, and what takes the most room in it.
fn tree(survey: &Survey) -> String {
    let mut folders: Vec<Vec<String>> = Vec::new();
    for folder in survey.top.iter().take(MAX_FOLDERS) {
        let depth = folder.path.components().count().saturating_sub(2);
        let name = folder.path.file_name().unwrap_or_default();
        folders.push(vec![
            format!("  {}{}/", "  ".repeat(depth), name.to_string_lossy()),
            match folder.files {
                1 => "1 file".to_owned(),
                count => format!("{count} files"),
            },
            size(folder.bytes),
        ]);
    }
    let more = survey.top.len().saturating_sub(MAX_FOLDERS);
    if more > 0 {
        folders.push(vec![format!("  and {more} more folders")]);
    }
    let mut text = format!("\n{}", table(&folders));
    if !survey.largest.is_empty() {
        text.push_str("\nlargest files\n");
        let rows = survey.largest.iter();
        let rows = rows.map(|it| {
            vec![
                format!("  {}", size(it.size)),
                it.path.display().to_string(),
            ]
        });
        text.push_str(&table(&rows.collect::<Vec<_>>()));
    }
    text
}

/// What two images differ in: `-` the first, `+` the second, `~` both.
pub(crate) fn difference(difference: &Difference) -> String {
    if difference.equal {
        return "no difference\n".to_owned();
    }
    let mut rows = Vec::new();
    let value = |value: &Option<String>| value.as_ref().map_or("-".to_owned(), |it| short(it));
    let change = |one, other| format!("{} -> {}", value(one), value(other));
    for field in &difference.fields {
        rows.push(vec![field.name.clone(), change(&field.one, &field.other)]);
    }
    let mut text = table(&rows);
    let mut rows = Vec::new();
    for changed in &difference.paths {
        let sign = match changed.change {
            Change::Added => "+",
            Change::Removed => "-",
            Change::Changed => "~",
        };
        let what = changed.what.iter();
        let what = what.map(|it| format!("{} {}", it.name, change(&it.one, &it.other)));
        let path = format!("{sign} {}", changed.path.display());
        rows.push(vec![path, what.collect::<Vec<_>>().join("; ")]);
    }
    text.push_str(&table(&rows));
    text
}

/// The start of long values, such as signatures.
fn short(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}...", value.get(..end).unwrap_or(value)),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn every_partition_is_seen_in_the_bar() {
        let entry = |number: u32, size| Entry {
            number,
            type_guid: Uuid::nil(),
            guid: Uuid::nil(),
            offset: u64::from(number) << 40,
            size,
            attributes: 0,
            label: String::new(),
        };
        let mut gpt = Table {
            sector_size: 512,
            disk_guid: Uuid::nil(),
            entries: vec![entry(1, 90 << 20), entry(2, 1 << 20), entry(3, 16384)],
            from_backup: false,
        };
        let shown = bar(&gpt, 92 << 20);
        assert!(shown.starts_with("| 1 90M "), "{shown}");
        assert!(shown.ends_with("| 2 | 3 | 92M"), "{shown}");
        assert!((BAR - 4..BAR + 6).contains(&shown.len()), "{shown}");
        gpt.entries = (1..=128).map(|number| entry(number, u64::MAX)).collect();
        assert_eq!(bar(&gpt, 0).matches('|').count(), 129);
        gpt.entries.clear();
        assert_eq!(bar(&gpt, 512), "| 512B");
    }
}
