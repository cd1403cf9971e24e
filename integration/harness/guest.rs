//! The target, booted in a virtual machine: its own kernel, systemd and device-mapper.
//!
//! The processor is emulated, so that no host needs KVM; a boot takes about half a minute.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::debian::lock;
use super::report::{Report, parse, script};
use super::tools::{command, have, run};
use super::trixie::Rootfs;

/// For a boot with all its stages, of which there are up to 70; a loaded host needs a quarter of it.
const PATIENCE: Duration = Duration::from_secs(900);

/// Modules that udev would load, at some cost under emulation, for nothing that is tested.
const UNWANTED: &str =
    "module_blacklist=kvm,kvm_amd,kvm_intel,ata_piix,ata_generic,btrfs,xor,raid6_pq";

/// One look at the machine, after something was done to it.
pub(crate) struct Stage<'a> {
    /// What the report of it is called.
    pub(crate) name: &'a str,
    /// Shell commands to run first, as root.
    pub(crate) before: &'a str,
    /// Whether what the unit logs is wanted; it takes a second or two.
    pub(crate) log: bool,
}

/// The stage that looks at what the boot itself did.
pub(crate) const BOOTED: Stage<'static> = Stage {
    name: "booted",
    before: "",
    log: true,
};

/// Commands that have the real unit merge once more, as if nothing had been merged before.
///
/// The verity device of an unmerged image lives as long as a process runs from the merged `/usr`,
/// and systemd would take it for the next image with the same root hash without looking at that
/// one's bytes (`src/shared/dissect-image.c`, `verity_partition`). Hence no sharing of devices.
pub(crate) const REMERGE: &str = "\
systemctl set-environment SYSTEMD_VERITY_SHARING=0
systemctl restart systemd-sysext.service";

/// Whether a machine can be booted here.
pub(crate) fn possible() -> bool {
    have(&["qemu-system-x86_64", "mkfs.ext4"])
}

/// Boots a copy of the target and returns what it said at every stage. `files` are read each time.
pub(crate) fn boot(rootfs: &Rootfs, stages: &[Stage], files: &[&str]) -> Vec<Report> {
    // Emulated machines beside each other only slow each other down.
    let _lock = lock("qemu");
    let dir = TempDir::new().unwrap();
    let [disk, console, report] = ["disk", "console", "report"].map(|name| dir.path().join(name));

    rootfs.write("/etc/systemd/system/referee.service", UNIT);
    rootfs.write("/referee/script", guest_script(stages, files));
    format_disk(&rootfs.path(), &disk);

    let mut qemu = command("qemu-system-x86_64");
    qemu
        // Everything that can be emulated, but for cmpxchg16b, which old emulators get wrong.
        .args(["-machine", "pc,accel=tcg", "-cpu", "max,-cx16"])
        .args([
            "-m",
            "1024",
            "-smp",
            "2",
            "-nodefaults",
            "-nographic",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .args(["-device", "nvme,drive=disk,serial=disk", "-drive"])
        .arg(format!(
            "file={},if=none,id=disk,format=raw",
            disk.display()
        ))
        // The report has a line of its own: the kernel writes to the console as it likes.
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-serial", &format!("file:{}", report.display())])
        .arg("-kernel")
        .arg(rootfs.kernel())
        .arg("-append")
        .arg(format!(
            "root=/dev/nvme0n1 rw console=ttyS0 panic=-1 systemd.unit=referee.service {UNWANTED}"
        ));
    let started = Instant::now();
    let outcome = wait(&mut qemu, &dir.path().join("qemu"));
    let text = String::from_utf8_lossy(&fs::read(&report).unwrap_or_default()).into_owned();
    match parse(&text) {
        Some(reports) if is_whole(&reports, stages) => reports,
        _ => panic!(
            "the machine reported nothing, or not all of it ({outcome}, after {} s)\n\
             --- report\n{text}\n--- qemu\n{}\n--- end of the console\n{}",
            started.elapsed().as_secs(),
            tail(&dir.path().join("qemu")),
            tail(&console)
        ),
    }
}

/// Whether every stage has its report.
fn is_whole(reports: &[Report], stages: &[Stage]) -> bool {
    let reported = reports.iter().map(|report| report.stage.as_str());
    reported.eq(stages.iter().map(|stage| stage.name))
}

/// `sysinit.target` holds systemd-sysext.service; `multi-user.target` would add only services.
const UNIT: &str = "\
[Unit]
After=sysinit.target systemd-sysext.service
FailureAction=poweroff-immediate
[Service]
Type=oneshot
ExecStart=/bin/sh /referee/script
";

fn guest_script(stages: &[Stage], files: &[&str]) -> String {
    // To the second serial line; what goes wrong on the way shows on the console.
    let mut text = String::from("exec >/dev/ttyS1 2>/dev/console\n");
    for stage in stages {
        if !stage.log {
            text += &format!("{{\n{}\n}} >/dev/console\n", stage.before);
            text += &script(stage.name, "true", files);
            continue;
        }
        // The journal of this stage alone: everything after its cursor.
        text += "journalctl --sync; since=$(journalctl -n 0 --show-cursor -q | sed -n 's/^-- cursor: //p')\n";
        let log = match stage.before {
            "" => "journalctl -b -u systemd-sysext --no-pager -o cat",
            before => {
                text += &format!("{{\n{before}\n}} >/dev/console\n");
                "journalctl --sync; journalctl -u systemd-sysext --no-pager -o cat --after-cursor=\"$since\""
            }
        };
        text += &script(stage.name, log, files);
    }
    text + "sync\nsystemctl poweroff -ff\n"
}

/// Puts a tree on a disk with some room to write, without mounting it.
fn format_disk(root: &Path, disk: &Path) {
    let used = run(command("du").args(["-s", "-B1M"]).arg(root));
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    let bytes = (used + used / 3 + 192) << 20;
    File::create(disk).unwrap().set_len(bytes).unwrap();
    run(command("mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal", "-d"])
        .arg(root)
        .arg(disk));
}

/// Runs the machine until it switches itself off, or ends it.
fn wait(qemu: &mut std::process::Command, log: &Path) -> String {
    let log = File::create(log).unwrap();
    qemu.stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let mut machine = qemu.spawn().unwrap();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = machine.try_wait().unwrap() {
            return format!("qemu ended, {status}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    machine.kill().unwrap();
    machine.wait().unwrap();
    "it was ended for taking too long".to_owned()
}

/// The last lines of a file, without the colours.
fn tail(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace(['\r', '\u{1b}'], "");
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
