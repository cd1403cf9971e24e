//! No piece of a private key leaves its own file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use program::{Ground, Said, copy, snapshot};

/// Bytes of a key that count as a leak when they turn up elsewhere.
const PIECE: usize = 24;

/// All that must not be seen: pieces of the body without its line ends, and of what it decodes to.
struct Secret {
    text: Pieces,
    der: Pieces,
}

impl Secret {
    /// `certificate` and the name of the algorithm may be seen; parts of the key repeat them.
    fn of(pem: &[u8], certificate: &[u8]) -> Secret {
        let text: Vec<u8> = String::from_utf8(pem.to_vec())
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .flat_map(|line| line.as_bytes().to_vec())
            .collect();
        let der = openssl::base64::decode_block(std::str::from_utf8(&text).unwrap()).unwrap();
        // What comes before the numbers names the algorithm (PKCS#8, RFC 5958), as signatures do.
        let public = [certificate, &der[..38]].concat();
        let is_public = |piece: &[u8]| contains(&public, piece);
        // Four characters stand for three bytes; the certificate in a signature is base64 too.
        let secret_text = text.windows(PIECE).enumerate().filter(|(at, _)| {
            let bytes = der.get((at * 3).div_ceil(4)..(at + PIECE) * 3 / 4);
            !bytes.is_some_and(is_public)
        });
        let secret_der = der.windows(PIECE).filter(|piece| !is_public(piece));
        let found = Secret {
            text: Pieces::of(secret_text.map(|(_, piece)| piece)),
            der: Pieces::of(secret_der),
        };
        assert!(found.is_in(pem) && found.is_in(&der), "the search works");
        assert!(!found.is_in(certificate));
        found
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let squeezed: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'\\')
            .collect();
        self.text.one_is_in(&squeezed) || self.der.one_is_in(bytes)
    }
}

/// Pieces by their first two bytes, so that a large image is searched fast.
struct Pieces(HashMap<[u8; 2], HashSet<Vec<u8>>>, Vec<bool>);

impl Pieces {
    fn of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Pieces {
        let mut found = Pieces(HashMap::new(), vec![false; 1 << 16]);
        for piece in pieces {
            let head = [piece[0], piece[1]];
            found.1[usize::from(u16::from_le_bytes(head))] = true;
            found.0.entry(head).or_default().insert(piece.to_vec());
        }
        found
    }

    fn one_is_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(PIECE).any(|window| {
            let head = [window[0], window[1]];
            self.1[usize::from(u16::from_le_bytes(head))] && self.0[&head].contains(window)
        })
    }
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
    let certificate = openssl::x509::X509::from_pem(&ground.read("keys/cert.crt")).unwrap();
    let secret = Secret::of(&pem, &certificate.to_der().unwrap());

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
    for config in &configs {
        ground.config(config);
        for verb in verbs {
            let customize = verb.starts_with("customize");
            let mut command = ground.command(verb.split(' '));
            // Prism inherits the environment, which is not for us to search.
            if !customize {
                command
                    .env("KEY", &text)
                    .env("HALF", &text[..text.len() / 2])
                    .env("ONE_LINE", &one_line);
            }
            let said = Said::of(&mut command);
            for stream in [&said.out, &said.err] {
                assert!(!secret.is_in(stream.as_bytes()), "{config}{verb}: {stream}");
            }
        }
        search(&ground, &secret, config);
    }
}

fn search(ground: &Ground, secret: &Secret, what: &str) {
    for (path, (_, bytes)) in snapshot(ground.root()) {
        if path.starts_with("keys") {
            continue;
        }
        assert!(!secret.is_in(&bytes), "{what}: {}", path.display());
    }
}

#[test]
fn a_key_written_into_the_config_is_refused_and_not_shown() {
    let ground = Ground::new();
    let pem = ground.read("keys/key.pem");
    let certificate = openssl::x509::X509::from_pem(&ground.read("keys/cert.crt")).unwrap();
    let secret = Secret::of(&pem, &certificate.to_der().unwrap());
    let indented = String::from_utf8(pem).unwrap().replace('\n', "\n    ");
    for at in ["", "env:", "file:"] {
        ground.config(&format!(
            "sysext:\n  verityCertificate: ../keys/cert.crt\n  verityKey: |\n    {at}{indented}\n  extensions:\n  - {{name: a, files: ['bin/tool:/usr/bin/a']}}\n"
        ));
        for verb in ["build --rootfs ../rootfs", "validate-config --output json"] {
            let said = ground.refused(verb, "key-in-config");
            for stream in [&said.out, &said.err] {
                assert!(!secret.is_in(stream.as_bytes()), "{verb}: {stream}");
            }
        }
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
