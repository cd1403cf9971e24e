//! The same input gives the same bytes, whoever builds it, where and when.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::nobody::{as_nobody, give_to_nobody};
use crate::harness::said::Said;
use crate::harness::snapshot::{Entry, Snapshot, copy, snapshot};
use crate::harness::workspace::Workspace;

const CONFIG: &str = concat!(
    "os:\n  hostname: a\n",
    "sysext:\n",
    "  verityKey: ../keys/key.pem\n",
    "  verityCertificate: ../keys/cert.crt\n",
    "  imagePolicy: signed\n",
    "  extensions:\n",
    "  - name: tools\n",
    "    version: 1.0.0\n",
    "    tree: tree\n",
    "    files: ['bin/tool:/usr/bin/tool', {content: \"hello\\n\", destination: /usr/lib/tools/hello, permissions: '640'}]\n",
    "  - {name: many, tree: many}\n",
);

/// Trees with links, odd modes and enough files for any order of a folder to show.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    workspace.write(
        "project/tree/usr/lib/tools/data",
        "data".repeat(5000),
        0o644,
    );
    workspace.write("project/tree/usr/lib/tools/secret", "x", 0o600);
    workspace.write("project/tree/opt/tools/run", "#!/bin/sh\n", 0o4755);
    symlink("data", workspace.path("project/tree/usr/lib/tools/link")).unwrap();
    fs::hard_link(
        workspace.path("project/tree/usr/lib/tools/data"),
        workspace.path("project/tree/usr/lib/tools/same"),
    )
    .unwrap();
    for number in 0..300 {
        let name = format!("project/many/usr/share/many/{}/{number}", number % 7);
        workspace.write(&name, format!("{number}\n").repeat(number), 0o644);
    }
    workspace
}

/// The same input in another folder, made in another order.
fn twin(of: &Workspace) -> Workspace {
    let twin = Workspace::new();
    fs::remove_dir_all(twin.path("keys")).unwrap();
    fs::remove_dir_all(twin.path("project")).unwrap();
    copy(&of.path("keys"), &twin.path("keys"));
    fs::create_dir_all(twin.path("project/many/usr/share/many")).unwrap();
    for folder in (0..7).rev() {
        let name = format!("project/many/usr/share/many/{folder}");
        copy(&of.path(&name), &twin.path(&name));
    }
    copy(&of.path("project"), &twin.path("project"));
    let same = twin.path("project/tree/usr/lib/tools/same");
    fs::remove_file(&same).unwrap();
    fs::hard_link(twin.path("project/tree/usr/lib/tools/data"), same).unwrap();
    twin
}

/// Gives everything below `root` other times.
fn touch(root: &Path, time: SystemTime) {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let file = File::options().append(true).open(entry.path()).unwrap();
            file.set_modified(time).unwrap();
        }
    }
}

/// Builds and expands; images, manifest and expanded config with their modes.
fn products(workspace: &Workspace, prepare: impl Fn(Command) -> Command) -> Snapshot {
    for args in ["build --rootfs ../rootfs", "expand --rootfs ../rootfs"] {
        let command = workspace.command(args.split(' '));
        Said::of(&mut prepare(command)).succeeded();
    }
    let mut products = snapshot(&workspace.path("project/.sysext"));
    products.remove(Path::new(""));
    assert_eq!(products.len(), 3, "{:?}", products.keys());
    let expanded = workspace.path("project/config.prism.yaml");
    let text = fs::read_to_string(&expanded).unwrap();
    let here = workspace.root().to_str().unwrap();
    assert!(!text.contains(here), "a path of this machine is in {text}");
    products.insert("config.prism.yaml".into(), Entry::of(&expanded));
    products
}

fn same(expected: &Snapshot, found: &Snapshot, what: &str) {
    let names = |products: &Snapshot| products.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(found), "{what}");
    for (path, entry) in expected {
        let (bytes, other) = (&entry.content, &found[path].content);
        assert_eq!(
            entry.mode,
            found[path].mode,
            "{what}: mode of {}",
            path.display()
        );
        let at = bytes.iter().zip(other).position(|(a, b)| a != b);
        assert!(
            bytes == other,
            "{what}: {} differs first at {at:?}, sizes {} and {}",
            path.display(),
            bytes.len(),
            other.len()
        );
    }
}

#[test]
fn place_time_and_environment_do_not_show() {
    let first = workspace();
    let expected = products(&first, |command| command);

    let second = twin(&first);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    touch(&second.path("project"), then);
    let found = products(&second, |mut command| {
        command
            .env("LANG", "de_DE.UTF-8")
            .env("LC_ALL", "tr_TR.UTF-8")
            .env("TZ", "Pacific/Kiritimati")
            .env("HOME", "/nowhere")
            .env("TMPDIR", "/var/tmp")
            .env("USER", "someone");
        command
    });
    same(&expected, &found, "other folder, times, locale and zone");

    for umask in ["077", "000", "027"] {
        let workspace = twin(&first);
        let found = products(&workspace, |command| {
            let mut shell = Command::new("/bin/sh");
            shell
                .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
                .arg(command.get_program())
                .args(command.get_args())
                .current_dir(command.get_current_dir().unwrap());
            shell
        });
        same(&expected, &found, umask);
    }
}

#[test]
fn root_and_nobody_build_the_same() {
    let first = workspace();
    let expected = products(&first, |command| command);
    let second = twin(&first);
    if as_nobody(&second.command(["--version"])).is_none() {
        return;
    }
    give_to_nobody(second.root());
    let found = products(&second, |command| as_nobody(&command).unwrap());
    same(&expected, &found, "nobody");
}

#[test]
fn building_again_and_again_changes_nothing() {
    let workspace = workspace();
    let expected = products(&workspace, |command| command);
    for round in 0..5 {
        if round % 2 == 0 {
            fs::remove_dir_all(workspace.path("project/.sysext")).unwrap();
        }
        let found = products(&workspace, |command| command);
        same(&expected, &found, &format!("round {round}"));
    }
}

#[test]
fn source_date_epoch_is_the_only_clock() {
    let workspace = workspace();
    let zero = products(&workspace, |command| command);
    let dated = |epoch: &'static str| {
        products(&workspace, move |mut command| {
            command.env("SOURCE_DATE_EPOCH", epoch);
            command
        })
    };
    same(&zero, &dated("0"), "0 is the default");
    let later = dated("1700000000");
    assert!(later[Path::new("tools.raw")] != zero[Path::new("tools.raw")]);
    same(&later, &dated("1700000000"), "the same epoch");
}
