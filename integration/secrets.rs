//! No piece of a private key leaves its own file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use program::{Ground, Said, copy, snapshot};

/// Bytes of a key that count as a leak when they turn up elsewhere.
const PIECE: usize = 24;

/// All that must not be seen: the text of the body without its line ends, and what it decodes to.
struct Secret {
    text: Vec<u8>,
    der: Vec<u8>,
}

impl Secret {
    fn of(pem: &[u8]) -> Secret {
        let text: Vec<u8> = String::from_utf8(pem.to_vec())
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .flat_map(|line| line.as_bytes().to_vec())
            .collect();
        let der = openssl::base64::decode_block(std::str::from_utf8(&text).unwrap()).unwrap();
        Secret { text, der }
    }

    /// Whether `bytes` hold a piece of the key. `public` holds what may be seen: the modulus and
    /// the names of algorithms are part of the certificate too.
    fn is_in(&self, bytes: &[u8], public: &[u8]) -> bool {
        let squeezed: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'\\')
            .collect();
        let is_public = |piece: &[u8]| contains(public, piece);
        // Four characters stand for three bytes; the certificate in a signature is base64 too.
        let text = self.text.windows(PIECE).enumerate().filter(|(at, _)| {
            let bytes = self.der.get((at * 3).div_ceil(4)..(at + PIECE) * 3 / 4);
            !bytes.is_some_and(is_public)
        });
        let der = self.der.windows(PIECE).filter(|piece| !is_public(piece));
        holds_one(&squeezed, text.map(|(_, piece)| piece)) || holds_one(bytes, der)
    }
}

fn holds_one<'a>(haystack: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let pieces: HashSet<&[u8]> = pieces.collect();
    haystack
        .windows(PIECE)
        .any(|window| pieces.contains(window))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[test]
fn no_stream_and_no_file_holds_a_piece_of_the_key() {
    let ground = Ground::new();
    let pem = ground.read("keys/key.pem");
    let secret = Secret::of(&pem);
    let mut public = openssl::x509::X509::from_pem(&ground.read("keys/cert.crt"))
        .unwrap()
        .to_der()
        .unwrap();
    // What comes before the numbers names the algorithm (PKCS#8, RFC 5958), as signatures do too.
    public.extend(&secret.der[..38]);
    assert!(secret.is_in(&pem, &public), "the search works on text");
    assert!(secret.is_in(&secret.der, &public), "and on bytes");
    assert!(!secret.is_in(&public, &public));

    ground.write("keys/open.pem", &pem, 0o644);
    let half = &pem[..pem.len() / 2];
    ground.write("keys/half.pem", half, 0o600);
    ground.write(
        "keys/both.pem",
        [pem.clone(), ground.read("keys/cert.crt")].concat(),
        0o600,
    );
    ground.write(
        "imagecustomizer",
        "#!/bin/sh\nenv; cat \"$3\"; exit 0\n",
        0o755,
    );

    let text = String::from_utf8(pem.clone()).unwrap();
    let one_line = text.replace('\n', "\\n");
    let block = |keys: &str| {
        format!("sysext: {{{keys}, extensions: [{{name: a, files: ['bin/tool:/usr/bin/a']}}]}}\n")
    };
    let inline = text.lines().nth(1).unwrap();
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
    ];
    let keys = ground.snapshot();
    for config in &configs {
        ground.config(config);
        for verb in verbs {
            let customize = verb.starts_with("customize");
            let mut command = ground.command(verb.split(' '));
            // Prism inherits the environment, which is not for us to search.
            if !customize || !config.contains("env:") {
                command
                    .env("KEY", &text)
                    .env("HALF", &text[..text.len() / 2])
                    .env("ONE_LINE", &one_line);
            }
            if customize {
                command
                    .env_remove("KEY")
                    .env_remove("HALF")
                    .env_remove("ONE_LINE");
            }
            let said = Said::of(&mut command);
            for stream in [&said.out, &said.err] {
                assert!(
                    !secret.is_in(stream.as_bytes(), &public),
                    "{config}{verb}: {stream}"
                );
            }
        }
        search(&ground, &secret, &public, config);
    }
    assert!(!keys.is_empty() && !inline.is_empty());
}

fn search(ground: &Ground, secret: &Secret, public: &[u8], what: &str) {
    for (path, (_, bytes)) in snapshot(ground.root()) {
        if path.starts_with("keys") {
            continue;
        }
        assert!(!secret.is_in(&bytes, public), "{what}: {}", path.display());
    }
}

#[test]
fn a_key_inside_the_content_is_the_users_own_business_but_one_below_the_config_is_told() {
    let ground = Ground::new();
    copy(&ground.path("keys"), &ground.path("project/keys"));
    ground.config(
        "sysext: {verityKey: keys/key.pem, verityCertificate: keys/cert.crt, extensions: [{name: a, files: ['bin/tool:/usr/bin/a']}]}\n",
    );
    let said = ground.run("build --rootfs ../rootfs");
    said.succeeded()
        .names(&["warning[key-below-config]", "keys/key.pem"]);
    assert!(fs::exists(ground.path("project/.sysext/a.raw")).unwrap());
    assert!(Path::new(&ground.path("project/keys/key.pem")).is_file());
}
