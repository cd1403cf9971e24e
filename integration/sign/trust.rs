//! Keys wherever they lie: each signs, openssl takes the signature, and one booted Debian 13 that
//! admits signed extensions only merges all of them, and nothing once a stranger's lies beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::guest::{BOOTED, REMERGE, Stage, boot, possible};
use crate::harness::said::Said;
use crate::harness::smime::is_signed;
use crate::harness::tools::{command, have, run};
use crate::harness::trixie;
use crate::harness::workspace::{Workspace, examples};

/// How the key of each extension is had.
const FORMS: [&str; 6] = ["pem", "pkcs12", "softhsm", "vault", "curve", "deferred"];
/// A stand-in of `vault`: checks the command line, signs with the key of openssl.
const VAULT: &str = r#"#!/bin/sh
set -eu
[ "$1 $2 $3" = "write -field=signature transit/sign/extensions/sha2-256" ]
[ "$4 $5" = "signature_algorithm=pkcs1v15 marshaling_algorithm=asn1" ]
printf 'vault:v1:%s' "$(printf %s "${6#input=}" | openssl base64 -d -A | openssl dgst -sha256 -sign "$STAND_IN_KEY" | openssl base64 -A)"
"#;
/// A stand-in of `az`, likewise.
const AZ: &str = r#"#!/bin/sh
set -eu
[ "$1 $2 $3 $4 $5 $6 $7" = "keyvault key sign --id https://x.vault.azure.net/keys/k --algorithm RS256" ]
[ "$8 ${10} ${11} ${12} ${13}" = "--digest --query signature --output tsv" ]
printf %s "$9" | openssl base64 -d -A | openssl pkeyutl -sign -inkey "$STAND_IN_KEY" -pkeyopt digest:sha256 | openssl base64 -A | tr +/ -_
echo
"#;

/// What opens the PKCS#12 file.
const WORD: &str = "Zaubernuss-9317";
/// What opens the token.
const PIN: &str = "56789012";

/// Keys and certificates, one for each form, and the environment in which commands find them.
struct Keys {
    workspace: Workspace,
}

impl Keys {
    fn new() -> Keys {
        let keys = Keys {
            workspace: Workspace::new(),
        };
        keys.workspace.secret_word(WORD);
        keys.workspace.secret_word(PIN);
        for form in FORMS {
            let curve = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
            let algorithm = if form == "curve" {
                &curve[..]
            } else {
                &["rsa:2048"]
            };
            run(command("openssl")
                .args(["req", "-x509", "-nodes", "-days", "30", "-newkey"])
                .args(algorithm)
                .args(["-subj", &format!("/CN={form}"), "-keyout"])
                .arg(keys.at(&format!("{form}.pem")))
                .arg("-out")
                .arg(keys.at(&format!("{form}.crt"))));
        }
        run(command("openssl")
            .args([
                "pkcs12",
                "-export",
                "-passout",
                &format!("pass:{WORD}"),
                "-inkey",
            ])
            .arg(keys.at("pkcs12.pem"))
            .arg("-in")
            .arg(keys.at("pkcs12.crt"))
            .arg("-out")
            .arg(keys.at("pkcs12.p12")));
        keys.private("pkcs12.p12");
        keys.private("pem.pem");
        keys.private("curve.pem");
        for script in ["pkcs11.sh", "vault.sh", "azure-key-vault.sh"] {
            let text = fs::read(examples().join("signers").join(script)).unwrap();
            keys.workspace.program(&format!("project/{script}"), text);
        }
        keys.workspace.program("bin/vault", VAULT);
        keys.workspace.program("bin/az", AZ);
        keys.token();
        keys
    }

    fn at(&self, name: &str) -> PathBuf {
        self.workspace.path("keys").join(name)
    }

    fn private(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A token of SoftHSM with a key in it.
    fn token(&self) {
        let tokens = self.workspace.path("tokens");
        fs::create_dir(&tokens).unwrap();
        let text = format!("directories.tokendir = {}\n", tokens.display());
        self.workspace.write("softhsm2.conf", text, 0o644);
        let softhsm = |args: &[&str]| {
            run(command("softhsm2-util")
                .env("SOFTHSM2_CONF", self.workspace.path("softhsm2.conf"))
                .args(args))
        };
        softhsm(&[
            "--init-token",
            "--free",
            "--label",
            "signing",
            "--so-pin",
            "1234",
            "--pin",
            PIN,
        ]);
        let key = self.at("softhsm.pem");
        softhsm(&[
            "--import",
            key.to_str().unwrap(),
            "--token",
            "signing",
            "--label",
            "k",
            "--id",
            "01",
            "--pin",
            PIN,
        ]);
    }

    fn run(&self, args: &[&str]) -> Said {
        let mut program: Command = self.workspace.command(args);
        let own = self.workspace.path("bin");
        program
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own.display()),
            )
            .env("SOFTHSM2_CONF", self.workspace.path("softhsm2.conf"))
            .env("PKCS11_MODULE", module())
            .env("PKCS11_TOKEN", "signing")
            .env("PKCS11_KEY_ID", "01")
            .env("PKCS11_PIN", PIN)
            .env("VAULT_TRANSIT_KEY", "extensions")
            .env("AZURE_KEY_ID", "https://x.vault.azure.net/keys/k")
            .env("PASSPHRASE", WORD)
            .env("STAND_IN_KEY", self.at("vault.pem"));
        Said::of(&mut program)
    }
}

/// Where Debian and others keep SoftHSM's library.
fn module() -> &'static str {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
    ];
    places
        .into_iter()
        .find(|place| Path::new(place).exists())
        .unwrap_or(places[0])
}

/// The keys of an extension as the config has them.
fn signing(form: &str) -> String {
    let how = match form {
        "pem" | "curve" => format!("verityKey: ../keys/{form}.pem"),
        "pkcs12" => "verityKey: ../keys/pkcs12.p12, verityKeyPassphrase: env:PASSPHRASE".to_owned(),
        "softhsm" => "signer: {command: [./pkcs11.sh]}".to_owned(),
        "vault" => "signer: {command: [./vault.sh]}".to_owned(),
        _ => "verity: defer".to_owned(),
    };
    format!("{how}, verityCertificate: ../keys/{form}.crt")
}

/// All extensions, signed each its own way, with certificates that are gone after every boot.
fn config(policy: &str) -> String {
    let mut text = format!(
        "sysext:\n  imagePolicy: {policy}\n  certificateLocation: /run/verity.d\n  extensions:\n  - {{name: settings, kind: confext, {}, files: [{{content: settings, destination: /etc/settings/probe}}]}}\n",
        signing("pem")
    );
    for form in FORMS {
        let keys = signing(form);
        text += &format!(
            "  - {{name: {form}, {keys}, files: [{{content: {form}, destination: /usr/share/{form}/probe}}]}}\n"
        );
    }
    text
}

/// Signs the deferred extension as somebody else would, with openssl and its request alone.
fn sign_deferred(keys: &Keys) {
    let request = keys
        .workspace
        .read("project/.sysext/deferred.sign-request.json");
    let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
    let data = request["requests"][0]["data"].as_str().unwrap();
    keys.workspace.write("data", data, 0o644);
    run(command("openssl")
        .args([
            "smime", "-sign", "-binary", "-noattr", "-outform", "DER", "-in",
        ])
        .arg(keys.workspace.path("data"))
        .arg("-signer")
        .arg(keys.at("deferred.crt"))
        .arg("-inkey")
        .arg(keys.at("deferred.pem"))
        .arg("-out")
        .arg(keys.workspace.path("deferred.p7s")));
    keys.run(&[
        "sign",
        "attach",
        ".sysext/deferred.raw",
        "--signature",
        "../deferred.p7s",
        "--certificate",
        "../keys/deferred.crt",
    ])
    .succeeded();
}

#[test]
fn every_form_of_key_is_merged_under_the_strict_policy() {
    if !(possible() && have(&["openssl", "softhsm2-util", "pkcs11-tool"])) {
        return;
    }
    let Some(rootfs) = trixie::rootfs() else {
        return;
    };
    let keys = Keys::new();
    keys.workspace.config(&config("signed"));
    let root = rootfs.path();
    let root = root.to_str().unwrap();
    keys.run(&["build", "--rootfs", root]).succeeded();
    // Not before it is signed.
    let refused = keys.run(&["apply", "--rootfs", root]);
    refused.is_refused("unsigned-deferred");
    sign_deferred(&keys);
    keys.run(&["apply", "--rootfs", root]).succeeded();
    for form in FORMS {
        let image = rootfs.at(&format!("/var/lib/extensions/{form}.raw"));
        assert!(
            is_signed(&image, &keys.at(&format!("{form}.crt"))),
            "{form}"
        );
    }

    // The same payload by a stranger, under one more name and of either kind.
    let stranger = "sysext:\n  verityKey: ../keys/other.pem\n  verityCertificate: ../keys/other.crt\n  extensions:\n  - {name: stranger, files: [{content: x, destination: /usr/share/stranger/probe}]}\n  - {name: foreign, kind: confext, files: [{content: x, destination: /etc/foreign/probe}]}\n";
    keys.workspace.config(stranger);
    keys.run(&["build", "--rootfs", root]).succeeded();
    for name in ["stranger", "foreign"] {
        let image = keys.workspace.read(&format!("project/.sysext/{name}.raw"));
        rootfs.write(&format!("/referee/{name}.raw"), image);
    }
    let both = format!("{REMERGE}\nsystemctl restart systemd-confext.service");
    let put = format!(
        "cp /referee/stranger.raw /var/lib/extensions/\ncp /referee/foreign.raw /var/lib/confexts/\n{both}"
    );
    let take = format!("rm /var/lib/extensions/stranger.raw /var/lib/confexts/foreign.raw\n{both}");
    let stage = |name, before| Stage {
        name,
        before,
        log: false,
    };
    let stages = [
        BOOTED,
        stage("stranger", put.as_str()),
        stage("without", take.as_str()),
    ];
    let probes: Vec<String> = FORMS
        .iter()
        .map(|form| format!("/usr/share/{form}/probe"))
        .chain(["/etc/settings/probe".to_owned()])
        .collect();
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    let reports = boot(&rootfs, &stages, &probes);
    let mut expected = FORMS;
    expected.sort_unstable();
    for report in [&reports[0], &reports[2]] {
        let mut merged = report.merged("/usr");
        merged.sort_unstable();
        assert_eq!(merged, expected, "{report:#?}");
        assert_eq!(report.merged("/etc"), ["settings"], "{report:#?}");
        for (form, probe) in FORMS.iter().chain(&["settings"]).zip(&probes) {
            assert_eq!(report.file(probe), Some(*form), "{report:#?}");
        }
    }
    assert!(reports[1].merged("/usr").is_empty(), "{:#?}", reports[1]);
    assert!(reports[1].merged("/etc").is_empty(), "{:#?}", reports[1]);
}

#[test]
fn certificates_are_copied_to_run_only_where_that_can_work() {
    let workspace = Workspace::new();
    let block = |more: &str| {
        format!(
            "sysext:\n  certificateLocation: /run/verity.d\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n{more}  extensions:\n  - {{name: x, files: [{{content: x, destination: /usr/share/x}}]}}\n"
        )
    };
    workspace.config(&block(""));
    workspace.write("rootfs/usr/bin/install", "", 0o755);
    let apply = "apply --rootfs ../rootfs --output json";
    workspace.run(apply).succeeded();
    let store = "rootfs/usr/lib/prism-sysext/verity.d/cert.crt";
    let drop_in = "rootfs/etc/systemd/system/systemd-sysext.service.d/40-verity-certificates.conf";
    let text = String::from_utf8(workspace.read(drop_in)).unwrap();
    assert_eq!(
        text,
        "[Service]\nExecStartPre=install -D -m 0644 /usr/lib/prism-sysext/verity.d/cert.crt /run/verity.d/cert.crt\n"
    );
    assert!(workspace.path(store).is_file() && !workspace.path("rootfs/etc/verity.d").exists());
    // The same again is nothing new, and what lies there is judged as it will be found.
    let again = workspace.run(apply).succeeded().json();
    for file in again["applied"]["files"].as_array().into_iter().flatten() {
        assert_eq!(file["action"], "unchanged", "{again:#}");
    }
    let check = "check --rootfs ../rootfs";
    workspace.run(check).succeeded();
    // The expanded config of the same is judged likewise.
    workspace
        .run("expand --rootfs ../rootfs --output-file plain.yaml")
        .succeeded();
    workspace.run("remove x --rootfs ../rootfs").succeeded();
    assert!(!workspace.path(store).exists() && !workspace.path(drop_in).exists());
    let plain = "check --config-file plain.yaml --rootfs ../rootfs";
    workspace.run(plain).succeeded();

    // A source that is gone fails the unit, a unit without the command trusts nobody.
    workspace.run(apply).succeeded();
    let images = "check ../rootfs/var/lib/extensions/x.raw --rootfs ../rootfs";
    workspace.run(images).succeeded();
    let certificate = workspace.read(store);
    fs::remove_file(workspace.path(store)).unwrap();
    let said = workspace.run(images);
    assert_eq!(said.status, Some(1), "{said:?}");
    said.names(&["error[service-fails]", "error[signer-not-trusted]"]);
    workspace.write(store, certificate, 0o644);
    fs::remove_file(workspace.path(drop_in)).unwrap();
    workspace.refused(images, "signer-not-trusted");

    workspace.config(&block(
        "  certificates: [{source: ../keys/other.crt, name: 'my key.crt'}]\n",
    ));
    workspace.refused(apply, "certificate-name");
    workspace.config(&block(""));
    fs::remove_file(workspace.path("rootfs/usr/bin/install")).unwrap();
    workspace.refused("build --rootfs ../rootfs", "install-missing");
}

#[test]
fn signer_commands_give_the_bytes_that_the_key_itself_gives() {
    if !have(&["openssl", "softhsm2-util", "pkcs11-tool"]) {
        return;
    }
    let keys = Keys::new();
    let built = |key: &str, signing: &str| {
        let extension = "name: x, files: [{content: x, destination: /usr/share/x}]";
        keys.workspace.config(&format!(
            "sysext:\n  target: debian-13\n  extensions:\n  - {{{extension}, {signing}, verityCertificate: ../keys/{key}.crt}}\n"
        ));
        keys.run(&["build"]).succeeded();
        keys.workspace.read("project/.sysext/x.raw")
    };
    keys.private("softhsm.pem");
    keys.private("vault.pem");
    for (key, script) in [
        ("softhsm", "pkcs11.sh"),
        ("vault", "vault.sh"),
        ("vault", "azure-key-vault.sh"),
    ] {
        let by_key = built(key, &format!("verityKey: ../keys/{key}.pem"));
        let by_command = built(key, &format!("signer: {{command: [./{script}]}}"));
        assert!(by_key == by_command, "{script}");
    }
    // A PIN that does not fit: its words are passed on, the PIN is not.
    let mut wrong = keys.workspace.command(["build"]);
    keys.workspace.config(&format!(
        "sysext:\n  target: debian-13\n  extensions:\n  - {{name: x, files: [{{content: x, destination: /usr/share/x}}], {}}}\n",
        signing("softhsm").replace("[./pkcs11.sh]}", "[./pkcs11.sh], retries: 0}")
    ));
    wrong
        .env("SOFTHSM2_CONF", keys.workspace.path("softhsm2.conf"))
        .env("PKCS11_MODULE", module())
        .env("PKCS11_TOKEN", "signing")
        .env("PKCS11_KEY_ID", "01")
        .env("PKCS11_PIN", "98765432");
    let said = Said::of(&mut wrong);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(
        said.err.contains("CKR_PIN_INCORRECT") && !said.err.contains("98765432"),
        "{said:?}"
    );
}
