//! Signatures that are not what they should be: judged here as the openssl program judges them with
//! the flags that systemd uses (`PKCS7_verify` with NOINTERN and NOVERIFY,
//! src/shared/dissect-image.c), and with a reason.

use std::fs;
use std::path::PathBuf;

use prism_sysext::image::signature::{SignerVerdict, check};
use prism_sysext::image::x509::{Certificate, load};
use tempfile::TempDir;

use crate::harness::tools::{command, have, output, run};

const HASH: &str = "452addea32c48fb76d3fdb21c53d6a1d1f5bc7a13fa2d3676e2fe91a8637a71e";

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench {
            dir: TempDir::new().unwrap(),
        };
        fs::write(bench.at("content"), HASH).unwrap();
        fs::write(bench.at("other-content"), HASH.replace('4', "5")).unwrap();
        for (name, algorithm) in [
            ("trusted", &["rsa:2048"][..]),
            ("other", &["rsa:2048"]),
            ("curve", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ] {
            run(command("openssl")
                .args(["req", "-x509", "-nodes", "-days", "30", "-newkey"])
                .args(algorithm)
                .args(["-subj", &format!("/CN={name}"), "-keyout"])
                .arg(bench.at(&format!("{name}.key")))
                .arg("-out")
                .arg(bench.at(&format!("{name}.crt"))));
        }
        // The key of `trusted` with another name, and once more with its name and another serial.
        for (name, subject) in [("renamed", "/CN=renamed"), ("again", "/CN=trusted")] {
            run(command("openssl")
                .args(["req", "-x509", "-days", "30", "-subj", subject, "-key"])
                .arg(bench.at("trusted.key"))
                .arg("-out")
                .arg(bench.at(&format!("{name}.crt"))));
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A signature of `content` by some signers, with further flags.
    fn sign(&self, content: &str, signers: &[(&str, &str)], flags: &[&str]) -> Vec<u8> {
        let mut sign = command("openssl");
        sign.args(["smime", "-sign", "-binary", "-outform", "DER", "-in"])
            .arg(self.at(content))
            .args(flags);
        for (certificate, key) in signers {
            sign.arg("-signer")
                .arg(self.at(&format!("{certificate}.crt")));
            sign.arg("-inkey").arg(self.at(&format!("{key}.key")));
        }
        sign.arg("-out").arg(self.at("signature"));
        run(&mut sign);
        fs::read(self.at("signature")).unwrap()
    }

    /// Whether openssl takes it, with the certificates of these names and no others.
    fn is_taken(&self, signature: &[u8], trusted: &[&str]) -> bool {
        fs::write(self.at("judged"), signature).unwrap();
        let all: Vec<u8> = trusted
            .iter()
            .flat_map(|name| fs::read(self.at(&format!("{name}.crt"))).unwrap())
            .collect();
        fs::write(self.at("trusted.pem"), all).unwrap();
        let verify = output(
            command("openssl")
                .args([
                    "smime",
                    "-verify",
                    "-binary",
                    "-inform",
                    "DER",
                    "-nointern",
                    "-noverify",
                ])
                .arg("-in")
                .arg(self.at("judged"))
                .arg("-content")
                .arg(self.at("content"))
                .arg("-certfile")
                .arg(self.at("trusted.pem"))
                .arg("-out")
                .arg(self.at("out")),
        );
        verify.status.success()
    }

    fn certificates(&self, names: &[&str]) -> Vec<Certificate> {
        let of = |name: &&str| load(&fs::read(self.at(&format!("{name}.crt"))).unwrap()).unwrap();
        names.iter().flat_map(of).collect()
    }
}

fn word(verdict: &SignerVerdict) -> &'static str {
    match verdict {
        SignerVerdict::Trusted(_) => "trusted",
        SignerVerdict::UnknownSigner(_) => "unknown signer",
        SignerVerdict::WrongSignature(_) => "wrong signature",
        SignerVerdict::Malformed(_) => "malformed",
    }
}

#[test]
fn each_forgery_is_judged_as_openssl_judges_it() {
    if !have(&["openssl"]) {
        return;
    }
    let bench = Bench::new();
    let ours = [("trusted", "trusted")];
    let plain = ["-noattr"];
    let good = bench.sign("content", &ours, &plain);
    let cut = good[..good.len() - 20].to_vec();
    let mut bent = good.clone();
    *bent.last_mut().unwrap() ^= 1;
    let trailing = [good.as_slice(), b"more"].concat();
    let both = [("trusted", "trusted"), ("other", "other")];
    let (trust, none): (&[&str], &[&str]) = (&["trusted"], &[]);
    let cases: Vec<(&str, Vec<u8>, &[&str], &str)> = vec![
        ("as it should be", good.clone(), trust, "trusted"),
        (
            "among others",
            good.clone(),
            &["other", "curve", "trusted"],
            "trusted",
        ),
        ("nobody trusted", good.clone(), none, "unknown signer"),
        (
            "another trusted",
            good.clone(),
            &["other"],
            "unknown signer",
        ),
        (
            "its own certificate inside counts for nothing",
            bench.sign("content", &[("other", "other")], &plain),
            trust,
            "unknown signer",
        ),
        (
            "without its certificate",
            bench.sign("content", &ours, &["-noattr", "-nocerts"]),
            trust,
            "trusted",
        ),
        (
            "of another image",
            bench.sign("other-content", &ours, &plain),
            trust,
            "wrong signature",
        ),
        (
            "with attributes",
            bench.sign("content", &ours, &[]),
            trust,
            "trusted",
        ),
        (
            "with attributes, of another image",
            bench.sign("other-content", &ours, &[]),
            trust,
            "wrong signature",
        ),
        (
            "by SHA-512",
            bench.sign("content", &ours, &["-noattr", "-md", "sha512"]),
            trust,
            "trusted",
        ),
        (
            "by SHA-1",
            bench.sign("content", &ours, &["-noattr", "-md", "sha1"]),
            trust,
            "trusted",
        ),
        (
            "by a curve",
            bench.sign("content", &[("curve", "curve")], &plain),
            &["curve"],
            "trusted",
        ),
        (
            "the same key under another issuer",
            bench.sign("content", &[("renamed", "trusted")], &plain),
            trust,
            "unknown signer",
        ),
        (
            "the same key and issuer, another serial number",
            bench.sign("content", &[("again", "trusted")], &plain),
            trust,
            "unknown signer",
        ),
        (
            "by two, of whom one is trusted",
            bench.sign("content", &both, &plain),
            trust,
            "unknown signer",
        ),
        (
            "by two, who are both trusted",
            bench.sign("content", &both, &plain),
            &["trusted", "other"],
            "trusted",
        ),
        (
            "with its content inside",
            bench.sign("content", &ours, &["-noattr", "-nodetach"]),
            trust,
            "trusted",
        ),
        (
            "with another content inside",
            bench.sign("other-content", &ours, &["-noattr", "-nodetach"]),
            trust,
            "wrong signature",
        ),
        ("a bit changed", bent, trust, "wrong signature"),
        ("cut short", cut, trust, "malformed"),
        ("nothing", Vec::new(), trust, "malformed"),
        (
            "no PKCS#7",
            b"\x30\x03\x02\x01\x05".to_vec(),
            trust,
            "malformed",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, signature, trusted, expected) in &cases {
        let taken = bench.is_taken(signature, trusted);
        let verdict = check(signature, HASH, &bench.certificates(trusted));
        if taken != matches!(verdict, SignerVerdict::Trusted(_)) || word(&verdict) != *expected {
            wrong.push(format!("{name}: openssl takes it: {taken}, {verdict:?}"));
        }
    }
    // openssl reads the first object and ignores what follows; that is refused here, since the
    // kernel's parser refuses it (crypto/asymmetric_keys/pkcs7_parser.c reads the whole blob).
    assert!(bench.is_taken(&trailing, trust));
    let verdict = check(&trailing, HASH, &bench.certificates(trust));
    assert_eq!(word(&verdict), "malformed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
