//! What `apply` and `remove` did, for people.

use super::findings::table;
use crate::io::root::Ownership;
use crate::output::{Action, Changes};
use crate::systemd::kind::ExtensionKind;

/// What was placed or taken out.
pub(crate) fn text(changes: &Changes<'_>) -> String {
    let mut rows: Vec<Vec<String>> = changes
        .files
        .iter()
        .map(|file| vec![file.action.word().to_owned(), file.path.to_owned()])
        .collect();
    let services = [
        (ExtensionKind::Sysext, changes.service),
        (ExtensionKind::Confext, changes.confext_service),
    ];
    for (kind, action) in services {
        let word = match action {
            Action::None => continue,
            Action::Placed => "enabled",
            Action::Removed => "disabled",
            other => other.word(),
        };
        rows.push(vec![word.to_owned(), kind.unit().to_owned()]);
    }
    let mut text = table(&rows);
    if changes.ownership == Ownership::Caller {
        text.push_str("ownership: caller (you are not root, so the files are yours)\n");
    }
    text
}
