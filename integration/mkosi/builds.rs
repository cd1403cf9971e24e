//! The real mkosi of Debian 13 and of the one after it builds the documented configuration: its image is taken in, checked
//! and merged, and ours of the same file is compared with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prism_sysext::image::dissect;
use prism_sysext::image::dissect::{Ddi, Layout};
use prism_sysext::image::read::FileKind;
use prism_sysext::systemd::release_file::ReleaseFields;

use crate::harness::workspace::Workspace;
use crate::harness::{builders, debian, namespace, tools, trixie};

/// As it is documented for Prism.
const DOCUMENTED: &str = concat!(
    "[Output]\n",
    "Format=sysext\n",
    "ImageId=kubernetes\n",
    "ImageVersion=1.30.7\n",
    "OutputDirectory=mkosi.output\n",
    "[Validation]\n",
    "Verity=signed\n",
    "VerityKey=verity_key.pem\n",
    "VerityCertificate=verity_cert.crt\n",
    "[Content]\n",
    "ExtraTrees=bin/kubectl:/usr/local/bin/kubectl, bin/kubelet:/usr/local/bin/kubelet\n",
);

const THEIRS: &str = "project/mkosi.output/kubernetes_1.30.7.raw";
const OURS: &str = "project/.sysext/kubernetes_1.30.7.raw";

/// What mkosi 25 takes of it: no word for `signed`, no blank after a comma, and no host
/// distribution to install packages of. The seed makes what it builds comparable.
fn for_mkosi_25(verity: &str) -> String {
    let conf = DOCUMENTED.replace("Verity=signed", &format!("Verity={verity}"));
    let conf = conf.replace(", ", ",");
    format!(
        "{conf}[Distribution]\nDistribution=custom\n[Output]\nSeed=0123456789abcdef0123456789abcdef\n"
    )
}

struct Bench {
    workspace: Workspace,
    debian: PathBuf,
}

impl Bench {
    fn prepare() -> Option<Bench> {
        Bench::on("trixie")
    }

    /// On a Debian of this suite.
    fn on(suite: &str) -> Option<Bench> {
        let possible = cfg!(target_arch = "x86_64") || tools::skip("the root is for x86-64");
        if !(possible && tools::root() && tools::have(&["debootstrap", "unshare", "mount"])) {
            return None;
        }
        let debian = debian::of_suite(suite, builders::PACKAGES, None)?;
        let workspace = Workspace::new();
        for name in ["kubectl", "kubelet"] {
            let script = format!("#!/bin/sh\necho {name}\n");
            workspace.write(&format!("project/bin/{name}"), script, 0o755);
        }
        workspace.holds_secrets("project/verity_key.pem");
        let key = workspace.read("keys/key.pem");
        workspace.write("project/verity_key.pem", key, 0o600);
        let certificate = workspace.read("keys/cert.crt");
        workspace.write("project/verity_cert.crt", certificate, 0o644);
        std::fs::create_dir(workspace.path("project/mkosi.output")).unwrap();
        Some(Bench { workspace, debian })
    }

    /// Runs mkosi on a configuration; what it said if it failed.
    fn mkosi(&self, conf: &str) -> Result<(), String> {
        self.workspace.write("project/mkosi.conf", conf, 0o644);
        let mut enter = builders::enter(&self.debian, &self.workspace.path("project"));
        let said = tools::output(
            enter
                .args(["mkosi", "--force", "build"])
                .env("HOME", "/root"),
        );
        match said.status.success() {
            true => Ok(()),
            false => Err(tools::transcript(&said)),
        }
    }

    fn image(&self, name: &str) -> Ddi {
        dissect::open(&self.workspace.path(name)).unwrap()
    }
}

/// Kind, mode, owners and content of everything but the release file, by path.
fn tree(image: &Ddi) -> BTreeMap<PathBuf, String> {
    let fs = image.file_system().unwrap();
    let mut tree = BTreeMap::new();
    for (path, entry) in fs.walk(1000).unwrap() {
        let content = match entry.kind {
            FileKind::File => fs.read(&path, 1 << 20).unwrap(),
            _ => Vec::new(),
        };
        let content = String::from_utf8_lossy(&content);
        let (kind, mode) = (entry.kind, entry.mode);
        let line = format!("{kind:?} {mode:o} {}:{} {content}", entry.uid, entry.gid);
        tree.insert(path, line);
    }
    let release = "usr/lib/extension-release.d/extension-release.kubernetes_1.30.7";
    let all = tree.len();
    tree.retain(|path, _| !path.ends_with(Path::new(release)));
    assert_eq!(tree.len() + 1, all, "{tree:?}");
    tree
}

fn release(image: &Ddi) -> BTreeMap<String, String> {
    let releases = &image.content.as_ref().unwrap().releases;
    let [only] = releases.as_slice() else {
        panic!("{releases:?}");
    };
    assert_eq!(only.suffix, "kubernetes_1.30.7");
    let fields: &ReleaseFields = only.fields.as_ref().unwrap();
    let pairs = fields.iter();
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn ours_is_mkosis_but_for_what_is_listed() {
    let Some(bench) = Bench::prepare() else {
        return;
    };
    let workspace = &bench.workspace;
    // Three things keep mkosi 25 from the documented file as it is; we read it.
    assert!(bench.mkosi(DOCUMENTED).unwrap_err().contains("'signed'"));
    let config =
        |extension: &str| format!("sysext:\n  target: debian-13\n  extensions:\n  - {extension}\n");
    workspace.config(&config("mkosi: ."));
    workspace.run("build").succeeded();
    let documented = workspace.read(OURS);
    let with_blank = for_mkosi_25("yes").replace(",bin", ", bin");
    assert!(bench.mkosi(&with_blank).unwrap_err().contains("not found"));

    bench.mkosi(&for_mkosi_25("yes")).unwrap();
    let certificate = "--certificate verity_cert.crt";
    let theirs = "mkosi.output/kubernetes_1.30.7.raw";
    workspace
        .run(&format!("verify {theirs} {certificate}"))
        .succeeded();

    // The release file alone differs, in these fields.
    workspace.config(&config("mkosi: ."));
    workspace.run("build").succeeded();
    assert!(workspace.read(OURS) != documented, "the seed is another");
    let (ours, mkosis) = (bench.image(OURS), bench.image(THEIRS));
    assert_eq!(tree(&ours), tree(&mkosis));
    let (mut fields, mut their_fields) = (release(&ours), release(&mkosis));
    let mut differ = |key: &str| (fields.remove(key), their_fields.remove(key));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(differ("ID"), (text("debian"), text("_any")));
    assert_eq!(differ("VERSION_ID"), (text("13"), None));
    let scopes = text("initrd system portable");
    assert_eq!(differ("SYSEXT_SCOPE"), (text("system"), scopes));
    assert_eq!(fields, their_fields);
    assert_eq!(fields.len(), 3, "{fields:?}");

    // With their release fields, nothing does; the identifiers that a seed gives are theirs.
    let any = "{mkosi: ., release: {id: _any, scope: [initrd, system, portable]}}";
    workspace.config(&config(any));
    workspace.run("build").succeeded();
    let ours = bench.image(OURS);
    assert_eq!(release(&ours), release(&mkosis));
    let disk = |image: &Ddi| match &image.layout {
        Layout::Gpt(table) => table.disk_guid,
        Layout::Naked => panic!("no table"),
    };
    assert_eq!(disk(&ours), disk(&mkosis));
    let file_system = |image: &Ddi| image.fs.as_ref().unwrap().uuid.clone().unwrap();
    assert_eq!(file_system(&ours), file_system(&mkosis));
    let tree_of = |image: &Ddi| {
        let superblock = image.superblock.as_ref().unwrap();
        (superblock.uuid, superblock.salt.clone())
    };
    assert_eq!(tree_of(&ours), tree_of(&mkosis));
}

#[test]
fn mkosis_image_is_taken_in_and_merged() {
    let Some(bench) = Bench::prepare() else {
        return;
    };
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let workspace = &bench.workspace;
    let image = "sysext:\n  extensions: [mkosi.output/kubernetes_1.30.7.raw]\n  certificates: [verity_cert.crt]\n";
    bench.mkosi(&for_mkosi_25("yes")).unwrap();
    workspace.config(image);
    let root = rootfs.path();
    let checked = workspace.run(&format!("check --rootfs {} --output json", root.display()));
    let verdict = &checked.succeeded().json()["extensions"][0]["verdict"];
    assert_eq!(verdict, "merges-signed");

    // Without a signature it needs no device-mapper, which the kernel here may lack.
    bench.mkosi(&for_mkosi_25("no")).unwrap();
    workspace.config(&image.replace("  certificates: [verity_cert.crt]\n", ""));
    workspace
        .run(&format!("apply --rootfs {}", root.display()))
        .succeeded();
    let merged = namespace::merge(&root, &["/usr/local/bin/kubectl"]);
    assert_eq!(merged.merged("/usr"), ["kubernetes_1.30.7"], "{merged:?}");
    assert!(
        merged
            .file("/usr/local/bin/kubectl")
            .is_some_and(|it| it.ends_with("echo kubectl\n")),
        "{merged:?}"
    );
}

#[test]
fn mkosi_is_run_where_it_is_needed() {
    let Some(bench) = Bench::prepare() else {
        return;
    };
    let workspace = &bench.workspace;
    let conf = for_mkosi_25("yes") + "[Content]\nRemoveFiles=/usr/local/bin/kubelet\n";
    workspace.write("project/mkosi.conf", conf, 0o644);
    workspace.config("sysext: {target: debian-13, extensions: [{mkosi: .}]}\n");
    let program = std::fs::read(env!("CARGO_BIN_EXE_prism-sysext")).unwrap();
    workspace.program("project/prism-sysext", program);
    let mut enter = builders::enter(&bench.debian, &workspace.path("project"));
    tools::run(enter.args(["./prism-sysext", "build"]).env("HOME", "/root"));
    let image = bench.image("project/.sysext/mkosi/kubernetes_1.30.7.raw");
    let fs = image.file_system().unwrap();
    assert!(fs.metadata("/usr/local/bin/kubectl").unwrap().is_some());
    assert!(fs.metadata("/usr/local/bin/kubelet").unwrap().is_none());
    let checked = workspace.run("check --output json");
    let verdict = &checked.succeeded().json()["extensions"][0]["verdict"];
    assert_eq!(verdict, "merges-signed");
}

/// mkosi 27 takes the documented file as it is, once it has no host distribution to install.
#[test]
#[ignore = "slow: a Debian root with mkosi 27"]
fn mkosi_27_takes_the_documented_file_and_ours_is_its_image() {
    let Some(bench) = Bench::on("forky") else {
        return;
    };
    let workspace = &bench.workspace;
    let seed = "[Output]\nSeed=0123456789abcdef0123456789abcdef\n";
    let conf = format!("{DOCUMENTED}[Distribution]\nDistribution=custom\n{seed}");
    bench.mkosi(&conf).unwrap();
    let theirs = THEIRS.trim_start_matches("project/");
    workspace
        .run(&format!("verify {theirs} --certificate verity_cert.crt"))
        .succeeded();
    // On both bases it is merged as it is.
    for target in ["debian-13", "azurelinux-3.0"] {
        workspace.config(&format!(
            "sysext: {{target: {target}, extensions: [{theirs}], certificates: [verity_cert.crt]}}\n"
        ));
        workspace.run("build").succeeded();
        let checked = workspace.run("check --output json");
        let verdict = &checked.succeeded().json()["extensions"][0]["verdict"];
        assert_eq!(verdict, "merges-signed", "{target}");
    }
    // With the release fields that mkosi writes, ours holds the same.
    let any = "{mkosi: ., release: {id: _any, scope: [initrd, system, portable]}}";
    workspace.config(&format!(
        "sysext: {{target: debian-13, extensions: [{any}]}}\n"
    ));
    workspace.run("build").succeeded();
    let (ours, mkosis) = (bench.image(OURS), bench.image(THEIRS));
    assert_eq!(tree(&ours), tree(&mkosis));
    assert_eq!(release(&ours), release(&mkosis));
}
