//! `demo`: both ways through an embedded example, and one that must be refused.
//!
//! The files are those of `examples/`, so that what the demo shows can be
//! tried again by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::args::{
    Apply, BaseArgs, Build, ConfigFile, Demo, Expand, Keygen, Overrides, Style, TridentArgs, Verify,
};
use super::output::{Failure, Screen};
use super::text::findings;
use super::{apply, build, expand, sign, verify};
use crate::finding::Finding;

/// Path below the demo's folder, content, mode.
type EmbeddedFile = (&'static str, &'static [u8], u32);

/// A root file system in the shape of Azure Linux 3.0, as far as extensions look at it.
const ROOTFS: &[EmbeddedFile] = &[
    (
        "usr/lib/os-release",
        include_bytes!("../../examples/rootfs/usr/lib/os-release"),
        0o644,
    ),
    (
        "usr/lib/systemd/system/systemd-sysext.service",
        include_bytes!("../../examples/rootfs/usr/lib/systemd/system/systemd-sysext.service"),
        0o644,
    ),
    ("usr/lib/systemd/libsystemd-shared-255.so", b"", 0o644),
    ("usr/lib/libcryptsetup.so.12", b"", 0o644),
    (
        "usr/bin/systemd-sysext",
        include_bytes!("../../examples/rootfs/usr/bin/systemd-sysext"),
        0o755,
    ),
    (
        "boot/config-6.6.0-example",
        include_bytes!("../../examples/rootfs/boot/config-6.6.0-example"),
        0o644,
    ),
];

/// The configs and what they name.
const CONFIGS: &[EmbeddedFile] = &[
    (
        "build/config.yaml",
        include_bytes!("../../examples/build/config.yaml"),
        0o644,
    ),
    (
        "build/bin/kubectl",
        include_bytes!("../../examples/build/bin/kubectl"),
        0o755,
    ),
    (
        "build/bin/kubelet",
        include_bytes!("../../examples/build/bin/kubelet"),
        0o755,
    ),
    (
        "prebuilt/config.yaml",
        include_bytes!("../../examples/prebuilt/config.yaml"),
        0o644,
    ),
    (
        "broken/config.yaml",
        include_bytes!("../../examples/broken/config.yaml"),
        0o644,
    ),
];

pub(crate) fn demo(screen: &Screen, args: &Demo) -> Result<(), Failure> {
    let dir = &args.directory;
    prepare(dir)?;
    let at = |path: &str| dir.join(path);
    let shown = |path: &str| findings::path(&at(path));
    let screen = &screen.for_people();

    heading(screen, "1. A key pair for development")?;
    command(
        screen,
        &format!(
            "sign keygen --key {} --certificate {}",
            shown("verity_key.pem"),
            shown("build/verity_cert.crt")
        ),
    )?;
    let keygen = Keygen {
        key: at("verity_key.pem"),
        certificate: at("build/verity_cert.crt"),
        common_name: "prism-sysext demo key".to_owned(),
        days: 30,
    };
    sign::keygen(screen, &keygen)?;

    heading(
        screen,
        "2. Without Prism: build, sign, check and place in a root file system",
    )?;
    apply_one(screen, dir, "build", "rootfs")?;

    let (image, certificate) = (
        at("build/.sysext/kubernetes.raw"),
        at("build/verity_cert.crt"),
    );
    command(
        screen,
        &format!(
            "verify {} --certificate {} --negative-control",
            findings::path(&image),
            findings::path(&certificate)
        ),
    )?;
    verify::verify(
        screen,
        &Verify {
            image,
            certificate: vec![certificate],
            negative_control: true,
        },
    )?;

    heading(
        screen,
        "3. With Prism: the same config as a plain one, for imagecustomizer",
    )?;
    expand_one(screen, dir, "build")?;

    heading(
        screen,
        "4. An image made by somebody else, under a name that its release file does not have",
    )?;
    screen.raw("The image was named like mkosi's (kubernetes_1.30.7.raw) and then renamed to kubernetes.raw.\n")?;
    as_mkosi_names_it(screen, dir)?;
    apply_one(screen, dir, "prebuilt", "rootfs-prebuilt")?;
    expand_one(screen, dir, "prebuilt")?;

    heading(
        screen,
        "5. An extension for another version of the OS, which systemd would silently ignore",
    )?;
    match apply_one(screen, dir, "broken", "rootfs-broken") {
        Err(Failure::Said(1)) => screen.raw("refused, as it should be; nothing was placed\n")?,
        Err(other) => return Err(other),
        Ok(()) => return Err(anyhow::anyhow!("the broken example was not refused").into()),
    }
    if at("rootfs-broken/var").exists() {
        return Err(
            anyhow::anyhow!("the broken example left something in the root file system").into(),
        );
    }
    report(screen, dir)
}

/// Makes the folder and the files of the example.
fn prepare(dir: &Path) -> Result<(), Failure> {
    let occupied = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context(format!("looking at {}", dir.display()))
                .into());
        }
    };
    if occupied {
        return Err(
            Finding::error("would-overwrite", format!("{} is not empty", dir.display()))
                .help("remove it, or name another folder: prism-sysext demo DIR")
                .into(),
        );
    }
    write_files(dir, CONFIGS)?;
    for rootfs in ["rootfs", "rootfs-prebuilt", "rootfs-broken"] {
        let rootfs = dir.join(rootfs);
        write_files(&rootfs, ROOTFS)?;
        fs::create_dir_all(rootfs.join("etc"))?;
        symlink("../usr/lib/os-release", rootfs.join("etc/os-release"))?;
    }
    Ok(())
}

fn write_files(dir: &Path, files: &[EmbeddedFile]) -> anyhow::Result<()> {
    for (name, content, mode) in files {
        let path = dir.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
        };
        write().with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn config(dir: &Path, example: &str) -> ConfigFile {
    ConfigFile {
        config_file: dir.join(example).join("config.yaml"),
    }
}

fn apply_one(screen: &Screen, dir: &Path, example: &str, rootfs: &str) -> Result<(), Failure> {
    let config = config(dir, example);
    let rootfs = dir.join(rootfs);
    command(
        screen,
        &format!(
            "apply --rootfs {} --config-file {}",
            findings::path(&rootfs),
            findings::path(&config.config_file)
        ),
    )?;
    apply::apply(
        screen,
        &Apply {
            rootfs: Some(rootfs),
            image_file: None,
            config,
            dry_run: false,
            expanded_config: None,
            force: false,
            no_check: false,
            overrides: Overrides::default(),
        },
    )
}

fn expand_one(screen: &Screen, dir: &Path, example: &str) -> Result<(), Failure> {
    let config = config(dir, example);
    command(
        screen,
        &format!(
            "expand --config-file {}",
            findings::path(&config.config_file)
        ),
    )?;
    expand::expand(
        screen,
        &Expand {
            config,
            output_file: None,
            style: Style::Inline,
            check: false,
            base: BaseArgs::default(),
            allow_unsigned: false,
            trident: TridentArgs::default(),
        },
    )?;
    let path = dir.join(example).join("config.prism.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    screen.raw(&indented)
}

/// Builds the example under mkosi's name and lays it where the prebuilt example expects it.
fn as_mkosi_names_it(screen: &Screen, dir: &Path) -> Result<(), Failure> {
    let config = dir.join("build/config.yaml");
    let text =
        fs::read_to_string(&config).with_context(|| format!("reading {}", config.display()))?;
    let versioned = text.replace(
        "version: 1.30.7",
        "version: 1.30.7\n    versionedName: true",
    );
    if versioned == text {
        return Err(anyhow::anyhow!("the example has no version to put in the name").into());
    }
    // Beside the example, because its paths are relative to it.
    let beside = dir.join("build/config.versioned.yaml");
    fs::write(&beside, versioned).with_context(|| format!("writing {}", beside.display()))?;
    let output = dir.join("prebuilt/by-mkosi");
    build::build(
        &screen.silent(),
        &Build {
            config: ConfigFile {
                config_file: beside.clone(),
            },
            only: Vec::new(),
            output_dir: Some(output.clone()),
            digests: false,
            base: BaseArgs {
                rootfs: Some(dir.join("rootfs")),
                ..BaseArgs::default()
            },
            trident: TridentArgs::default(),
        },
    )?;
    let steps = || -> anyhow::Result<()> {
        fs::rename(
            output.join("kubernetes_1.30.7.raw"),
            dir.join("prebuilt/kubernetes.raw"),
        )?;
        fs::copy(
            dir.join("build/verity_cert.crt"),
            dir.join("prebuilt/verity_cert.crt"),
        )?;
        fs::remove_file(&beside)?;
        fs::remove_dir_all(&output)?;
        Ok(())
    };
    Ok(steps().context("renaming the image")?)
}

fn heading(screen: &Screen, text: &str) -> Result<(), Failure> {
    screen.raw(&format!("\n== {text}\n"))
}

fn command(screen: &Screen, text: &str) -> Result<(), Failure> {
    screen.raw(&format!("$ prism-sysext {text}\n"))
}

fn report(screen: &Screen, dir: &Path) -> Result<(), Failure> {
    let rows: [(&str, &str); 6] = [
        (
            "rootfs/",
            "a root file system with a signed extension, its certificate, the policy and the enabled service",
        ),
        (
            "rootfs-prebuilt/",
            "one with the image of somebody else, under the right name",
        ),
        ("build/.sysext/", "the built image and sysext-manifest.json"),
        (
            "build/config.prism.yaml",
            "the plain config for imagecustomizer",
        ),
        (
            "prebuilt/config.prism.yaml",
            "the same for the prebuilt image",
        ),
        ("verity_key.pem", "the demo's private key; throw it away"),
    ];
    let mut table = Vec::new();
    for (path, what) in rows {
        let full: PathBuf = dir.join(path);
        if !full.exists() {
            let missing =
                || -> anyhow::Result<()> { bail!("the demo did not make {}", full.display()) };
            missing()?;
        }
        // Joining drops a slash at the end, which tells a folder.
        let slash = if path.ends_with('/') { "/" } else { "" };
        let shown = findings::path(&full);
        table.push(vec![
            format!("{}{slash}", shown.trim_end_matches('/')),
            what.to_owned(),
        ]);
    }
    heading(screen, "What was made")?;
    screen.raw(&findings::table(&table))?;
    let image = findings::path(&dir.join("build/.sysext/kubernetes.raw"));
    let certificate = findings::path(&dir.join("build/verity_cert.crt"));
    screen.raw(&format!(
        "\nLook closer:\n  prism-sysext inspect {image}\n  prism-sysext verify {image} --certificate {certificate}\n"
    ))
}
