//! `schema`: JSON schemas of configs and results.

use super::args::Schema;
use super::output::{Failure, Screen};
use super::text::findings;
use crate::finding::Finding;
use crate::io::atomic_file::write_whole;
use crate::io::open;
use crate::output::{schema, schema_merge};

/// Longest schema that is read, in bytes; Prism's has 60 KiB.
const MAX_SCHEMA_BYTES: u64 = 4 << 20;

pub(crate) fn schema(screen: &Screen, args: &Schema) -> Result<(), Failure> {
    if let Some(folder) = &args.write {
        let mut written = Vec::new();
        for (name, text) in schema::files() {
            let path = folder.join(name);
            write_whole(&path, text.as_bytes(), 0o644)?;
            written.push(path);
        }
        let lines: Vec<String> = written
            .iter()
            .map(|path| format!("schema: {}\n", findings::path(path)))
            .collect();
        return screen.result(
            &lines.concat(),
            &serde_json::json!({"schemaVersion": 1, "schemas": written}),
        );
    }
    if let Some(path) = &args.merge {
        let unreadable = |error: String| {
            Finding::error("schema-merge", format!("reading the schema: {error}")).in_file(path)
        };
        let bytes = open::read(path, MAX_SCHEMA_BYTES).map_err(|it| unreadable(it.to_string()))?;
        let text =
            String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
        let merged = schema_merge::merge(&text).map_err(|finding| finding.in_file(path))?;
        return screen.raw(&merged);
    }
    let name = if args.block { "block" } else { &args.kind };
    let kind = schema::KINDS.iter().find(|kind| kind.name == name);
    // The command line takes no other names.
    let schema = kind.map_or_else(schema::whole_file, |kind| (kind.make)());
    screen.raw(&format!("{schema:#}\n"))
}
