//! All extensions together: whether the merge happens at boot, and in which order.

use serde::Serialize;

use super::rules;
use super::{Host, Judgement, Verdict};
use crate::base::unit::{UNIT, UnitState};
use crate::finding::Finding;
use crate::name;

/// What mount(2) takes: one page less the final NUL.
const MAX_OPTIONS: usize = 4095;

/// Whether the service runs at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// It is enabled, or will be by what is placed.
    Enabled,
    /// Nothing enables it.
    Disabled,
    /// It is masked.
    Masked,
    /// There is no such unit.
    Missing,
}

impl Activation {
    /// The state of a base's unit; `will_enable` tells that we switch it on.
    pub fn of(unit: &UnitState, will_enable: bool) -> Activation {
        match unit {
            UnitState {
                masked: Some(_), ..
            } => Activation::Masked,
            UnitState { file: None, .. } => Activation::Missing,
            _ if unit.is_enabled() || will_enable => Activation::Enabled,
            _ => Activation::Disabled,
        }
    }
}

/// What becomes of all of them.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// Whether the merge happens at boot; none if it can't be told.
    pub merged: Option<bool>,
    /// Names of what is merged, lowest layer first.
    pub layers: Vec<String>,
    /// Why not, and what to know.
    pub reasons: Vec<Finding>,
}

pub(super) fn judge(host: &Host<'_>, extensions: &[Judgement]) -> Stack {
    let mut reasons = Vec::new();
    let mut merged = Some(true);
    let blocking: Vec<&str> = extensions
        .iter()
        .filter(|judgement| judgement.verdict == Verdict::BlocksAll)
        .map(|judgement| judgement.name.as_str())
        .collect();
    let mut layers: Vec<String> = extensions
        .iter()
        .filter(|judgement| judgement.verdict.merges())
        .map(|judgement| judgement.name.clone())
        .collect();
    layers.sort_by(|a, b| name::compare(a, b));
    if !blocking.is_empty() {
        merged = Some(false);
        if extensions.len() > blocking.len() {
            reasons.push(Finding::error(
                "merge-blocked",
                format!("nothing is merged because of {}", blocking.join(", ")),
            ));
        }
    } else if extensions
        .iter()
        .any(|judgement| judgement.verdict == Verdict::Unknown)
    {
        merged = None;
    }
    if host.incomplete && merged.is_some_and(|merged| merged) {
        merged = None;
        reasons.push(
            Finding::warning(
                "base-incomplete",
                "something of the base could not be read, so the merge can't be told",
            )
            .help("see the warnings about the base"),
        );
    }
    if !host.has_tool {
        merged = Some(false);
        reasons.push(
            Finding::error(
                "sysext-tool-missing",
                "the base has no systemd-sysext program",
            )
            .because(rules::UNIT)
            .help("install the package of the base that holds systemd-sysext"),
        );
    }
    if let Some(finding) = service(host.activation) {
        merged = Some(false);
        reasons.push(finding);
    }
    for (what, support) in [
        ("overlayfs", host.kernel.overlay),
        ("loop devices", host.kernel.loop_device),
    ] {
        if support.is_missing() {
            merged = Some(false);
            reasons.push(
                Finding::error(
                    "kernel-without-overlay",
                    format!("the kernel of the base has no {what}"),
                )
                .help("use a kernel with CONFIG_OVERLAY_FS and CONFIG_BLK_DEV_LOOP"),
            );
        }
    }
    for pair in layers.windows(2) {
        if let [lower, upper] = pair
            && name::compare(lower, upper).is_eq()
        {
            reasons.push(
                Finding::warning(
                    "names-tie",
                    format!("`{lower}` and `{upper}` compare equal, either may be the upper layer"),
                )
                .because(rules::LAYER_ORDER)
                .help("rename one of them"),
            );
        }
    }
    let length = options_length(&layers, "/usr");
    if length > MAX_OPTIONS {
        merged = Some(false);
        reasons.push(
            Finding::error("too-many-extensions", format!("the overlay of /usr needs {length} bytes of options, at most {MAX_OPTIONS} work"))
                .because(rules::OPTION_STRING)
                .help("use fewer extensions, or shorter names"),
        );
    }
    Stack {
        merged,
        layers,
        reasons,
    }
}

fn service(activation: Activation) -> Option<Finding> {
    let finding = |id, message: String, help: &str| {
        Some(Finding::error(id, message).because(rules::UNIT).help(help))
    };
    match activation {
        Activation::Enabled => None,
        Activation::Disabled => finding(
            "service-not-enabled",
            format!("{UNIT} is not enabled, so nothing is merged at boot"),
            "use `enable: script`, or enable it in the base",
        ),
        Activation::Masked => finding(
            "service-masked",
            format!("{UNIT} is masked in the base"),
            "remove /etc/systemd/system/systemd-sysext.service",
        ),
        Activation::Missing => finding(
            "service-missing",
            format!("the base has no {UNIT}"),
            "install the package of the base that holds systemd-sysext",
        ),
    }
}

/// Bytes of `lowerdir=META:EXTENSION…:HIERARCHY` (`mount_overlayfs`, src/sysext/sysext.c).
fn options_length(layers: &[String], hierarchy: &str) -> usize {
    let meta = "lowerdir=/run/systemd/sysext/meta".len() + hierarchy.len();
    let each = ":/run/systemd/sysext/extensions/".len() + hierarchy.len();
    let extensions: usize = layers.iter().map(|name| each + name.len()).sum();
    meta + extensions + 1 + hierarchy.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::kernel::KernelFeatures;
    use crate::base::unit::Enablement;

    #[test]
    fn ninety_six_names_of_six_bytes_fit() {
        // Observed on 252 to 262: 96 extensions with six-byte names work.
        let names = |count: usize| (0..count).map(|i| format!("ext{i:03}")).collect::<Vec<_>>();
        assert!(options_length(&names(96), "/usr") <= MAX_OPTIONS);
        assert!(options_length(&names(97), "/usr") > MAX_OPTIONS);
    }

    #[test]
    fn a_base_that_was_not_read_in_full_promises_nothing() {
        let release = crate::release::ReleaseFields::new();
        let stack = |incomplete| {
            let host = Host {
                os_release: &release,
                systemd: None,
                arch: None,
                kernel: KernelFeatures::UNKNOWN,
                trusted: &[],
                image_policy: None,
                has_tool: true,
                activation: Activation::Enabled,
                incomplete,
            };
            judge(&host, &[])
        };
        assert_eq!(stack(false).merged, Some(true));
        assert_eq!(stack(true).merged, None);
        assert_eq!(stack(true).reasons[0].id, "base-incomplete");
    }

    #[test]
    fn activation() {
        let unit = |path: Option<&str>, enabled, masked| UnitState {
            name: UNIT,
            file: path.map(str::to_owned),
            masked: bool::then(masked, || "/m".to_owned()),
            enablement: match enabled {
                true => Enablement::Enabled("/l".to_owned()),
                false => Enablement::Disabled,
            },
            drop_ins: Vec::new(),
            exec_start: Vec::new(),
            image_policy: None,
        };
        assert_eq!(
            Activation::of(&unit(None, false, false), true),
            Activation::Missing
        );
        assert_eq!(
            Activation::of(&unit(Some("/u"), false, false), true),
            Activation::Enabled
        );
        assert_eq!(
            Activation::of(&unit(Some("/u"), false, false), false),
            Activation::Disabled
        );
        assert_eq!(
            Activation::of(&unit(Some("/u"), true, true), true),
            Activation::Masked
        );
    }
}
