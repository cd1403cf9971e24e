//! `build`: the images and the manifest.

use super::args::Build;
use super::environment::{build as build_images, environment};
use super::output::{Failure, Screen};
use super::text::{findings, plan};
use super::trident::trident;
use crate::output;
use crate::output::versioned;
use crate::plan::Environment;
use crate::session::{Request, Session};

pub(crate) fn build(screen: &Screen, args: &Build) -> Result<(), Failure> {
    let request = Request {
        config: args.config.config_file.clone(),
        base: args.base.choice(),
        environment: Environment {
            output_directory: args.output_dir.clone(),
            only: args.only.clone(),
            digests: args.digests,
            builds: true,
            ..environment()?
        },
    };
    let (session, noticed) = Session::open(&request)?;
    screen.noticed(&noticed);
    let built = build_images(screen, &session)?;
    screen.findings(Some(&session.config.source), &session.noticed(&built));
    let manifest = session.write_manifest(&built, &[])?;
    let entries: Vec<_> = built.images.iter().map(|image| &image.entry).collect();
    let snippet = trident(screen, &session, &args.trident)?;
    let text = format!(
        "{}manifest: {}\n{snippet}",
        plan::built(&built),
        findings::path(&manifest)
    );
    let result = output::Built {
        extensions: entries,
    };
    screen.result(&text, &versioned(result))
}
