//! `list`: what a base carries.

use super::args::List;
use super::output::{Failure, Screen};
use super::text::findings;
use crate::output::versioned;
use crate::place;
use crate::session::{BaseChoice, find_base};
use crate::systemd::kind::ExtensionKind;

pub(crate) fn list(screen: &Screen, args: &List) -> Result<(), Failure> {
    let choice = BaseChoice {
        rootfs: args.rootfs.clone(),
        image_file: args.image_file.clone(),
        ..BaseChoice::default()
    };
    let found = find_base(None, &choice)?;
    let (Some(root), Some(base)) = (&found.root, &found.base) else {
        return Err(Failure::Said(2));
    };
    let listing = place::list(root.as_ref(), base);
    screen.findings(None, &listing.findings);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let whose = |ours: bool| if ours { "ours" } else { "other" }.to_owned();
    for extension in listing.extensions.iter().chain(&listing.confexts) {
        rows.push(vec![whose(extension.ours), extension.path.clone()]);
    }
    for certificate in &listing.certificates {
        rows.push(vec![
            whose(certificate.ours),
            certificate.path.clone(),
            certificate.subject.clone(),
        ]);
    }
    let mut services = vec![(ExtensionKind::Sysext, &listing.service)];
    if !listing.confexts.is_empty() {
        services.push((ExtensionKind::Confext, &listing.confext_service));
    }
    for (kind, service) in services {
        let state = match (&service.path, service.masked, service.enabled) {
            (None, ..) => "missing",
            (_, true, _) => "masked",
            (_, _, true) => "enabled",
            _ => "disabled",
        };
        rows.push(vec![state.to_owned(), kind.unit().to_owned()]);
    }
    screen.result(&findings::table(&rows), &versioned(listing))
}
