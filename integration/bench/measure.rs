//! One run of one builder, measured from beside it: a process that starts the builder, syncs what
//! it made and says what that took.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// The word that makes this program such a process; then come the outputs, `--` and the command.
pub const COMMAND: &str = "measure";

/// What a run took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Run {
    /// From the start to the end of the last sync.
    pub wall_seconds: f64,
    /// User and system time of the builder with all its children.
    pub cpu_seconds: f64,
    /// Of the largest process.
    pub peak_bytes: u64,
    /// By system calls; what is read or written through mappings is not in it.
    pub read_bytes: u64,
    /// By system calls.
    pub written_bytes: u64,
}

/// Runs the builder and prints a [`Run`] as JSON.
pub fn child(args: &[String]) {
    let middle = args.iter().position(|arg| arg == "--").unwrap();
    let (outputs, command) = (&args[..middle], &args[middle + 1..]);
    for output in outputs {
        let _ = fs::remove_file(output);
    }
    rustix::fs::sync();
    let (read_before, written_before) = transferred();
    let start = Instant::now();
    let said = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{command:?}: {}\n{}{}",
        said.status,
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    for output in outputs {
        File::open(output).unwrap().sync_all().unwrap();
    }
    let wall_seconds = start.elapsed().as_secs_f64();
    let (read, written) = transferred();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let run = Run {
        wall_seconds,
        cpu_seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_bytes: usage.max_rss().unsigned_abs() * 1024,
        read_bytes: read - read_before,
        written_bytes: written - written_before,
    };
    println!("{}", serde_json::to_string(&run).unwrap());
}

/// Bytes read and written by this process and those it has waited for (proc_pid_io(5)).
fn transferred() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    (field("rchar:"), field("wchar:"))
}
