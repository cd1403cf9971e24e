//! The command line: what was typed, one function per verb, and how results are shown.

mod apply;
mod args;
mod build;
mod check;
mod customize;
mod demo;
mod diff;
mod environment;
mod expand;
mod import_mkosi;
mod inspect;
mod list;
mod output;
mod progress;
mod prompt;
mod remove;
mod schema;
mod sign;
mod text;
mod trident;
mod validate_config;
mod verdict;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command, Sign};
use output::{Failure, Screen};

/// Runs one command: 0 done and good, 1 failed or a bad verdict, 2 usage.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap itself knows which stream help and errors belong to.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(2),
            };
        }
    };
    let screen = Screen::new(cli.output, cli.quiet);
    let status = match verb(&screen, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => screen.failure(&failure),
    };
    screen.finish();
    status
}

fn verb(screen: &Screen, command: Command) -> Result<(), Failure> {
    match command {
        Command::Customize(args) => customize::customize(screen, args),
        Command::Apply(args) => apply::apply(screen, &args),
        Command::Build(args) => build::build(screen, &args),
        Command::Expand(args) => expand::expand(screen, &args),
        Command::ValidateConfig(args) => validate_config::validate_config(screen, &args),
        Command::Check(args) => check::check(screen, &args),
        Command::Diff(args) => diff::diff(screen, &args),
        Command::Inspect(args) => inspect::inspect(screen, &args),
        Command::Verify(args) => verify::verify(screen, &args),
        Command::Sign(Sign::Keygen(args)) => sign::keygen(screen, &args),
        Command::Sign(Sign::Request(args)) => sign::request(screen, &args),
        Command::Sign(Sign::Attach(args)) => sign::attach(screen, &args),
        Command::Sign(Sign::Resign(args)) => sign::resign(screen, &args),
        Command::Remove(args) => remove::remove(screen, &args),
        Command::List(args) => list::list(screen, &args),
        Command::ImportMkosi(args) => import_mkosi::import_mkosi(screen, &args),
        Command::Schema(args) => schema::schema(screen, &args),
        Command::Demo(args) => demo::demo(screen, &args),
    }
}

/// Says what is wrong with the flags, as clap does.
fn usage(message: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "error: {message}\n\nFor more information, try '--help'."
    );
}
