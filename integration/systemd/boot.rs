//! What we sign is merged at boot through dm-verity, and nobody else's image is.
//!
//! A Debian 13 machine boots under emulation with the policy that admits signed images only. After
//! the boot the image is exchanged and the unit restarted, which spares another boot.

use std::fs;

use crate::harness::guest::{BOOTED, REMERGE, Stage, boot, possible};
use crate::harness::probe::{self, FILE, NAME, TEXT};
use crate::harness::report::Report;
use crate::harness::signer::Signer;
use crate::harness::trixie::Rootfs;
use crate::harness::{repart, trixie};

/// Merges under systemd's own policy, which admits images without any hash tree as well.
const BY_HAND: &str = "\
systemctl stop systemd-sysext.service
SYSTEMD_VERITY_SHARING=0 systemd-sysext refresh || true";

/// Bytes of the signature partition.
const SIGNATURE_SIZE: usize = 16 << 10;

/// What is done to the target after the boot; the images lie in `/referee`.
struct Exchange {
    /// Puts another signer's image in the place of ours.
    foreign: String,
    /// Puts ours back with some bytes of its content changed.
    damaged: String,
    /// Puts ours back without its signature, as `verity: defer` builds it.
    unsigned: String,
    /// Puts ours back.
    restored: String,
}

impl Exchange {
    /// Places the images beside the target's; `image` is the place that is searched.
    fn prepare(rootfs: &Rootfs, image: &str, foreign: &[u8]) -> Self {
        let ours = fs::read(rootfs.at(image)).unwrap();
        let mut damaged = ours.clone();
        let text = find(&ours, NAME.as_bytes());
        damaged[text] ^= 1;
        rootfs.write("/referee/ours", &ours);
        rootfs.write("/referee/foreign", foreign);
        rootfs.write("/referee/damaged", &damaged);
        let mut unsigned = ours.clone();
        let signature = find(&ours, b"{\"rootHash\"");
        unsigned[signature..][..SIGNATURE_SIZE].fill(0);
        rootfs.write("/referee/unsigned", &unsigned);
        // A new inode: the old one may still be behind a loop device.
        let put = |name: &str, merge: &str| {
            format!("cp /referee/{name} /referee/new && mv /referee/new {image}\n{merge}")
        };
        Self {
            foreign: put("foreign", REMERGE),
            damaged: put("damaged", REMERGE),
            unsigned: put("unsigned", BY_HAND),
            // The same way, so that it tells that this way works.
            restored: put("ours", BY_HAND),
        }
    }

    fn stages(&self) -> [Stage<'_>; 5] {
        let stage = |name, before| Stage {
            name,
            before,
            log: true,
        };
        [
            BOOTED,
            stage("foreign", &self.foreign),
            stage("damaged", &self.damaged),
            stage("unsigned", &self.unsigned),
            stage("restored", &self.restored),
        ]
    }
}

/// Where the last occurrence of some bytes begins.
fn find(haystack: &[u8], needle: &[u8]) -> usize {
    let mut windows = haystack.windows(needle.len());
    windows.rposition(|window| window == needle).unwrap()
}

/// Merged, with the content that was signed, through a verity device.
fn assert_merged(report: &Report, name: &str, file: &str, text: &str) {
    assert_eq!(report.merged("/usr"), [name], "{report:#?}");
    assert_eq!(report.file(file), Some(text), "{report:#?}");
    assert!(!report.verity.is_empty(), "no dm-verity: {report:#?}");
}

/// Nothing is merged. (A device of an earlier stage may still be active.)
fn assert_refused(report: &Report, file: &str) {
    assert!(report.merged("/usr").is_empty(), "{report:#?}");
    assert_eq!(report.file(file), None, "{report:#?}");
}

fn assert_only_ours_is_merged(reports: &[Report], file: &str, text: &str) {
    let [booted, foreign, damaged, unsigned, restored] = reports else {
        panic!("five stages, {} reports", reports.len());
    };
    assert_merged(booted, NAME, file, text);
    assert_refused(foreign, file);
    // "Required key not available" would not do: the kernel says that of ours too, as it does not
    // know the certificates of /etc/verity.d, before systemd itself looks at them.
    assert!(
        foreign.log.contains("Failed to merge hierarchies"),
        "{foreign:#?}"
    );
    assert_refused(damaged, file);
    assert_refused(unsigned, file);
    assert_merged(restored, NAME, file, text);
}

/// The harness itself, with images by systemd-repart, and everything else made by hand.
#[test]
#[ignore = "slow: one boot more, which proves the harness and not the program"]
fn harness_tells_a_trusted_signer_from_another() {
    if !(possible() && repart::possible()) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let (trusted, other) = (Signer::new("trusted"), Signer::new("other"));
    let image = format!("/var/lib/extensions/{NAME}.raw");
    rootfs.write(&image, "");
    fs::remove_file(rootfs.at(&image)).unwrap();
    repart::signed(NAME, &trusted, &rootfs.at(&image));
    let foreign = tempfile::TempDir::new().unwrap();
    let foreign = foreign.path().join("foreign");
    repart::signed(NAME, &other, &foreign);
    let foreign = fs::read(foreign).unwrap();

    rootfs.write(
        "/etc/verity.d/trusted.crt",
        fs::read(trusted.certificate()).unwrap(),
    );
    rootfs.write(
        "/etc/systemd/system/systemd-sysext.service.d/policy.conf",
        "[Service]\nExecStart=\nExecStart=systemd-sysext refresh \
         --image-policy=root=signed+absent:usr=signed+absent\n",
    );
    std::os::unix::fs::symlink(
        "/usr/lib/systemd/system/systemd-sysext.service",
        rootfs.at("/etc/systemd/system/sysinit.target.wants/systemd-sysext.service"),
    )
    .unwrap();

    let exchange = Exchange::prepare(&rootfs, &image, &foreign);
    let file = repart::probe(NAME);
    let reports = boot(&rootfs, &exchange.stages(), &[&file]);
    assert_only_ours_is_merged(&reports, &file, NAME);
}

#[test]
fn an_applied_signed_extension_is_merged_and_another_signers_is_not() {
    if !possible() {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let (trusted, other) = (Signer::new("trusted"), Signer::new("other"));
    let foreign = fs::read(probe::build(&probe::signed(&other), &rootfs.path())).unwrap();
    probe::apply(&probe::signed(&trusted), &rootfs.path());

    let image = format!("/var/lib/extensions/{NAME}.raw");
    let exchange = Exchange::prepare(&rootfs, &image, &foreign);
    let reports = boot(&rootfs, &exchange.stages(), &[FILE]);
    assert_only_ours_is_merged(&reports, FILE, TEXT);
}
