//! `import-mkosi`: a mkosi configuration as the block that is the same.

use super::args::ImportMkosi;
use super::output::{Failure, Screen};
use crate::config::mkosi_import::{block, block_text, import, needed};
use crate::output::{Import, versioned};

pub(crate) fn import_mkosi(screen: &Screen, args: &ImportMkosi) -> Result<(), Failure> {
    let imported = import(&args.file, &args.file)?;
    let value = versioned(Import {
        config: serde_json::to_value(block(&imported)).map_err(anyhow::Error::from)?,
        remarks: &imported.remarks,
        not_covered: &imported.foreign,
    });
    screen.result(&block_text(&imported).map_err(anyhow::Error::from)?, &value)?;
    match needed(&imported.foreign) {
        Some(finding) => Err(finding.help("complete the block by hand, or let mkosi build the image and name that with `image`").into()),
        None => Ok(()),
    }
}
