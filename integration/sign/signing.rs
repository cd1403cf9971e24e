//! Signatures by keys in every form, by commands, and made later: judged by the openssl program,
//! the way systemd checks them (`validate_signature_userspace`, src/shared/dissect-image.c).

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use prism_sysext::image::dissect;

use crate::harness::said::Said;
use crate::harness::smime::is_signed;
use crate::harness::tools::{command, have, run};
use crate::harness::workspace::{PROGRAM, Workspace};

/// The passphrase of all keys that have one.
const WORD: &str = "Zaubernuss-9317";
const EXTENSION: &str = "  extensions:\n  - {name: tool, files: ['bin/tool:/usr/bin/tool']}\n";

/// Makes a key with the openssl program and its certificate; both lie in `keys/`.
fn pair(workspace: &Workspace, name: &str, algorithm: &[&str]) {
    let keys = workspace.path("keys");
    let (key, certificate) = (format!("{name}.pem"), format!("{name}.crt"));
    run(command("openssl")
        .current_dir(&keys)
        .arg("genpkey")
        .args(algorithm)
        .args(["-out", &key]));
    let subject = format!("/CN={name}");
    run(command("openssl").current_dir(&keys).args([
        "req",
        "-x509",
        "-new",
        "-days",
        "30",
        "-key",
        &key,
        "-subj",
        &subject,
        "-out",
        &certificate,
    ]));
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(keys.join(&key), fs::Permissions::from_mode(0o600)).unwrap();
}

fn config(workspace: &Workspace, signing: &str) {
    workspace.config(&format!(
        "sysext:\n  target: azurelinux-3.0\n{signing}{EXTENSION}"
    ));
}

/// `locked.pem`, that key under the passphrase.
fn lock(keys: &Path, key: &str) {
    let word = format!("pass:{WORD}");
    let arguments = ["pkcs8", "-topk8", "-in", key, "-out", "locked.pem"];
    let openssl = &mut command("openssl");
    run(openssl
        .current_dir(keys)
        .args(arguments)
        .args(["-passout", &word]));
}

fn image(workspace: &Workspace) -> PathBuf {
    workspace.path("project/.sysext/tool.raw")
}

#[test]
fn keys_in_every_form_and_commands_sign_alike() {
    if !have(&["openssl"]) {
        return;
    }
    let workspace = Workspace::new();
    pair(
        &workspace,
        "rsa",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    );
    let keys = workspace.path("keys");
    let convert = |args: &[&str]| run(command("openssl").current_dir(&keys).args(args));
    lock(&keys, "rsa.pem");
    convert(&[
        "pkey", "-in", "rsa.pem", "-outform", "DER", "-out", "rsa.der",
    ]);
    convert(&[
        "pkcs12",
        "-export",
        "-inkey",
        "rsa.pem",
        "-in",
        "rsa.crt",
        "-out",
        "rsa.p12",
        "-passout",
        &format!("pass:{WORD}"),
    ]);
    for name in ["locked.pem", "rsa.der", "rsa.p12"] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(keys.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    workspace.write("keys/phrase", format!("{WORD}\n"), 0o600);
    // As an HSM would: the digest goes in, the raw signature comes out.
    let script = "#!/bin/sh\nset -eu\nprintf %s \"$PRISM_SYSEXT_SHA256\" | xxd -r -p |\n\
                  openssl pkeyutl -sign -inkey ../keys/rsa.pem -pkeyopt digest:sha256\n";
    workspace.program(
        "project/hsm.sh",
        script.replace("xxd -r -p", "perl -e 'print pack(\"H*\", <STDIN>)'"),
    );
    workspace.program(
        "project/whole.sh",
        "#!/bin/sh\nexec openssl dgst -sha256 -sign ../keys/rsa.pem\n",
    );
    let certificate = "  verityCertificate: ../keys/rsa.crt\n";
    let phrase = "  verityKeyPassphrase: file:../keys/phrase\n";
    let forms = [
        "  verityKey: ../keys/rsa.pem\n".to_owned(),
        format!("  verityKey: ../keys/locked.pem\n{phrase}"),
        "  verityKey: ../keys/rsa.der\n".to_owned(),
        format!("  verityKey: ../keys/rsa.p12\n{phrase}"),
        "  signer: {command: [./hsm.sh]}\n".to_owned(),
        "  signer: {command: [sh, whole.sh], timeoutSeconds: 20, retries: 0}\n".to_owned(),
    ];
    let mut first: Option<Vec<u8>> = None;
    for form in forms {
        config(&workspace, &format!("{certificate}{form}"));
        let _ = fs::remove_file(image(&workspace));
        workspace.run("build").succeeded();
        assert!(
            is_signed(&image(&workspace), &keys.join("rsa.crt")),
            "{form}"
        );
        let bytes = fs::read(image(&workspace)).unwrap();
        // With RSA the bytes are the same, whoever holds the key.
        assert!(
            *first.get_or_insert_with(|| bytes.clone()) == bytes,
            "{form}"
        );
    }
    assert!(!is_signed(&image(&workspace), &keys.join("cert.crt")));
}

#[test]
fn elliptic_keys_sign_and_others_are_refused() {
    if !have(&["openssl"]) {
        return;
    }
    let workspace = Workspace::new();
    let keys = workspace.path("keys");
    for curve in ["P-256", "P-384"] {
        let option = format!("ec_paramgen_curve:{curve}");
        pair(
            &workspace,
            curve,
            &["-algorithm", "EC", "-pkeyopt", &option],
        );
        let sign = format!("#!/bin/sh\nexec openssl dgst -sha256 -sign ../keys/{curve}.pem\n");
        workspace.program("project/ec.sh", sign);
        let certificate = format!("  verityCertificate: ../keys/{curve}.crt\n");
        for by in [
            format!("  verityKey: ../keys/{curve}.pem\n"),
            "  signer: {command: [./ec.sh]}\n".to_owned(),
        ] {
            config(&workspace, &format!("{certificate}{by}"));
            workspace.run("build").succeeded();
            assert!(
                is_signed(&image(&workspace), &keys.join(format!("{curve}.crt"))),
                "{by}"
            );
        }
    }
    pair(&workspace, "ed", &["-algorithm", "ED25519"]);
    config(
        &workspace,
        "  verityKey: ../keys/ed.pem\n  verityCertificate: ../keys/ed.crt\n",
    );
    workspace
        .refused("build", "key-refused")
        .names(&["Ed25519", "RSA or ECDSA"]);
    pair(
        &workspace,
        "pss",
        &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
    );
    config(
        &workspace,
        "  verityKey: ../keys/pss.pem\n  verityCertificate: ../keys/pss.crt\n",
    );
    workspace
        .refused("build", "key-refused")
        .names(&["RSA-PSS"]);
    let locked = "  verityKey: ../keys/locked.pem\n  verityCertificate: ../keys/cert.crt\n";
    lock(&keys, "key.pem");
    config(&workspace, locked);
    workspace
        .refused("build", "key-refused")
        .names(&["verityKeyPassphrase"]);
    config(
        &workspace,
        &format!("{locked}  verityKeyPassphrase: env:WRONG\n"),
    );
    let mut wrong = workspace.command(["build"]);
    Said::of(wrong.env("WRONG", "shut"))
        .is_refused("key-refused")
        .names(&["does not open it"]);
}

#[test]
fn a_command_that_fails_lies_or_hangs_builds_nothing() {
    let workspace = Workspace::new();
    let signing = |command: &str| {
        format!(
            "  verityCertificate: ../keys/cert.crt\n  signer: {{command: {command}, timeoutSeconds: 1, retries: 0}}\n"
        )
    };
    let cases = [
        (
            "[sh, -c, 'echo no token in slot 1 >&2; exit 3']",
            "no token in slot 1",
        ),
        (
            "[sh, -c, 'echo nonsense']",
            "does not verify with the certificate",
        ),
        ("[sleep, '30']", "longer than 1 s"),
        ("[./gone]", "./gone"),
        ("[sh, -c, 'true']", "wrote nothing"),
    ];
    for (command, words) in cases {
        config(&workspace, &signing(command));
        let said = workspace.run("build");
        assert_eq!(said.status, Some(1), "{said:?}");
        said.names(&[words]);
        assert!(!image(&workspace).exists(), "{command}");
    }
    let both = "  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  signer: {command: [x]}\n";
    config(&workspace, both);
    workspace.refused("build", "one-signer");
}

#[test]
fn a_deferred_image_is_signed_later_and_stays_so() {
    if !have(&["openssl"]) {
        return;
    }
    let workspace = Workspace::new();
    let keys = workspace.path("keys");
    let deferred = "  verityCertificate: ../keys/cert.crt\n  extensions:\n  - {name: tool, verity: defer, files: ['bin/tool:/usr/bin/tool']}\n";
    workspace.config(&format!("sysext:\n  target: azurelinux-3.0\n{deferred}"));
    workspace.run("build").succeeded();
    workspace
        .refused("expand", "unsigned-deferred")
        .names(&["sign request", "sign attach"]);
    let empty = fs::read(image(&workspace)).unwrap();

    // The request beside the image is what the verb says, and openssl signs its bytes.
    let request = workspace.read("project/.sysext/tool.sign-request.json");
    let said = workspace.run("sign request .sysext/tool.raw --certificate ../keys/cert.crt");
    assert_eq!(said.succeeded().out.as_bytes(), request);
    let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
    let data = request["requests"][0]["data"].as_str().unwrap();
    assert_eq!(data.len(), 64);
    workspace.write("project/data", data, 0o644);
    let project = workspace.path("project");
    let sign = |args: &[&str]| run(command("openssl").current_dir(&project).args(args));
    sign(&[
        "smime",
        "-sign",
        "-binary",
        "-noattr",
        "-in",
        "data",
        "-outform",
        "DER",
        "-out",
        "good.p7s",
        "-signer",
        "../keys/cert.crt",
        "-inkey",
        "../keys/key.pem",
    ]);
    sign(&[
        "dgst",
        "-sha256",
        "-sign",
        "../keys/key.pem",
        "-out",
        "raw.sig",
        "data",
    ]);
    sign(&[
        "smime",
        "-sign",
        "-binary",
        "-noattr",
        "-in",
        "good.p7s",
        "-outform",
        "DER",
        "-out",
        "other.p7s",
        "-signer",
        "../keys/cert.crt",
        "-inkey",
        "../keys/key.pem",
    ]);

    // Nothing is touched by what is no signature of this image by this certificate.
    let attach = "sign attach .sysext/tool.raw --signature";
    for bad in [
        format!("{attach} other.p7s"),
        format!("{attach} good.p7s --certificate ../keys/other.crt"),
        format!("{attach} raw.sig"),
        format!("{attach} raw.sig --certificate ../keys/other.crt"),
        format!("{attach} data --certificate ../keys/cert.crt"),
    ] {
        workspace.refused(&bad, "signature-refused");
    }

    workspace
        .run(&format!("{attach} raw.sig --certificate ../keys/cert.crt"))
        .succeeded();
    assert!(is_signed(&image(&workspace), &keys.join("cert.crt")));
    let signed = fs::read(image(&workspace)).unwrap();
    let again = workspace.run(&format!(
        "{attach} raw.sig --certificate ../keys/cert.crt --output json"
    ));
    assert_eq!(again.succeeded().json()["outcome"], "unchanged");
    // Only the room for the signature differs.
    let room = dissect::open(&image(&workspace))
        .unwrap()
        .signature_partition
        .unwrap();
    let room =
        usize::try_from(room.offset).unwrap()..usize::try_from(room.offset + room.size).unwrap();
    assert_eq!(signed[..room.start], empty[..room.start]);
    assert_eq!(signed[room.end..], empty[room.end..]);

    // A build on an empty table gives the signed image, byte for byte.
    fs::remove_file(image(&workspace)).unwrap();
    workspace.run("build").succeeded();
    assert!(fs::read(image(&workspace)).unwrap() == signed);
    workspace.run("expand --output-file -").succeeded();

    // By openssl's own envelope it is signed as well; and anew by another key, the hash stays.
    workspace.run(&format!("{attach} good.p7s")).succeeded();
    assert!(is_signed(&image(&workspace), &keys.join("cert.crt")));
    let resign =
        "sign resign .sysext/tool.raw --key ../keys/other.pem --certificate ../keys/other.crt";
    workspace.run(resign).succeeded();
    assert!(is_signed(&image(&workspace), &keys.join("other.crt")));
    assert!(!is_signed(&image(&workspace), &keys.join("cert.crt")));
    let verified = workspace.run("verify .sysext/tool.raw --certificate ../keys/other.crt");
    verified.succeeded();
    // That signer is not trusted by this config, so its signature is as good as none.
    fs::remove_file(image(&workspace)).unwrap();
    workspace.run("build").succeeded();
    assert!(fs::read(image(&workspace)).unwrap() == empty);
}

#[test]
fn one_request_asks_for_many() {
    let workspace = Workspace::new();
    workspace.config("sysext:\n  target: azurelinux-3.0\n  extensions:\n  - {name: a, verity: defer, files: ['bin/tool:/usr/bin/a']}\n  - {name: b, verity: defer, files: ['bin/tool:/usr/bin/b']}\n  - {name: c, verity: none, files: ['bin/tool:/usr/bin/c']}\n");
    workspace.run("build").succeeded();
    let said = workspace.run("sign request .sysext/a.raw .sysext/b.raw");
    let requests: serde_json::Value = serde_json::from_str(&said.succeeded().out).unwrap();
    let names: Vec<_> = requests["requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    workspace
        .refused("sign request .sysext/c.raw", "not-signable")
        .names(&["verity: defer"]);
}

#[test]
fn a_strangers_signature_is_the_control() {
    let workspace = Workspace::new();
    config(
        &workspace,
        "  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n",
    );
    workspace.run("build").succeeded();
    let said =
        workspace.run("verify .sysext/tool.raw --certificate ../keys/cert.crt --negative-control");
    assert!(
        said.succeeded().out.contains("negative-control"),
        "{said:?}"
    );
    let said = workspace.run("verify .sysext/tool.raw --negative-control");
    assert_eq!(
        said.status,
        Some(2),
        "nobody trusted, nothing controlled: {said:?}"
    );
}

/// What a command says on a terminal where somebody answers its question, and how it ends.
fn at_a_terminal(workspace: &Workspace, args: &str, answer: &str) -> (String, Option<i32>) {
    let program = PROGRAM;
    let mut script = command("script");
    let mut child = script
        .args(["-qec", &format!("{program} {args}"), "/dev/null"])
        .current_dir(workspace.path("project"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut shown, mut byte) = (Vec::new(), [0]);
    let mut out = child.stdout.take().unwrap();
    while !shown.ends_with(b".pem: ") && out.read(&mut byte).unwrap() == 1 {
        shown.push(byte[0]);
    }
    // The echo goes off after the question.
    std::thread::sleep(Duration::from_millis(300));
    let mut keyboard = child.stdin.take().unwrap();
    writeln!(keyboard, "{answer}").unwrap();
    out.read_to_end(&mut shown).unwrap();
    drop(keyboard);
    let status = child.wait().unwrap().code();
    (String::from_utf8_lossy(&shown).into_owned(), status)
}

#[test]
fn a_passphrase_is_asked_for_at_a_terminal_once_and_not_shown() {
    if !have(&["openssl", "script"]) {
        return;
    }
    let workspace = Workspace::new();
    pair(
        &workspace,
        "rsa",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    );
    let keys = workspace.path("keys");
    lock(&keys, "rsa.pem");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(keys.join("locked.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    workspace.config(&format!(
        "sysext:\n  target: azurelinux-3.0\n  verityKey: ../keys/locked.pem\n  verityCertificate: ../keys/rsa.crt\n{EXTENSION}  - {{name: other, files: ['bin/tool:/usr/bin/other']}}\n"
    ));
    let (shown, status) = at_a_terminal(&workspace, "build", WORD);
    assert_eq!(status, Some(0), "{shown}");
    assert_eq!(shown.matches("passphrase of").count(), 1, "{shown}");
    assert!(!shown.contains(WORD), "{shown}");
    assert!(is_signed(&image(&workspace), &keys.join("rsa.crt")));

    let (shown, status) = at_a_terminal(&workspace, "build", "mustard");
    assert_eq!(status, Some(1), "{shown}");
    assert!(
        shown.contains("error[key-refused]") && shown.contains("does not open it"),
        "{shown}"
    );
    assert!(!shown.contains("mustard"), "{shown}");

    let resign =
        "sign resign .sysext/tool.raw --key ../keys/locked.pem --certificate ../keys/rsa.crt";
    let (shown, status) = at_a_terminal(&workspace, resign, WORD);
    assert_eq!(status, Some(0), "{shown}");
    // Without a person it says what to write.
    workspace
        .refused("build", "key-refused")
        .names(&["verityKeyPassphrase: env:NAME"]);
    let resign = format!("{resign} --passphrase env:WORD");
    let mut command = workspace.command(resign.split(' '));
    Said::of(command.env("WORD", WORD)).succeeded();
}

#[test]
fn a_certificate_that_no_extension_needs_is_told() {
    let workspace = Workspace::new();
    let keys = "  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n  certificates: [../keys/other.crt]\n";
    config(&workspace, keys);
    let said = workspace.run("build");
    said.succeeded()
        .names(&["warning[certificate-unused]", "config.yaml:5:"]);
    // While keys are rotated one image is by the old, another by the new.
    fs::copy(image(&workspace), workspace.path("project/old.raw")).unwrap();
    workspace
        .run("sign resign old.raw --key ../keys/other.pem --certificate ../keys/other.crt")
        .succeeded();
    let both = EXTENSION.replace("name: tool", "name: new") + "  - old.raw\n";
    workspace.config(&format!("sysext:\n  target: azurelinux-3.0\n{keys}{both}"));
    let said = workspace.run("build");
    assert!(
        !said.succeeded().err.contains("certificate-unused"),
        "{said:?}"
    );
    // Who will sign what is deferred is not known.
    config(&workspace, "  certificates: [../keys/other.crt]\n");
    let text = String::from_utf8(workspace.read("project/config.yaml")).unwrap();
    workspace.config(&text.replace("name: tool,", "name: tool, verity: defer,"));
    let said = workspace.run("build");
    assert!(
        !said.succeeded().err.contains("certificate-unused"),
        "{said:?}"
    );
}

#[test]
fn a_policy_for_a_systemd_that_knows_none_is_refused_with_what_to_do_instead() {
    let workspace = Workspace::new();
    config(
        &workspace,
        "  imagePolicy: signed\n  verityKey: ../keys/key.pem\n  verityCertificate: ../keys/cert.crt\n",
    );
    for verb in ["build", "expand", "check"] {
        workspace
            .refused(
                &format!("{verb} --target debian-12"),
                "image-policy-unsupported",
            )
            .names(&["systemd 252", "config.yaml:3:", "read-only root"]);
    }
    workspace.run("build --target debian-13").succeeded();
}
