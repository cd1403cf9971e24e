//! `customize`: build, check and expand, then run Prism.

use std::ffi::OsString;

use super::args::{ConfigFile, Customize, Overrides};
use super::environment::{build, environment};
use super::output::{Failure, Screen};
use super::progress::watch;
use super::text::plan;
use super::verdict::judge;
use crate::chain::Chain;
use crate::finding::Finding;
use crate::plan::Environment;
use crate::session::imagecustomizer::{Invocation, Verb};
use crate::session::{BaseChoice, Session, imagecustomizer};

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
                ..environment()?
            };
            let (session, noticed) = Session::of(chain, &base, &environment)?;
            screen.noticed(&noticed);
            session.only_images()?;
            session.run_prism(&invocation)?
        }
        (_, Some(chain)) => {
            let environment = Environment {
                builds: true,
                ..environment()?
            };
            let (session, noticed) = Session::of(chain, &base, &environment)?;
            screen.noticed(&noticed);
            let source = Some(&session.config.source);
            session.only_images()?;
            let built = build(screen, &session)?;
            screen.findings(source, &session.noticed(&built));
            if !args.overrides.allow_unsigned {
                session.all_signed()?;
            }
            session.room()?;
            screen.findings(source, &session.sparse());
            let prediction = watch(screen, |progress| session.predict(progress))?;
            judge(screen, source, &prediction, args.overrides.allowed())?;
            screen.say(plan::prediction(&prediction).trim_end());
            session.write_manifest(&built, &overrides(args.overrides))?;
            session.run_prism(&invocation)?
        }
        (_, None) => imagecustomizer::run_as_it_is(&invocation)?,
    };
    match imagecustomizer::exit_code(status) {
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
fn own_flags(args: Customize) -> Result<(Customize, BaseChoice), Failure> {
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
    let known = BaseChoice {
        rootfs: base.rootfs.clone(),
        target: base.target.clone(),
        input_image,
        ..BaseChoice::default()
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
    use std::path::{Path, PathBuf};

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
}
