//! No piece of a private key leaves its own file, and no passphrase and no PIN is seen anywhere.
//!
//! What is searched, and for what, stands in `harness/secret.rs`; every test with a `Workspace` ends with that
//! search. These runs are those in which a secret is closest to coming out.

use std::fs;
use std::path::Path;

use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::symm::Cipher;
use openssl::x509::X509;

use crate::harness::said::Said;
use crate::harness::snapshot::copy;
use crate::harness::workspace::Workspace;

/// The passphrase of all keys that have one.
const WORD: &str = "Zaubernuss-9317";
/// What opens the token of a signer.
const PIN: &str = "4711081592";

#[test]
fn the_search_finds_what_it_looks_for() {
    let workspace = Workspace::new();
    let pem = workspace.read("keys/key.pem");
    let key = PKey::private_key_from_pem(&pem).unwrap();
    workspace.write("curve.pem", CURVE, 0o600);
    workspace.write("keys/curve.pem", CURVE, 0o600);
    let curve = PKey::private_key_from_pem(CURVE.as_bytes()).unwrap();
    let line = String::from_utf8(pem.clone()).unwrap();
    let line = line.lines().nth(10).unwrap().to_owned();
    workspace.secret_word(WORD);
    let word = format!("opened by {WORD}");
    let rsa = key.rsa().unwrap();
    let leaks: [&[u8]; 8] = [
        &pem,
        &key.private_key_to_der().unwrap(),
        &key.private_key_to_pem_pkcs8().unwrap(),
        line.as_bytes(),
        &rsa.q().unwrap().to_vec(),
        CURVE.as_bytes(),
        &curve.ec_key().unwrap().private_key().to_vec(),
        word.as_bytes(),
    ];
    fs::remove_file(workspace.path("curve.pem")).unwrap();
    for (index, leak) in leaks.iter().enumerate() {
        for shift in [0, 3, 7] {
            let hidden = [&vec![b'x'; shift], *leak, b"more"].concat();
            workspace.write("leak", hidden, 0o644);
            assert!(
                workspace.search().is_err(),
                "leak {index} at {shift} was not seen"
            );
        }
    }
    fs::remove_file(workspace.path("leak")).unwrap();
    // What may be seen: certificate and signatures.
    workspace.write("public", workspace.read("keys/cert.crt"), 0o644);
    let searched = workspace.search().unwrap();
    assert!(searched.keys == 3 && searched.files > 5, "{searched:?}");
}

/// A key on P-256, whose one secret number is short.
const CURVE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRSqM2xAYIgypb4KG
AjIsaa+TLWP/OiyRBJjft0CSgPehRANCAARB/EBSec+McnSEAkmaTY1qQHwQJ5bh
DZ0sIfL/HEhnPcbHu+IZta0e5+V+6Iy4Y1JylQw+jXcCe24Klpedc9gA
-----END PRIVATE KEY-----
";

/// Puts keys in all forms beside each other.
fn keys_in_every_form(workspace: &Workspace) {
    let pem = workspace.read("keys/key.pem");
    let key = PKey::private_key_from_pem(&pem).unwrap();
    let certificate = X509::from_pem(&workspace.read("keys/cert.crt")).unwrap();
    let mut store = Pkcs12::builder();
    let store = store.name("k").pkey(&key).cert(&certificate);
    let store = store.build2(WORD).unwrap().to_der().unwrap();
    workspace.write("keys/key.p12", store, 0o600);
    workspace.write("keys/key.der", key.private_key_to_der().unwrap(), 0o600);
    let locked = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), WORD.as_bytes());
    workspace.write("keys/locked.pem", locked.unwrap(), 0o600);
    workspace.write("keys/word", format!("{WORD}\n"), 0o600);
    workspace.secret_word(WORD);
    workspace.secret_word(PIN);
}

#[test]
fn no_stream_and_no_file_holds_a_piece_of_the_key() {
    let workspace = Workspace::new();
    let pem = workspace.read("keys/key.pem");
    keys_in_every_form(&workspace);

    workspace.write("keys/open.pem", &pem, 0o644);
    let half = &pem[..pem.len() / 2];
    workspace.write("keys/half.pem", half, 0o600);
    workspace.write(
        "keys/both.pem",
        [pem.clone(), workspace.read("keys/cert.crt")].concat(),
        0o600,
    );
    workspace.program("imagecustomizer", "#!/bin/sh\nenv; cat \"$3\"; exit 0\n");

    // A signer that needs its PIN and would rather not tell it.
    workspace.program("sign",
        "#!/bin/sh\n[ \"$PIN\" ] || exit 3\n[ $# = 0 ] || { echo 'no such token' >&2; exit 1; }\nexec openssl dgst -sha256 -sign ../keys/key.pem\n");
    let text = String::from_utf8(pem.clone()).unwrap();
    let one_line = text.replace('\n', "\\n");
    let block = |keys: &str| {
        format!("sysext: {{{keys}, extensions: [{{name: a, files: ['bin/tool:/usr/bin/a']}}]}}\n")
    };
    let configs = [
        block("verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt"),
        block("verityKey: 'env:KEY', verityCertificate: ../keys/cert.crt"),
        block("verityKey: 'env:HALF', verityCertificate: ../keys/cert.crt"),
        block("verityKey: 'env:ONE_LINE', verityCertificate: ../keys/cert.crt"),
        block("verityKey: 'env:KEY', verityCertificate: ../keys/other.crt"),
        block("verityKey: ../keys/key.pem, verityCertificate: ../keys/other.crt"),
        block("verityKey: ../keys/open.pem, verityCertificate: ../keys/cert.crt"),
        block("verityKey: ../keys/half.pem, verityCertificate: ../keys/cert.crt"),
        block("verityKey: ../keys/both.pem, verityCertificate: ../keys/cert.crt"),
        block("verityKey: ../keys/key.pem, verityCertificate: ../keys/key.pem"),
        block("verityKey: ../keys/key.pem, verityCertificate: ../keys/both.pem"),
        block(
            "certificates: [../keys/key.pem], verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt",
        ),
        block("verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt, nokey: 1"),
        block("verityKey: ../keys/key.der, verityCertificate: ../keys/cert.crt"),
        block(
            "verityKey: ../keys/key.p12, verityKeyPassphrase: 'env:WORD', verityCertificate: ../keys/cert.crt",
        ),
        block(
            "verityKey: ../keys/key.p12, verityKeyPassphrase: 'env:WRONG', verityCertificate: ../keys/cert.crt",
        ),
        block("verityKey: ../keys/key.p12, verityCertificate: ../keys/cert.crt"),
        block(
            "verityKey: ../keys/locked.pem, verityKeyPassphrase: ../keys/word, verityCertificate: ../keys/cert.crt",
        ),
        block(
            "verityKey: ../keys/locked.pem, verityKeyPassphrase: 'env:PIN', verityCertificate: ../keys/cert.crt",
        ),
        block("verityKey: ../keys/word, verityCertificate: ../keys/cert.crt"),
        block("signer: {command: [../sign]}, verityCertificate: ../keys/cert.crt"),
        block(
            "signer: {command: [../sign, '-failing'], retries: 0}, verityCertificate: ../keys/cert.crt",
        ),
        block(
            "verityKey: ../keys/key.pem, verityCertificate: ../keys/cert.crt, certificateLocation: /run/verity.d",
        ),
        block("verityCertificate: ../keys/cert.crt").replace("name: a,", "name: a, verity: defer,"),
    ];
    let verbs = [
        "build --rootfs ../rootfs",
        "apply --rootfs ../rootfs --expanded-config expanded.yaml",
        "apply --rootfs ../rootfs --dry-run --output json",
        "expand --rootfs ../rootfs --output-file -",
        "expand --rootfs ../rootfs",
        "validate-config --validate-resources files,images --output json",
        "customize --rootfs ../rootfs --imagecustomizer ../imagecustomizer",
        "check --rootfs ../rootfs --output json",
        "inspect .sysext/a.raw --output json",
        "inspect ../keys/key.pem",
        "verify .sysext/a.raw --certificate ../keys/key.pem",
        "verify ../keys/key.pem --certificate ../keys/cert.crt",
        "validate-config --config-file ../keys/key.pem",
        "build --config-file ../keys/key.pem --output json",
        "build --digests --output-dir ../elsewhere --rootfs ../rootfs",
        "expand --rootfs ../rootfs --trident host.yaml",
        "sign request .sysext/a.raw --certificate ../keys/cert.crt",
        "sign resign .sysext/a.raw --key ../keys/key.p12 --passphrase env:WORD --certificate ../keys/cert.crt",
        "sign resign .sysext/a.raw --key ../keys/locked.pem --passphrase env:WRONG --certificate ../keys/cert.crt",
        "sign resign .sysext/a.raw --key ../keys/other.pem --certificate ../keys/other.crt",
        "sign attach .sysext/a.raw --signature ../keys/key.pem --certificate ../keys/cert.crt",
        "sign attach .sysext/a.raw --signature ../keys/key.der --certificate ../keys/cert.crt",
        "sign keygen --key ../keys/new.pem --certificate ../keys/new.crt",
        "list --rootfs ../rootfs --output json",
        "remove a --rootfs ../rootfs --output json",
    ];
    for config in &configs {
        workspace.config(config);
        for verb in verbs {
            let customize = verb.starts_with("customize");
            let mut command = workspace.command(verb.split(' '));
            // Prism inherits the environment, which is not for us to search.
            if !customize {
                command
                    .env("KEY", &text)
                    .env("HALF", &text[..text.len() / 2])
                    .env("ONE_LINE", &one_line)
                    .env("WORD", WORD)
                    .env("WRONG", format!("not-{WORD}"))
                    .env("PIN", PIN);
            }
            Said::of(&mut command);
        }
        workspace.search().unwrap();
    }
    let searched = workspace.search().unwrap();
    let streams = configs.len() * verbs.len() * 2;
    assert!(
        searched.streams >= streams && searched.keys >= 6,
        "{searched:?}"
    );
    // The runs did what they are about.
    let signed = workspace.path("project/.sysext/a.raw");
    assert!(signed.is_file() && workspace.path("elsewhere/a.raw").is_file());
}

#[test]
fn a_key_written_into_the_config_is_refused_and_not_shown() {
    let workspace = Workspace::new();
    workspace.holds_secrets("project/config.yaml");
    let pem = workspace.read("keys/key.pem");
    let indented = String::from_utf8(pem).unwrap().replace('\n', "\n    ");
    for at in ["", "env:", "file:"] {
        workspace.config(&format!(
            "sysext:\n  verityCertificate: ../keys/cert.crt\n  verityKey: |\n    {at}{indented}\n  extensions:\n  - {{name: a, files: ['bin/tool:/usr/bin/a']}}\n"
        ));
        for verb in ["build --rootfs ../rootfs", "validate-config --output json"] {
            workspace.refused(verb, "key-in-config");
        }
    }
}

#[test]
fn a_key_inside_the_content_is_the_users_own_business_but_one_below_the_config_is_told() {
    let workspace = Workspace::new();
    copy(&workspace.path("keys"), &workspace.path("project/keys"));
    workspace.config(
        "sysext: {verityKey: keys/key.pem, verityCertificate: keys/cert.crt, extensions: [{name: a, files: ['bin/tool:/usr/bin/a']}]}\n",
    );
    let said = workspace.run("build --rootfs ../rootfs");
    said.succeeded()
        .names(&["warning[key-below-config]", "keys/key.pem"]);
    assert!(fs::exists(workspace.path("project/.sysext/a.raw")).unwrap());
    assert!(Path::new(&workspace.path("project/keys/key.pem")).is_file());
}
