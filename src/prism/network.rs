//! Names of machines and URLs, as the Go libraries that Prism uses judge them.

use std::net::IpAddr;

/// Whether Prism takes a host name (`IsDNSName` of govalidator, and no underscore).
pub(super) fn is_host_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let starts = label.starts_with(|c: char| c.is_ascii_alphanumeric());
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
        starts && label.len() <= 63 && label.chars().all(known)
    };
    name.len() <= 255 && name.parse::<IpAddr>().is_err() && labels.split('.').all(is_label)
}

/// Whether a URL has one of the schemes that a LiveOS downloads by (`pxe.go`).
pub(super) fn is_download(url: &str) -> bool {
    let schemes = ["ftp://", "http://", "https://", "nfs://", "tftp://"];
    let clean = !url.contains(|c: char| c.is_ascii_control() || c == ' ');
    clean && schemes.iter().any(|scheme| url.starts_with(scheme))
}

/// Whether a text names an artifact: registry, repository, and a tag or digest if there is one
/// (`ParseReference` of oras-go).
pub(super) fn is_artifact(uri: &str) -> bool {
    let Some((registry, rest)) = uri.split_once('/') else {
        return false;
    };
    let (path, digest) = match rest.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (rest, None),
    };
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (path, None),
    };
    let is_part = |part: &str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(ends) && part.ends_with(ends) && part.chars().all(known)
    };
    let is_tag = |tag: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let starts = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        starts && tag.len() <= 128 && tag.chars().all(known)
    };
    let is_digest = |digest: &str| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            let lengths = [("sha256", 64), ("sha384", 96), ("sha512", 128)];
            lengths.contains(&(algorithm, hex.len())) && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    let known = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !registry.is_empty()
        && registry.chars().all(known)
        && repository.split('/').all(is_part)
        && (digest.is_some() || tag.is_none_or(is_tag))
        && digest.is_none_or(is_digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_machines() {
        for good in ["a", "a.b-c", "host1.example.com.", "1a"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["a_b", "", "-a", "a..b", "10.0.0.1", "a b", "ä"] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn artifacts_and_downloads() {
        for good in ["r.io/a/b:1", "localhost:5000/x", "r/x@sha256:", "r.io/x"] {
            let digest = if good.ends_with("sha256:") {
                "a".repeat(64)
            } else {
                String::new()
            };
            assert!(is_artifact(&format!("{good}{digest}")), "{good}");
        }
        for bad in [
            "x",
            "oci://r.io/x",
            "r.io/X",
            "r.io/x:",
            "r.io/x@sha256:12",
            "/x",
        ] {
            assert!(!is_artifact(bad), "{bad}");
        }
        assert!(is_download("tftp://x/y") && !is_download("oci://x") && !is_download("http://a b"));
    }
}
