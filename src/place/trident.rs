//! The part of a Trident host configuration that lists the extensions.
//!
//! Trident installs and updates hosts from such a file; `os.sysexts` and `os.confexts` name each image
//! by URL, SHA-384 of the whole file and path (`crates/trident_api/src/config/host/os/extensions.rs`
//! in microsoft/trident). It asks more of an image than systemd does
//! (`crates/trident/src/subsystems/extensions/release.rs`), and finds out on the host.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::finding::Finding;
use crate::image::dissect::Ddi;
use crate::systemd::kind::ExtensionKind;

/// The URL when none was given; whoever serves the images knows the real one.
pub const PLACEHOLDER: &str = "https://HOST/PATH/{file}";

/// What Trident fetches from (`url` of `Extension`).
const SCHEMES: [&str; 4] = ["https://", "http://", "file://", "oci://"];

/// One image of the plan.
#[derive(Debug)]
pub struct Listed<'a> {
    /// Which list it belongs to.
    pub kind: ExtensionKind,
    /// Where the config lists it.
    pub at: &'a str,
    /// Its path on the target.
    pub destination: &'a str,
    /// Whether nothing has to lie beside it.
    pub is_alone: bool,
    /// What it holds.
    pub image: &'a Ddi,
}

/// Refuses what Trident would refuse, with `trident-release-file`, `trident-id`, `trident-name` and
/// `trident-path`, and with `trident-sidecars` what it would leave behind.
pub fn check(images: &[Listed<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut owners: BTreeMap<(ExtensionKind, String), &str> = BTreeMap::new();
    for image in images {
        findings.extend(misplaced(image));
        findings.extend(accompanied(image));
        match named(image) {
            Err(finding) => findings.push(finding),
            Ok(id) => {
                if let Some(first) = owners.insert((image.kind, id.clone()), image.at) {
                    let message = format!("{first} has the {} `{id}` too", key(image.kind));
                    findings.push(
                        Finding::error("trident-id", message)
                            .at(image.at)
                            .because("Trident tells by it which extension an update replaces")
                            .help("give each extension an ID of its own"),
                    );
                }
            }
        }
    }
    findings
}

/// The field that identifies an extension.
fn key(kind: ExtensionKind) -> String {
    format!("{}_ID", kind.key_prefix())
}

/// Folders that Trident places images in (`VALID_SYSEXT_DIRECTORIES`, `VALID_CONFEXT_DIRECTORIES` in
/// `crates/trident_api/src/constants.rs`), but for `/.extra/sysext`, which is for an initrd.
fn folders(kind: ExtensionKind) -> &'static [&'static str] {
    match kind {
        ExtensionKind::Sysext => &["/etc/extensions", "/var/lib/extensions"],
        ExtensionKind::Confext => &[
            "/var/lib/confexts",
            "/usr/lib/confexts",
            "/usr/local/lib/confexts",
        ],
    }
}

fn misplaced(image: &Listed<'_>) -> Option<Finding> {
    let path = Path::new(image.destination);
    let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
    let known = folders(image.kind);
    let is_raw = path.extension().is_some_and(|ending| ending == "raw");
    if is_raw && known.contains(&folder) {
        return None;
    }
    let message = format!("Trident places nothing at {}", image.destination);
    let rule = format!("it knows names that end in .raw in {}", known.join(", "));
    let finding = Finding::error("trident-path", message).at(image.at);
    Some(finding.because(rule).help("use one of these folders"))
}

fn accompanied(image: &Listed<'_>) -> Option<Finding> {
    let message = format!("Trident would place {} alone", image.destination);
    let finding = Finding::error("trident-sidecars", message)
        .at(image.at)
        .because("it knows single images, and the root hash beside this one would be missing on the host")
        .help("write `repair: auto`, which puts hash tree and signature into the image");
    (!image.is_alone).then_some(finding)
}

/// The ID in the one release file, whose name must be that of the image.
fn named(image: &Listed<'_>) -> Result<String, Finding> {
    let folder = match image.kind {
        ExtensionKind::Sysext => "usr/lib/extension-release.d",
        ExtensionKind::Confext => "etc/extension-release.d",
    };
    let wrong = |id, message: String| {
        Finding::error(id, message).at(image.at).because(
            "Trident reads the only file there to know the extension (`read_extension_release`)",
        )
    };
    let listed = image.image.file_system().and_then(|fs| fs.list(folder));
    let names = listed.map_err(|error| {
        wrong(
            "trident-release-file",
            format!("reading /{folder}: {error}"),
        )
        .help("build the image anew, or take it from its maker again")
    })?;
    if names.len() != 1 {
        let message = format!("/{folder} holds {} files, Trident expects one", names.len());
        return Err(wrong("trident-release-file", message)
            .help("leave only the release file of this extension in it"));
    }
    let releases = image.image.content.iter().flat_map(|it| &it.releases);
    let mut releases = releases.filter(|release| release.kind == image.kind);
    let Some(release) = releases.next() else {
        let message = format!("the file in /{folder} is no `extension-release.NAME`");
        return Err(wrong("trident-release-file", message)
            .help("name it `extension-release.` and the name of the extension"));
    };
    let file = format!("{}.raw", release.suffix);
    if Path::new(image.destination).file_name() != Some(file.as_ref()) {
        let message = format!(
            "{} is to be placed as {}, Trident expects {file}",
            release.suffix, image.destination
        );
        return Err(
            wrong("trident-name", message).help("drop `name`, or make it that of the release file")
        );
    }
    let id = release
        .fields
        .as_ref()
        .and_then(|it| it.filled(&key(image.kind)));
    id.map(str::to_owned).ok_or_else(|| {
        let message = format!("the release file has no {}", key(image.kind));
        wrong("trident-id", message)
            .help("build the extension with prism-sysext, or ask its maker for one with that field")
    })
}

/// Whether a URL template is one that Trident would fetch from.
pub(crate) fn check_url(template: &str) -> Result<(), Finding> {
    let scheme = SCHEMES.iter().any(|scheme| template.starts_with(scheme));
    let distinct = ["{file}", "{name}", "{sha384}"]
        .iter()
        .any(|part| template.contains(part));
    if scheme && distinct {
        return Ok(());
    }
    Err(Finding::error(
        "trident-url",
        format!("`{template}` is no template for the URLs of the images"),
    )
    .because("Trident fetches each image from a URL of its own, by https, http, file or oci")
    .help("write for example `https://images.example.com/{file}`; {name} and {sha384} are filled in as well"))
}

/// What Trident is told about one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Where to fetch it.
    pub url: String,
    /// SHA-384 of the whole file, in lower-case hex.
    pub sha384: String,
    /// Where it goes.
    pub path: String,
}

impl Entry {
    /// An image by its digest and its path on the target; `template` is a checked URL template.
    pub fn new(template: &str, destination: &str, sha384: &str) -> Entry {
        let file = destination.rsplit('/').next().unwrap_or(destination);
        let name = file.strip_suffix(".raw").unwrap_or(file);
        let url = template
            .replace("{file}", file)
            .replace("{name}", name)
            .replace("{sha384}", sha384);
        Entry {
            url,
            sha384: sha384.to_owned(),
            path: destination.to_owned(),
        }
    }
}

/// The text of the snippet, to be merged into a host configuration.
pub(crate) fn snippet(entries: &[(ExtensionKind, Entry)]) -> Result<String, serde_yaml::Error> {
    #[derive(Serialize)]
    struct HostConfiguration<'a> {
        os: Os<'a>,
    }
    #[derive(Serialize)]
    struct Os<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sysexts: Vec<&'a Entry>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        confexts: Vec<&'a Entry>,
    }
    let of = |kind| {
        let entries = entries.iter().filter(|(of, _)| *of == kind);
        entries.map(|(_, entry)| entry).collect()
    };
    serde_yaml::to_string(&HostConfiguration {
        os: Os {
            sysexts: of(ExtensionKind::Sysext),
            confexts: of(ExtensionKind::Confext),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_each_image_and_a_scheme_that_trident_knows() {
        for good in [
            PLACEHOLDER,
            "oci://r.example/{name}:1",
            "file:///srv/{sha384}",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["ftp://x/{file}", "/srv/{file}", "https://x/same.raw"] {
            assert_eq!(check_url(bad).unwrap_err().id, "trident-url");
        }
    }

    #[test]
    fn each_kind_has_its_list() {
        let entry = |path: &str| Entry::new("https://x/{name}/{file}", path, "abc");
        let text = snippet(&[
            (ExtensionKind::Confext, entry("/var/lib/confexts/c.raw")),
            (ExtensionKind::Sysext, entry("/var/lib/extensions/s.raw")),
        ]);
        assert_eq!(
            text.unwrap(),
            "os:\n  sysexts:\n  - url: https://x/s/s.raw\n    sha384: abc\n    path: /var/lib/extensions/s.raw\n  confexts:\n  - url: https://x/c/c.raw\n    sha384: abc\n    path: /var/lib/confexts/c.raw\n"
        );
    }
}
