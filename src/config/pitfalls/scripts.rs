//! What the user's own scripts do to extensions. They run in a chroot while the image is made.

use crate::config::prism::{Prism, Script};
use crate::finding::Finding;

/// Commands of a script that a chroot makes into something else than they look like.
pub(crate) fn pitfalls(prism: &Prism) -> Vec<Finding> {
    let Some(scripts) = &prism.scripts else {
        return Vec::new();
    };
    let lists = [
        ("postCustomization", &scripts.post_customization),
        ("finalizeCustomization", &scripts.finalize_customization),
    ];
    let mut findings = Vec::new();
    for (key, list) in lists {
        for (index, script) in list.iter().flatten().enumerate() {
            let at = format!("scripts.{key}[{index}].content");
            findings.extend(
                pitfalls_of(script)
                    .into_iter()
                    .map(|finding| finding.at(&at)),
            );
        }
    }
    findings
}

/// Whether a script of the config enables a unit.
pub(crate) fn enables(prism: &Prism, unit: &str) -> bool {
    let Some(scripts) = &prism.scripts else {
        return false;
    };
    let both = [&scripts.post_customization, &scripts.finalize_customization];
    let mut scripts = both.into_iter().flatten().flatten();
    scripts.any(|script| commands(script).any(|words| is_systemctl(&words, &["enable"], unit)))
}

fn pitfalls_of(script: &Script) -> Vec<Finding> {
    let mut findings = Vec::new();
    for words in commands(script) {
        for unit in ["systemd-sysext", "systemd-confext"] {
            if is_systemctl(&words, &["start", "restart", "reload"], unit) {
                let message = format!("`{}` does nothing here", words.join(" "));
                findings.push(
                    Finding::warning("start-in-chroot", message)
                        .because("in a chroot systemctl ignores the command and exits with 0 (`running_in_chroot`, src/systemctl), which also hides that an `enable` before it failed")
                        .help("leave the line out; an enabled service merges at every boot"),
                );
            }
            let merges = ["merge", "refresh", "unmerge"];
            if words.first() == Some(&unit) && words.iter().any(|word| merges.contains(word)) {
                let message = format!(
                    "`{}` would mount in the image that is being made",
                    words.join(" ")
                );
                findings.push(
                    Finding::warning("merge-in-chroot", message)
                        .because("the script runs in a chroot of the image, whose /usr Prism goes on writing to")
                        .help("leave the line out; the enabled service merges at every boot"),
                );
            }
        }
    }
    findings
}

/// The simple commands of a script, as far as they stand on lines of their own.
fn commands(script: &Script) -> impl Iterator<Item = Vec<&str>> {
    let text = script.content.as_deref().unwrap_or_default();
    let parts = text.split(['\n', ';', '&', '|']);
    let words = parts.map(|part| part.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| !words.first().is_none_or(|word| word.starts_with('#')))
}

fn is_systemctl(words: &[&str], verbs: &[&str], unit: &str) -> bool {
    let service = format!("{unit}.service");
    let is_unit = |word: &&str| *word == unit || *word == service;
    words.first() == Some(&"systemctl")
        && words
            .iter()
            .any(|word| verbs.contains(word) || (*word == "--now" && verbs.contains(&"start")))
        && words.iter().any(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::prism::Scripts;

    fn of(text: &str) -> Prism {
        let script = Script {
            content: Some(text.to_owned()),
            path: None,
        };
        Prism {
            scripts: Some(Scripts {
                post_customization: Some(vec![script]),
                finalize_customization: None,
            }),
            ..Prism::default()
        }
    }

    #[test]
    fn the_usual_recipe_is_seen_through() {
        let prism =
            of("set -e\nsystemctl enable systemd-sysext.service\nsystemctl start systemd-sysext\n");
        assert!(enables(&prism, "systemd-sysext") && !enables(&prism, "systemd-confext"));
        let found = pitfalls(&prism);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, "start-in-chroot");
    }

    #[test]
    fn commands_are_told_from_what_looks_like_them() {
        for (text, ids) in [
            (
                "systemctl enable --now systemd-sysext.service",
                &["start-in-chroot"][..],
            ),
            ("true && systemd-sysext refresh", &["merge-in-chroot"]),
            ("# systemctl start systemd-sysext", &[]),
            ("systemctl start other.service", &[]),
            ("systemd-sysext status", &[]),
        ] {
            let found: Vec<_> = pitfalls(&of(text))
                .iter()
                .map(|finding| finding.id)
                .collect();
            assert_eq!(found, ids, "{text}");
        }
    }
}
