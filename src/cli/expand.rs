//! `expand` and `customize`: with Prism.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::apply::{judge, refuse_unsigned};
use super::args::{BaseArgs, ConfigFile, Customize, Expand, Overrides};
use super::progress::watch;
use super::screen::{Failure, Screen};
use super::session::Session;
use super::trident::trident;
use super::{render, show};
use crate::base::unit::unit_name;
use crate::build;
use crate::config::Config;
use crate::config::model::Enable as ConfigEnable;
use crate::customize::{self, Invocation};
use crate::expand::{self as library, AdditionalFile, Additions, Enable, enable_script};
use crate::finding::{Finding, Place};
use crate::input;
use crate::plan::{Environment, Plan};
use crate::results::{Expansion, versioned};

pub(super) fn expand(screen: &Screen, args: &Expand) -> Result<(), Failure> {
    let config = Config::read(&args.config.config_file)?;
    let mut snippet = String::new();
    let text = if config.sysext.is_none() {
        config.source.text.clone()
    } else {
        let environment = Environment {
            names_only: true,
            ..Environment::default()
        };
        let session = Session::open(screen, &args.config, &args.base, environment)?;
        session.images_ready()?;
        refuse_unsigned(&session, args.allow_unsigned)?;
        session.room()?;
        let text = expanded_text(&session)?;
        snippet = trident(screen, &session, &args.trident)?;
        text
    };
    let path = args
        .output_file
        .clone()
        .unwrap_or_else(|| beside(&args.config.config_file));
    if args.check {
        return stale(screen, &path, &text);
    }
    if path == Path::new("-") {
        return screen.raw(&text);
    }
    if same_file(&path, &args.config.config_file) {
        return Err(Finding::error(
            "would-overwrite",
            "the expanded config would replace its own source",
        )
        .in_file(&path)
        .help("choose another --output-file")
        .into());
    }
    write(&path, &text)?;
    screen.result(
        &format!("expanded config: {}\n{snippet}", render::path(&path)),
        &versioned(Expansion {
            expanded_config: &path,
            up_to_date: None,
        }),
    )
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

fn stale(screen: &Screen, path: &Path, text: &str) -> Result<(), Failure> {
    // What is longer is stale as well.
    match input::read(path, text.len() as u64) {
        Ok(found) if found == text.as_bytes() => {
            let text = format!("{} is up to date\n", render::path(path));
            screen.result(
                &text,
                &versioned(Expansion {
                    expanded_config: path,
                    up_to_date: Some(true),
                }),
            )
        }
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

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    build::write_whole(path, text.as_bytes(), 0o644).map_err(Failure::Other)
}

/// The plain Prism config of a session.
pub(super) fn expanded_text(session: &Session) -> Result<String, Failure> {
    library::expand(&session.config.source.text, &additions(&session.plan)).map_err(|error| {
        let finding = Finding::error("not-expanded", error.to_string());
        let finding = match error.place() {
            Some((line, column)) => Finding {
                place: Some(Place::Position {
                    line,
                    column: column.unwrap_or(1),
                }),
                ..finding
            },
            None => finding.in_file(&session.config.source.path),
        };
        session.refuse(vec![finding])
    })
}

fn additions(plan: &Plan) -> Additions {
    let mut files: Vec<AdditionalFile> = plan
        .extensions
        .iter()
        .map(|planned| AdditionalFile {
            source: Some(planned.image_in_config.clone()),
            content: None,
            destination: planned.destination.clone(),
            permissions: "644".to_owned(),
        })
        .collect();
    for trusted in &plan.certificates {
        let source = trusted
            .as_is
            .as_ref()
            .map(|path| path.display().to_string());
        files.push(AdditionalFile {
            content: source.is_none().then(|| trusted.certificate.pem()),
            source,
            destination: plan.certificate_path(trusted),
            permissions: "644".to_owned(),
        });
    }
    let kinds = plan.kinds();
    files.extend(plan.drop_ins().into_iter().map(|drop_in| AdditionalFile {
        source: None,
        content: Some(drop_in.text),
        destination: drop_in.path,
        permissions: "644".to_owned(),
    }));
    let enable = match plan.enable {
        ConfigEnable::Script => {
            let (name, content) = enable_script(&kinds, plan.start);
            Enable::Script { name, content }
        }
        ConfigEnable::Service => Enable::Services {
            units: kinds
                .iter()
                .map(|kind| unit_name(*kind).to_owned())
                .collect(),
        },
        ConfigEnable::None => Enable::None,
    };
    Additions { files, enable }
}

pub(super) fn customize(screen: &Screen, args: Customize) -> Result<(), Failure> {
    let (args, base) = own_flags(args)?;
    let config = Config::read(&args.config.config_file)?;
    let text = if config.sysext.is_none() {
        config.source.text.clone()
    } else {
        let environment = Environment {
            builds: true,
            ..Environment::default()
        };
        let session = Session::open(screen, &args.config, &base, environment)?;
        let built = session.build(screen)?;
        screen.findings(Some(&session.config.source), &session.noticed(&built));
        refuse_unsigned(&session, args.overrides.allow_unsigned)?;
        session.room()?;
        let prediction = watch(screen, |progress| session.predict(progress))?;
        judge(
            screen,
            Some(&session.config.source),
            &prediction,
            args.overrides.allowed(),
        )?;
        screen.say(show::prediction(&prediction).trim_end());
        build::write_manifest(&session.plan, &built, &overrides(args.overrides))?;
        expanded_text(&session)?
    };
    let mut flags: Vec<OsString> = vec!["customize".into()];
    flags.extend(args.flags);
    let invocation = Invocation {
        program: args.imagecustomizer,
        args: flags,
    };
    let status = customize::run(&invocation, &text, &args.config.config_file)?;
    match customize::exit_code(status) {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
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
