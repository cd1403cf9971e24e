//! A plain Prism config, as one writes it by hand: what becomes of the extensions that it copies.

use std::fs;

use crate::harness::workspace::Workspace;

/// An image by mkosi's names, renamed; the certificate as it is; enable and start.
const RECIPE: &str = "\
os:
  additionalFiles:
  - source: kubernetes.raw
    destination: /var/lib/extensions/kubernetes.raw
  - source: verity_cert.crt
    destination: /etc/verity.d/verity_cert.crt
scripts:
  postCustomization:
  - content: |
      systemctl enable systemd-sysext.service
      systemctl start systemd-sysext.service
";

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.config(
        "sysext:
  verityKey: ../keys/key.pem
  verityCertificate: ../keys/cert.crt
  extensions:
  - {name: kubernetes, version: 1.30.7, versionedName: true, files: ['bin/tool:/usr/local/bin/kubectl']}
",
    );
    workspace.run("build --target azurelinux-3.0").succeeded();
    let built = workspace.path("project/.sysext/kubernetes_1.30.7.raw");
    fs::rename(built, workspace.path("project/kubernetes.raw")).unwrap();
    fs::copy(
        workspace.path("keys/cert.crt"),
        workspace.path("project/verity_cert.crt"),
    )
    .unwrap();
    workspace.config(RECIPE);
    workspace
}

#[test]
fn the_usual_recipe_is_explained_to_the_end() {
    let workspace = workspace();
    let before = workspace.snapshot();
    let said = workspace.run("check --target azurelinux-3.0");
    assert_eq!(said.status, Some(1), "{said:?}");
    for line in [
        // What, where and the one line that mends it.
        "error[release-file-missing]: expected a release file for `kubernetes`, found kubernetes_1.30.7",
        "config.yaml:4:18",
        "name the image kubernetes_1.30.7.raw",
        "warning[start-in-chroot]: `systemctl start systemd-sysext.service` does nothing here",
        "config.yaml:10:7",
    ] {
        assert!(said.err.contains(line), "{line}\n{}", said.err);
    }
    assert!(
        said.out.contains("blocks-all") && said.out.contains("nothing is merged"),
        "{said:?}"
    );
    workspace.is_unchanged(&before, "check");

    // With that line changed, everything is as it was meant, but for what was never asked for.
    let mended = RECIPE
        .replace(
            "extensions/kubernetes.raw",
            "extensions/kubernetes_1.30.7.raw",
        )
        .replace("      systemctl start systemd-sysext.service\n", "");
    workspace.config(&mended);
    let said = workspace.run("check --target azurelinux-3.0");
    let said = said.succeeded();
    assert!(said.out.contains("merges-signed"), "{said:?}");
    assert!(
        said.err.contains("note[signatures-not-enforced]"),
        "{}",
        said.err
    );
    assert!(
        !said.err.contains("warning") && !said.err.contains("error"),
        "{}",
        said.err
    );
}

#[test]
fn each_part_of_the_recipe_counts() {
    let workspace = workspace();
    let recipe = RECIPE.replace(
        "extensions/kubernetes.raw",
        "extensions/kubernetes_1.30.7.raw",
    );
    for (from, to, id) in [
        (
            "verity.d/verity_cert.crt",
            "verity.d/verity_cert.pem",
            "certificate-not-read",
        ),
        (
            "verity.d/verity_cert.crt",
            "verity.d/verity_cert.pem",
            "signer-not-trusted",
        ),
        (
            "systemctl enable",
            "systemctl status",
            "service-not-enabled",
        ),
        (
            "source: kubernetes.raw",
            "source: gone.raw",
            "image-unreadable",
        ),
    ] {
        assert!(recipe.contains(from));
        workspace.config(&recipe.replace(from, to));
        let said = workspace.run("check --target azurelinux-3.0");
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.err.contains(&format!("[{id}]")), "{id}: {}", said.err);
    }
    workspace.config(&recipe.replace(
        "scripts:",
        "  services: {enable: [systemd-sysext]}\nscripts:",
    ));
    workspace.run("check --target azurelinux-3.0").succeeded();
    workspace.config("os: {hostname: x}\n");
    workspace.refused("check --target azurelinux-3.0", "no-sysext");
    workspace.config(&recipe);
    workspace.refused("check", "no-base");
}

#[test]
fn a_finding_is_explained_at_length() {
    let workspace = Workspace::new();
    let said = workspace.run("check --explain release-file-missing");
    assert!(said.succeeded().out.contains("byte for byte"), "{said:?}");
    let said = workspace.run("check --explain release-file-mising");
    said.is_refused("unknown-finding");
    assert!(
        said.err.contains("did you mean `release-file-missing`?"),
        "{}",
        said.err
    );
}
