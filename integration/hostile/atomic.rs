//! An image is there complete or not at all, also when the build is killed.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::said::Said;
use crate::harness::snapshot::snapshot;
use crate::harness::workspace::Workspace;

const BUILD: &str = "build --rootfs ../rootfs";

#[test]
fn a_killed_build_leaves_no_half_of_an_image() {
    let workspace = Workspace::new();
    workspace.config(concat!(
        "sysext: {verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt, ",
        "extensions: [{name: big, tree: tree}]}\n"
    ));
    // Large enough that writing takes a while, not so large that the test does.
    for number in 0..24_u8 {
        let bytes = vec![number; 4 << 20];
        workspace.write(&format!("project/tree/usr/lib/big/{number}"), bytes, 0o644);
    }
    let start = Instant::now();
    workspace.run(BUILD).succeeded();
    let whole = start.elapsed();
    let image = workspace.path("project/.sysext/big.raw");
    let old = fs::read(&image).unwrap();

    let folder = workspace.path("project/.sysext");
    let mut killed = 0;
    for (round, replace) in (0..16).map(|round| (round, round % 2 == 0)) {
        if replace {
            // A build over an image that is there must leave the old one or the new one.
            workspace.write("project/tree/usr/lib/big/new", format!("{round}"), 0o644);
        } else {
            let _ = fs::remove_file(&image);
        }
        let before = fs::read(&image).ok();
        let mut child = workspace
            .command(BUILD.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(
            whole
                .mul_f64(f64::from(round + 1) / 17.0)
                .max(Duration::from_millis(2)),
        );
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        killed += usize::from(!finished);
        let left: Vec<_> = snapshot(&folder).into_keys().collect();
        for path in &left {
            let name = path.to_string_lossy();
            if name.starts_with(".big.raw.") && name.ends_with(".tmp") {
                // Killed between the two steps of replacing: a whole image under a hidden name.
                let said = workspace.run(&format!(
                    "verify .sysext/{name} --certificate ../keys/cert.crt"
                ));
                said.succeeded();
                fs::remove_file(folder.join(path)).unwrap();
                continue;
            }
            assert!(
                ["", "big.raw", "sysext-manifest.json"].contains(&name.as_ref()),
                "left behind: {left:?}"
            );
        }
        let after = fs::read(&image).ok();
        if after != before {
            // Not the old one, so it must be a new one that verifies as a whole.
            workspace
                .run("verify .sysext/big.raw --certificate ../keys/cert.crt")
                .succeeded();
        }
    }
    assert!(
        killed >= 4,
        "only {killed} of 16 builds were still running when killed"
    );
    fs::remove_file(workspace.path("project/tree/usr/lib/big/new")).unwrap();
    workspace.run(BUILD).succeeded();
    assert!(
        fs::read(&image).unwrap() == old,
        "and the next build is the same again"
    );
}

#[test]
fn a_full_disk_leaves_no_half_of_an_image() {
    let workspace = Workspace::new();
    workspace.config(
        "sysext: {extensions: [{name: a, verity: none, files: ['bin/tool:/usr/bin/a']}]}\n",
    );
    // A limit on the size of files stands for the full disk: writing fails midway.
    let command = workspace.command(BUILD.split(' '));
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(workspace.path("project"));
    let said = Said::of(&mut shell);
    assert_eq!((said.status, said.errors().len()), (Some(1), 1), "{said:?}");
    said.names(&["a.raw"]);
    let left = snapshot(&workspace.path("project/.sysext"));
    assert_eq!(left.len(), 1, "only the folder: {:?}", left.keys());
}
