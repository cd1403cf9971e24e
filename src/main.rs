//! The command line of prism-sysext.

fn main() -> std::process::ExitCode {
    prism_sysext::cli::run()
}
