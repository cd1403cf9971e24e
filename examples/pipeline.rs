//! A pipeline of one's own: builds what a config lists, predicts what becomes of it at boot, and
//! places it in a root file system only if all of it will be merged.
//!
//! ```sh
//! cargo run --example pipeline -- config.yaml ROOTFS
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program prints"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use prism_sysext::check::{Allowed, Prediction};
use prism_sysext::io::progress::Progress;
use prism_sysext::session::{BaseChoice, Placing, Request, Session, Stopped, open_root};
use prism_sysext::sign::passphrase::Secrets;

fn run(config: PathBuf, rootfs: PathBuf) -> Result<Prediction, Stopped> {
    let root = open_root(&rootfs)?;
    let base = BaseChoice {
        rootfs: Some(rootfs),
        ..BaseChoice::default()
    };
    let (session, noticed) = Session::open(&Request {
        config,
        base,
        ..Request::default()
    })?;
    for finding in noticed.findings() {
        eprintln!("{finding}");
    }
    // Keys come from files, or from variables that the config names; nobody is asked.
    let variable = |name: &str| std::env::var(name).ok();
    let secrets = Secrets::new(&variable, &|_| None);
    let progress = Progress::new();
    let built = session.build(&secrets, &progress)?;
    let prediction = session.predict(&progress)?;
    if prediction.is_good(Allowed::default()) {
        session.place(&root, &built, Placing::default(), &progress)?;
        session.write_manifest(&built, &[])?;
    }
    Ok(prediction)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(config), Some(rootfs)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: pipeline CONFIG ROOTFS");
        return ExitCode::from(2);
    };
    match run(config, rootfs) {
        Ok(prediction) => {
            for extension in &prediction.extensions {
                println!("{} {}", extension.verdict.word(), extension.path);
            }
            match prediction.is_good(Allowed::default()) {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(stopped) => {
            eprintln!("{stopped}");
            ExitCode::FAILURE
        }
    }
}
