//! How long the verbs take that build nothing, on large input.
//!
//! `cargo bench --bench verbs [-- check verify inspect config]`. Each is run five times after one
//! that is not counted; seconds are medians, with the fastest and the slowest, memory the largest
//! resident size. `verify` is run in turns with `veritysetup verify` on the same partitions.

#![allow(
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used
)]

mod measure;
#[path = "../harness/sample.rs"]
mod sample;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use measure::Run;
use prism_sysext::build::assemble::{Protection, threads};
use prism_sysext::image::ImageFormat;
use prism_sysext::image::dissect;
use prism_sysext::tree::{Source, Tree};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_prism-sysext");
const RUNS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == measure::COMMAND
    {
        return measure::child(rest);
    }
    let args: Vec<String> = args.into_iter().filter(|arg| arg != "--bench").collect();
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    println!("| verb | input | seconds (min–max) | peak MiB |\n|---|---|---|---|");
    if wanted("check") {
        check();
    }
    if wanted("verify") || wanted("inspect") {
        one_image(wanted("verify"));
    }
    if wanted("config") {
        config();
    }
}

/// One hundred extensions of ten thousand files on a base of a hundred thousand.
fn check() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rootfs");
    run(Command::new("cp")
        .arg("-a")
        .arg(format!("{}/.", example.display()))
        .arg(root));
    fs::create_dir_all(root.join("etc/systemd/system/sysinit.target.wants")).unwrap();
    std::os::unix::fs::symlink(
        "/usr/lib/systemd/system/systemd-sysext.service",
        root.join("etc/systemd/system/sysinit.target.wants/systemd-sysext.service"),
    )
    .unwrap();
    for folder in 0..1000 {
        let path = root.join(format!("usr/share/base/{folder}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..100 {
            fs::write(path.join(file.to_string()), "").unwrap();
        }
    }
    let extensions = root.join("var/lib/extensions");
    fs::create_dir_all(&extensions).unwrap();
    for index in 0..100 {
        // Half of the files in folders that the base has, half in its own.
        let files = (0..10_000).map(|file| match file % 2 {
            0 => (format!("usr/share/base/{}/{index}-{file}", file / 10), 64),
            _ => (format!("usr/lib/e{index}/{}/{file}", file / 100), 64),
        });
        image(
            &format!("e{index}"),
            files,
            &extensions.join(format!("e{index}.raw")),
            Protection::None,
        );
    }
    let root = root.to_str().unwrap();
    row(
        "check",
        "100 extensions of 10 000 files, base of 100 000",
        &[
            PROGRAM,
            "check",
            "--rootfs",
            root,
            "--config-file",
            "/none",
            "--quiet",
        ],
    );
}

/// One image with a hash tree over a gigabyte.
fn one_image(verify: bool) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("large.raw");
    let files = (0..256).map(|file| (format!("usr/lib/large/{file}"), 4 << 20));
    image("large", files, &path, Protection::Hash);
    let path = path.to_str().unwrap();
    row(
        "inspect",
        "an image of 1 GiB",
        &[PROGRAM, "inspect", path, "--output", "json"],
    );
    if !verify || !has("veritysetup") {
        return;
    }
    let described = dissect::open(Path::new(path)).unwrap();
    let (data, hash) = (described.data.unwrap(), described.hash.unwrap());
    let cut = |name: &str, part: dissect::Part| {
        let to = dir.path().join(name);
        run(Command::new("dd")
            .args(["bs=1M", "iflag=skip_bytes,count_bytes", "status=none"])
            .args([
                format!("if={path}"),
                format!("of={}", to.display()),
                format!("skip={}", part.offset),
                format!("count={}", part.size),
            ]));
        to.to_str().unwrap().to_owned()
    };
    let (data, hash) = (cut("data", data), cut("hash", hash));
    let root_hash = described.root_hash.unwrap().to_string();
    let ours = [PROGRAM, "verify", path, "--quiet"];
    let theirs = ["veritysetup", "verify", &data, &hash, &root_hash];
    let (mut ours, mut theirs) = (Measured::of(&ours), Measured::of(&theirs));
    for _ in 0..RUNS {
        ours.run();
        theirs.run();
    }
    ours.print("verify", "the same");
    theirs.print("veritysetup verify", "its partitions");
    println!(
        "\nveritysetup takes {:.2} times as long.\n",
        theirs.median() / ours.median()
    );
}

/// A config of ten thousand lines around a section.
fn config() {
    let dir = TempDir::new().unwrap();
    let mut text = String::from("os:\n  packages:\n    install:\n");
    for line in 0..9_980 {
        let _ = writeln!(text, "    - package-{line} # why it is needed");
    }
    text += "sysext:\n  target: azurelinux-3.0\n  extensions:\n  - {name: a, verity: none, files: [{content: x, destination: /usr/share/a}]}\n";
    let path = dir.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    run(Command::new(PROGRAM).args(["build", "--config-file", path]));
    let out = dir.path().join("out.yaml");
    let out = out.to_str().unwrap();
    let input = "a config of 10 000 lines";
    row(
        "expand",
        input,
        &[
            PROGRAM,
            "expand",
            "--config-file",
            path,
            "--output-file",
            out,
            "--quiet",
        ],
    );
    row(
        "validate-config",
        input,
        &[PROGRAM, "validate-config", "--config-file", path],
    );
}

/// An extension of files by path and size.
fn image(
    name: &str,
    files: impl Iterator<Item = (String, usize)>,
    to: &Path,
    verity: Protection<'_>,
) {
    let mut tree = Tree::new();
    let mut add = |path: &str, bytes: Vec<u8>| {
        let size = bytes.len() as u64;
        tree.insert_file(path.as_bytes(), Source::Bytes(bytes), size, 0o644)
            .unwrap();
    };
    let release = format!("usr/lib/extension-release.d/extension-release.{name}");
    add(&release, b"ID=azurelinux\nVERSION_ID=3.0\n".to_vec());
    for (index, (path, size)) in files.enumerate() {
        // No two alike, or they would share their data.
        let mut bytes = index.to_le_bytes().repeat(size.div_ceil(8));
        bytes.truncate(size);
        add(&path, bytes);
    }
    let file_system = ImageFormat::Erofs {
        compression: None,
        share_compressed: false,
    };
    sample::assembled(&tree, file_system, verity, threads(file_system), to);
}

/// Runs a command that must succeed and returns its standard output.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program is installed.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn row(verb: &str, input: &str, command: &[&str]) {
    let mut measured = Measured::of(command);
    for _ in 0..RUNS {
        measured.run();
    }
    measured.print(verb, input);
}

/// A command and what its runs took.
struct Measured {
    command: Vec<String>,
    runs: Vec<Run>,
}

impl Measured {
    /// Runs it once, uncounted.
    fn of(command: &[&str]) -> Measured {
        let mut measured = Measured {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            runs: Vec::new(),
        };
        measured.run();
        measured.runs.clear();
        measured
    }

    fn run(&mut self) {
        let mut beside = Command::new(std::env::current_exe().unwrap());
        beside.args([measure::COMMAND, "--"]).args(&self.command);
        self.runs
            .push(serde_json::from_str(&run(&mut beside)).unwrap());
    }

    fn seconds(&self) -> Vec<f64> {
        let mut seconds: Vec<f64> = self.runs.iter().map(|run| run.wall_seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    fn median(&self) -> f64 {
        let seconds = self.seconds();
        seconds[seconds.len() / 2]
    }

    fn print(&self, verb: &str, input: &str) {
        let seconds = self.seconds();
        let peak = self.runs.iter().map(|run| run.peak_bytes).max().unwrap();
        println!(
            "| {verb} | {input} | {:.3} ({:.3}–{:.3}) | {:.0} |",
            self.median(),
            seconds[0],
            seconds[seconds.len() - 1],
            peak as f64 / f64::from(1 << 20)
        );
    }
}
