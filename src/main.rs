//! The command line of prism-sysext.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
