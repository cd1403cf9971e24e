//! `expand`: the plain Prism config.

use std::path::Path;

use super::args::Expand;
use super::environment::environment;
use super::output::{Failure, Screen};
use super::text::findings;
use super::trident::trident;
use crate::chain::Chain;
use crate::finding::Finding;
use crate::io::open;
use crate::output::{Expansion, versioned};
use crate::plan::Environment;
use crate::session::{Session, beside, write_all};

pub(crate) fn expand(screen: &Screen, args: &Expand) -> Result<(), Failure> {
    let chain = Chain::read(&args.config.config_file)?;
    let path = args
        .output_file
        .clone()
        .unwrap_or_else(|| beside(&args.config.config_file));
    let mut snippet = String::new();
    let files = if chain.sections().next().is_none() {
        let text = chain.top().map(|top| top.source.text.clone());
        vec![(path, text.unwrap_or_default())]
    } else {
        let environment = Environment {
            names_only: true,
            ..environment()?
        };
        let (session, noticed) = Session::of(chain, &args.base.choice(), &environment)?;
        screen.noticed(&noticed);
        session.only_images()?;
        session.images_ready()?;
        if !args.allow_unsigned {
            session.all_signed()?;
        }
        session.room()?;
        let mut noticed = session.sparse();
        noticed.extend(session.units_inside());
        screen.findings(Some(&session.config.source), &noticed);
        let files = session.expand(args.style.into(), &path)?;
        snippet = trident(screen, &session, &args.trident)?;
        files
    };
    let Some(((path, text), bases)) = files.split_last() else {
        return Ok(());
    };
    if path == Path::new("-") && !args.check {
        return screen.raw(text);
    }
    for (path, _) in &files {
        if same_file(path, &args.config.config_file) {
            return Err(Finding::error(
                "would-overwrite",
                "the expanded config would replace its own source",
            )
            .in_file(path)
            .help("choose another --output-file")
            .into());
        }
    }
    if args.check {
        for (path, text) in bases {
            fresh(path, text)?;
        }
        fresh(path, text)?;
        return screen.result(
            &format!("{} is up to date\n", findings::path(path)),
            &versioned(Expansion {
                expanded_config: path,
                expanded_bases: bases.iter().map(|(path, _)| path.as_path()).collect(),
                up_to_date: Some(true),
            }),
        );
    }
    write_all(&files)?;
    let mut told = format!("expanded config: {}\n", findings::path(path));
    for (path, _) in bases {
        told.push_str(&format!("which builds on: {}\n", findings::path(path)));
    }
    screen.result(
        &format!("{told}{snippet}"),
        &versioned(Expansion {
            expanded_config: path,
            expanded_bases: bases.iter().map(|(path, _)| path.as_path()).collect(),
            up_to_date: None,
        }),
    )
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// An error unless the file holds that text.
fn fresh(path: &Path, text: &str) -> Result<(), Failure> {
    // What is longer is stale as well.
    match open::read(path, text.len() as u64) {
        Ok(found) if found == text.as_bytes() => Ok(()),
        Ok(_) => Err(stale_text(path)),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Err(stale_text(path)),
        Err(error) => Err(Finding::error(
            "expansion-stale",
            format!("reading the expanded config: {error}"),
        )
        .in_file(path)
        .help("run `prism-sysext expand`")
        .into()),
    }
}

fn stale_text(path: &Path) -> Failure {
    Finding::error(
        "expansion-stale",
        "the expanded config is not what the config expands to now",
    )
    .in_file(path)
    .help("run `prism-sysext expand` again and commit the result")
    .into()
}
