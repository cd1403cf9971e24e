//! `expand` and `customize`: with Prism.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::apply::{judge, refuse_unsigned};
use super::args::{BaseArgs, ConfigFile, Customize, Expand, Overrides, Style};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::{findings, plan};
use super::trident::trident;
use crate::chain::Chain;
use crate::config::Config;
use crate::expand::ExpandError;
use crate::finding::{Finding, Place};
use crate::io::atomic_file::write_whole;
use crate::io::open;
use crate::output::{Expansion, versioned};
use crate::plan::Environment;
use crate::session::imagecustomizer::{Invocation, Run, Verb};
use crate::session::{Session, imagecustomizer};
use crate::{build, expand as library};

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
            ..Environment::default()
        };
        let session = Session::of(screen, chain, &args.base, environment)?;
        session.only_images()?;
        session.images_ready()?;
        refuse_unsigned(&session, args.allow_unsigned)?;
        session.room()?;
        let mut noticed = session.sparse();
        noticed.extend(session.units_inside());
        screen.findings(Some(&session.config.source), &noticed);
        let files = match args.style {
            Style::Inline => expanded(&session, path)?,
            Style::Base => on_top(&session, path)?,
        };
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

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    write_whole(path, text.as_bytes(), 0o644).map_err(Failure::Other)
}

/// Writes plain configs, what others build on first.
pub(crate) fn write_all(files: &[(PathBuf, String)]) -> Result<(), Failure> {
    for (path, text) in files {
        write(path, text)?;
    }
    Ok(())
}

/// `config.yaml` becomes `config.prism.yaml`, in the same folder so that relative paths stay right.
fn beside(config: &Path) -> PathBuf {
    let stem = config.file_stem().unwrap_or_default().to_owned();
    let mut name = stem;
    name.push(".prism.yaml");
    config.with_file_name(name)
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

/// The name of the plain config of a base, which lies beside it.
fn name_beside(config: &Config) -> OsString {
    let path = beside(&config.source.path);
    path.file_name().unwrap_or_default().to_owned()
}

/// The plain configs of a session and where they go, the given config's last, at `path`.
pub(crate) fn expanded(
    session: &Session,
    path: PathBuf,
) -> Result<Vec<(PathBuf, String)>, Failure> {
    let texts = texts(session, name_beside)?;
    let last = session.chain.links().len().saturating_sub(1);
    let placed = texts.into_iter().filter_map(|(number, text)| {
        let link = session.chain.links().get(number)?;
        let place = match number == last {
            true => path.clone(),
            false => beside(&link.config.source.path),
        };
        Some((place, text))
    });
    Ok(placed.collect())
}

/// The plain configs of a session by the number of their link; `name` gives file names.
fn texts(
    session: &Session,
    name: impl Fn(&Config) -> OsString,
) -> Result<Vec<(usize, String)>, Failure> {
    let texts = session.added.expanded(&session.chain, name);
    texts.map_err(|(number, error)| not_expanded(session, number, &error))
}

/// What `--style base` writes: the config without its section in a file of its own, and a small
/// config on top of that which holds nothing but what is added.
fn on_top(session: &Session, path: PathBuf) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut files = expanded(session, path.clone())?;
    files.pop();
    let last = session.chain.links().len().saturating_sub(1);
    let refuse = |(number, error): (usize, ExpandError)| not_expanded(session, number, &error);
    let bare = session
        .added
        .without_section(&session.chain, last, name_beside);
    let bare = bare.map_err(refuse)?;
    let own = &session.config.source.path;
    let mut name = own.file_stem().unwrap_or_default().to_owned();
    name.push(".base.prism.yaml");
    let start = serde_json::json!({
        "previewFeatures": ["base-configs"],
        "baseConfigs": [{"path": name.to_string_lossy()}],
    });
    let start = serde_yaml::to_string(&start).map_err(anyhow::Error::from)?;
    let top = library::expand(&start, session.added.of(last));
    let top = top.map_err(|error| refuse((last, error)))?;
    files.push((own.with_file_name(name), bare));
    files.push((path, top));
    Ok(files)
}

fn not_expanded(session: &Session, number: usize, error: &ExpandError) -> Failure {
    let source = session.chain.links().get(number);
    let source = source.map_or(&session.config.source, |link| &link.config.source);
    let finding = Finding::error("not-expanded", error.to_string());
    let finding = match error.place() {
        Some((line, column)) => Finding {
            place: Some(Place::Position {
                line,
                column: column.unwrap_or(1),
            }),
            ..finding
        },
        None => finding.in_file(&source.path),
    };
    Failure::Findings(Some(Box::new(source.clone())), vec![finding])
}

pub(crate) fn customize(screen: &Screen, args: Customize) -> Result<(), Failure> {
    let (args, base) = own_flags(args)?;
    let (verb, flags) = Verb::among(&args.flags);
    let mut prism = vec![OsString::from(verb.name())];
    prism.extend(flags);
    let config = &args.config.config_file;
    if verb != Verb::Convert {
        prism.extend(["--config-file".into(), config.into()]);
    }
    let invocation = Invocation {
        program: args.imagecustomizer,
        args: prism,
    };
    let chain = match verb {
        Verb::Customize | Verb::ValidateConfig => Some(Chain::read(config)?),
        // What is wrong with it is for Prism to say.
        Verb::Create => Chain::read(config).ok(),
        Verb::InjectFiles | Verb::Convert => None,
    };
    let chain = chain.filter(|chain| chain.sections().next().is_some());
    let status = match (verb, chain) {
        (Verb::Create, Some(_)) => {
            return Err(Finding::error("create-not-possible", "`imagecustomizer create` adds no files, so no extensions")
                .in_file(config)
                .because("Prism refuses `os.additionalFiles` for `create`")
                .help("create the image from a config without `sysext`, and give it to `customize` as --image-file")
                .into());
        }
        (Verb::ValidateConfig, Some(chain)) => {
            let environment = Environment {
                names_only: true,
                ..Environment::default()
            };
            let session = Session::of(screen, chain, &base, environment)?;
            session.only_images()?;
            on_plain(&session, &invocation)?
        }
        (_, Some(chain)) => {
            let environment = Environment {
                builds: true,
                ..Environment::default()
            };
            let session = Session::of(screen, chain, &base, environment)?;
            session.only_images()?;
            let built = session.build(screen)?;
            screen.findings(Some(&session.config.source), &session.noticed(&built));
            refuse_unsigned(&session, args.overrides.allow_unsigned)?;
            session.room()?;
            screen.findings(Some(&session.config.source), &session.sparse());
            let prediction = watch(screen, |progress| session.predict(progress))?;
            judge(
                screen,
                Some(&session.config.source),
                &prediction,
                args.overrides.allowed(),
            )?;
            screen.say(plan::prediction(&prediction).trim_end());
            build::write_manifest(&session.plan, &built, &overrides(args.overrides))?;
            on_plain(&session, &invocation)?
        }
        (_, None) => imagecustomizer::run_as_it_is(&invocation)?,
    };
    match imagecustomizer::exit_code(status) {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}

/// Runs Prism on the plain configs of a session, each beside its source for as long.
fn on_plain(session: &Session, invocation: &Invocation) -> Result<ExitStatus, Failure> {
    let mut run = Run::begin()?;
    let mut names: BTreeMap<PathBuf, OsString> = BTreeMap::new();
    let links = session.chain.links();
    for (number, link) in links.iter().enumerate() {
        if session.chain.needs_expansion(link) || number + 1 == links.len() {
            let path = &link.config.source.path;
            names.insert(path.clone(), run.reserve(path)?);
        }
    }
    let name = |config: &Config| names.get(&config.source.path).cloned().unwrap_or_default();
    for (number, (_, text)) in texts(session, name)?.iter().enumerate() {
        run.write(number, text)?;
    }
    Ok(run.start(invocation)?)
}

fn overrides(overrides: Overrides) -> Vec<String> {
    [
        ("--allow-unknown", overrides.allow_unknown),
        ("--allow-unsigned", overrides.allow_unsigned),
    ]
    .into_iter()
    .filter(|(_, given)| *given)
    .map(|(flag, _)| flag.to_owned())
    .collect()
}

/// Our own flags may stand anywhere among Prism's; after the first of Prism's the parser leaves
/// all to us.
fn own_flags(args: Customize) -> Result<(Customize, BaseArgs), Failure> {
    let Customize {
        mut config,
        mut imagecustomizer,
        mut base,
        mut overrides,
        flags,
    } = args;
    let (mut rest, mut input_image) = (Vec::new(), None);
    let mut flags = flags.into_iter();
    while let Some(flag) = flags.next() {
        let text = flag.to_string_lossy().into_owned();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (text, None),
        };
        let mut value = || {
            value.clone().or_else(|| flags.next()).ok_or_else(|| {
                super::usage(&format!("{name} needs a value"));
                Failure::Said(2)
            })
        };
        match name.as_str() {
            "--config-file" => {
                config = ConfigFile {
                    config_file: value()?.into(),
                }
            }
            "--imagecustomizer" => imagecustomizer = value()?,
            "--rootfs" => base.rootfs = Some(value()?.into()),
            "--target" => {
                base.target = Some(value()?.to_string_lossy().into_owned());
            }
            // Prism's, which tells us the base.
            "--image-file" => {
                let is_apart = !flag.as_encoded_bytes().contains(&b'=');
                let path = value()?;
                rest.push(flag);
                rest.extend(is_apart.then(|| path.clone()));
                input_image = Some(path.into());
            }
            "--allow-unknown" => overrides.allow_unknown = true,
            "--allow-unsigned" => overrides.allow_unsigned = true,
            _ => rest.push(flag),
        }
    }
    if base.rootfs.is_some() && base.target.is_some() {
        super::usage("`--rootfs` can't be used with `--target`");
        return Err(Failure::Said(2));
    }
    let known = BaseArgs {
        rootfs: base.rootfs.clone(),
        target: base.target.clone(),
        input_image,
        ..BaseArgs::default()
    };
    let args = Customize {
        config,
        imagecustomizer,
        base,
        overrides,
        flags: rest,
    };
    Ok((args, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cli::args::KnownBase;

    #[test]
    fn own_flags_are_found_among_prisms() {
        let args = Customize {
            config: ConfigFile {
                config_file: "./config.yaml".into(),
            },
            imagecustomizer: "imagecustomizer".into(),
            base: KnownBase::default(),
            overrides: Overrides::default(),
            flags: [
                "--build-dir",
                "b",
                "--config-file",
                "c.yaml",
                "--allow-unknown",
                "--image-file=i",
                "--target=debian-13",
            ]
            .map(OsString::from)
            .to_vec(),
        };
        let (args, base) = own_flags(args).unwrap();
        assert_eq!(args.config.config_file, PathBuf::from("c.yaml"));
        assert!(args.overrides.allow_unknown);
        assert_eq!(base.target.as_deref(), Some("debian-13"));
        assert_eq!(base.input_image.as_deref(), Some(Path::new("i")));
        assert_eq!(args.flags, ["--build-dir", "b", "--image-file=i"]);
    }

    #[test]
    fn the_expanded_config_lies_beside() {
        assert_eq!(
            beside(Path::new("a/config.yaml")),
            PathBuf::from("a/config.prism.yaml")
        );
        assert_eq!(beside(Path::new("./c")), PathBuf::from("./c.prism.yaml"));
    }
}
