//! All extensions together: whether the merge happens at boot, and in which order.

use serde::Serialize;

use super::{Host, Judgement, Verdict};
use crate::base::certificate_copies::Copies;
use crate::base::unit::UnitState;
use crate::finding::Finding;
use crate::systemd::kind::ExtensionKind;
use crate::systemd::{citations, extension_name};

/// What mount(2) takes: one page less the final NUL.
const MAX_OPTIONS: usize = 4095;

/// Whether the service runs at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// It is enabled, or will be by what is placed.
    Enabled,
    /// Nothing enables it.
    Disabled,
    /// It is masked.
    Masked,
    /// There is no such unit.
    Missing,
    /// A command before the merge fails; why.
    Failing(String),
}

impl Activation {
    /// The state of a base's unit; `will_enable` tells that we switch it on.
    pub fn of(unit: &UnitState, will_enable: bool) -> Activation {
        match unit {
            UnitState {
                masked: Some(_), ..
            } => Activation::Masked,
            UnitState { file: None, .. } => Activation::Missing,
            _ if !unit.is_enabled() && !will_enable => Activation::Disabled,
            UnitState {
                copies: Copies {
                    failure: Some(why), ..
                },
                ..
            } => Activation::Failing(why.clone()),
            _ => Activation::Enabled,
        }
    }
}

/// What becomes of all of them.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// Whether the merge happens at boot; none if it can't be told.
    pub merged: Option<bool>,
    /// Names of what is merged, lowest layer first.
    pub layers: Vec<String>,
    /// The folders that get an overlay, each with the layers that add to it.
    pub hierarchies: Vec<Hierarchy>,
    /// Why not, and what to know.
    pub reasons: Vec<Finding>,
}

/// A folder that extensions are merged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hierarchy {
    /// Such as `/usr`.
    pub path: String,
    /// The extensions that hold something for it, lowest layer first.
    pub layers: Vec<String>,
    /// Whether the base's own files are gone from it, because the list of layers is cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub base_hidden: bool,
}

/// Judges the extensions of one kind together.
pub(super) fn judge(host: &Host<'_>, kind: ExtensionKind, extensions: &[&Judgement]) -> Stack {
    let service = host.service(kind);
    let program = kind.program();
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
    layers.sort_by(|a, b| extension_name::compare(a, b));
    let filled = |name: &String, path: &str| {
        let mut merged = extensions
            .iter()
            .filter(|judgement| judgement.verdict.merges());
        merged.any(|judgement| judgement.name == *name && judgement.filled.contains(path))
    };
    let mut hierarchies: Vec<Hierarchy> = service
        .hierarchies(kind)
        .into_iter()
        .map(|path| Hierarchy {
            layers: layers
                .iter()
                .filter(|name| filled(name, &path))
                .cloned()
                .collect(),
            path: format!("/{path}"),
            base_hidden: false,
        })
        .collect();
    hierarchies.retain(|hierarchy| !hierarchy.layers.is_empty());
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
    if !service.has_tool {
        merged = Some(false);
        let message = format!("the base has no {program} program");
        let help = format!("install the package of the base that holds {program}");
        let finding = Finding::error("sysext-tool-missing", message);
        reasons.push(finding.because(citations::UNIT).help(help));
    }
    if let Some(finding) = activation(kind, &service.activation) {
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
            && extension_name::compare(lower, upper).is_eq()
        {
            reasons.push(
                Finding::warning(
                    "names-tie",
                    format!("`{lower}` and `{upper}` compare equal, either may be the upper layer"),
                )
                .because(citations::LAYER_ORDER)
                .help("rename one of them"),
            );
        }
    }
    for hierarchy in &mut hierarchies {
        let path = &hierarchy.path;
        let options = options(kind, &hierarchy.layers, path);
        let length = options.len();
        let outcome = match mount(kind, &options, &hierarchy.layers) {
            Mount::Whole => continue,
            Mount::Fails => {
                merged = Some(false);
                "nothing is merged".to_owned()
            }
            Mount::WithoutBase => {
                hierarchy.base_hidden = true;
                format!("the base's own files are gone from {path}")
            }
        };
        let message = format!(
            "the overlay of {path} needs {length} bytes of options, at most {MAX_OPTIONS} work: {outcome}"
        );
        reasons.push(
            Finding::error("too-many-extensions", message)
                .because(citations::OPTION_STRING)
                .help("use fewer extensions, or shorter names"),
        );
    }
    Stack {
        merged,
        layers,
        hierarchies,
        reasons,
    }
}

fn activation(kind: ExtensionKind, activation: &Activation) -> Option<Finding> {
    let unit = kind.unit();
    let finding = |id, message: String, help: String| {
        Some(
            Finding::error(id, message)
                .because(citations::UNIT)
                .help(help),
        )
    };
    match activation {
        Activation::Enabled => None,
        Activation::Disabled => finding(
            "service-not-enabled",
            format!("{unit} is not enabled, so nothing is merged at boot"),
            "use `enable: script`, or enable it in the base".to_owned(),
        ),
        Activation::Masked => finding(
            "service-masked",
            format!("{unit} is masked in the base"),
            format!("remove /etc/systemd/system/{unit}"),
        ),
        Activation::Failing(why) => finding(
            "service-fails",
            format!("{unit} fails before it merges: {why}"),
            "put the file there, or remove that `ExecStartPre=` from the unit or its drop-in"
                .to_owned(),
        ),
        Activation::Missing => finding(
            "service-missing",
            format!("the base has no {unit}"),
            format!(
                "install the package of the base that holds {}",
                kind.program()
            ),
        ),
    }
}

/// `lowerdir=META:EXTENSION…:HIERARCHY`, the top layer first (`mount_overlayfs`,
/// src/sysext/sysext.c).
fn options(kind: ExtensionKind, layers: &[String], hierarchy: &str) -> String {
    let folder = images(kind);
    let mut options = format!("lowerdir=/run/systemd/sysext/meta{hierarchy}");
    for name in layers.iter().rev() {
        options.push_str(&format!(":{folder}/{name}{hierarchy}"));
    }
    options.push_str(&format!(":{hierarchy}"));
    options
}

/// Where the extensions are mounted.
fn images(kind: ExtensionKind) -> &'static str {
    match kind {
        ExtensionKind::Sysext => "/run/systemd/sysext/extensions",
        ExtensionKind::Confext => "/run/systemd/sysext/confexts",
    }
}

/// What comes of an overlay.
#[derive(Debug, PartialEq, Eq)]
enum Mount {
    Whole,
    Fails,
    WithoutBase,
}

/// mount(2) cuts the options at a page. Mostly the last path is then one that does not exist; where
/// it is one that does, the overlay is mounted without the layers that were cut off, the base's
/// first of all.
fn mount(kind: ExtensionKind, options: &str, layers: &[String]) -> Mount {
    if options.len() <= MAX_OPTIONS {
        return Mount::Whole;
    }
    let mut end = MAX_OPTIONS;
    while !options.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, cut) = options.split_at(end);
    let last = kept.rsplit(':').next().unwrap_or_default();
    let whole = cut.starts_with(':');
    let below_images = last.strip_prefix(images(kind)).unwrap_or(last);
    let is_extension = below_images
        .strip_prefix('/')
        .is_some_and(|name| layers.iter().any(|layer| layer == name));
    let above = ["/run", "/run/systemd", "/run/systemd/sysext", images(kind)];
    match whole || is_extension || above.contains(&last) {
        true => Mount::WithoutBase,
        false => Mount::Fails,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::kernel::Support;
    use crate::base::unit::Enablement;
    use crate::check::testing::host;

    #[test]
    fn ninety_six_names_of_six_bytes_fit() {
        // Observed on 252 to 262: 96 extensions with six-byte names work.
        let names = |count: usize| (0..count).map(|i| format!("ext{i:03}")).collect::<Vec<_>>();
        let length = |count| options(ExtensionKind::Sysext, &names(count), "/usr").len();
        assert!(length(96) <= MAX_OPTIONS);
        assert!(length(97) > MAX_OPTIONS);
    }

    #[test]
    fn options_that_are_cut_at_a_path_hide_the_base() {
        // Observed on 252 to 262 with a name of this length below 95 of six bytes.
        let outcome = |first: usize| {
            let six = (0..95).map(|i| format!("ext{i:03}"));
            let layers: Vec<String> = std::iter::once("a".repeat(first)).chain(six).collect();
            let options = options(ExtensionKind::Sysext, &layers, "/usr");
            (
                options.len(),
                mount(ExtensionKind::Sysext, &options, &layers),
            )
        };
        assert_eq!(outcome(27), (4095, Mount::Whole));
        assert_eq!(outcome(28), (4096, Mount::Fails));
        assert_eq!(outcome(32), (4100, Mount::WithoutBase));
        assert_eq!(outcome(33), (4101, Mount::Fails));
        assert_eq!(outcome(36), (4104, Mount::WithoutBase));
    }

    #[test]
    fn a_base_that_was_not_read_in_full_promises_nothing() {
        let stack = |incomplete| {
            let base = Host {
                incomplete,
                ..host("257")
            };
            judge(&base, ExtensionKind::Sysext, &[])
        };
        assert_eq!(stack(false).merged, Some(true));
        assert_eq!(stack(true).merged, None);
        assert_eq!(stack(true).reasons[0].id, "base-incomplete");
    }

    #[test]
    fn activation() {
        let unit = |path: Option<&str>, enabled, masked| UnitState {
            name: ExtensionKind::Sysext.unit(),
            file: path.map(str::to_owned),
            masked: bool::then(masked, || "/m".to_owned()),
            enablement: match enabled {
                true => Enablement::Enabled("/l".to_owned()),
                false => Enablement::Disabled,
            },
            drop_ins: Vec::new(),
            text: None,
            exec_start: Vec::new(),
            image_policy: None,
            force: false,
            copies: Copies::default(),
            environment: Default::default(),
        };
        let mut failing = unit(Some("/u"), true, false);
        failing.copies.failure = Some("no file".to_owned());
        assert_eq!(
            Activation::of(&failing, false),
            Activation::Failing("no file".to_owned())
        );
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

    fn judgement(name: &str, verdict: Verdict, filled: &[&str]) -> Judgement {
        Judgement {
            kind: ExtensionKind::Sysext,
            name: name.to_owned(),
            path: format!("/etc/extensions/{name}"),
            listed: true,
            verdict,
            reasons: Vec::new(),
            filled: filled.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    fn stack(host: &Host<'_>, extensions: &[Judgement]) -> Stack {
        let extensions: Vec<&Judgement> = extensions.iter().collect();
        judge(host, ExtensionKind::Sysext, &extensions)
    }

    fn ids(stack: &Stack) -> Vec<&'static str> {
        stack.reasons.iter().map(|reason| reason.id).collect()
    }

    #[test]
    fn the_greatest_name_is_the_top_layer() {
        // Observed on 252.
        let order = ["a~1", "a-2", "a_1", "a9", "a10", "b"];
        let extensions: Vec<Judgement> = ["b", "a10", "a_1", "a~1", "a9", "a-2"]
            .iter()
            .map(|name| judgement(name, Verdict::MergesVerity, &["usr"]))
            .collect();
        let found = stack(&host("257"), &extensions);
        assert_eq!(found.layers, order);
        assert_eq!(found.hierarchies.len(), 1);
        assert_eq!(found.hierarchies[0].layers, order);
        assert!(found.reasons.is_empty());
    }

    #[test]
    fn a_hierarchy_has_the_layers_that_hold_something_for_it() {
        let extensions = [
            judgement("a", Verdict::MergesUnprotected, &["opt", "usr"]),
            judgement("b", Verdict::MergesSigned, &["opt"]),
            judgement("c", Verdict::Ignored, &["usr"]),
            judgement("d", Verdict::MergesSigned, &[]),
        ];
        let of = |variables: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let environment = variables.iter().map(pair).collect();
            let mut base = host("257");
            base.sysext.environment = &environment;
            let found = stack(&base, &extensions);
            assert_eq!(
                (found.merged, found.layers.join(" ")),
                (Some(true), "a b d".to_owned())
            );
            let all = found.hierarchies.iter();
            all.map(|it| format!("{} {}", it.path, it.layers.join(" ")))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["/usr a", "/opt a b"]);
        let name = "SYSTEMD_SYSEXT_HIERARCHIES";
        assert_eq!(of(&[(name, "/usr")]), ["/usr a"]);
        assert_eq!(of(&[(name, "/srv:/opt:/opt")]), ["/opt a b"]);
        let other = "SYSTEMD_CONFEXT_HIERARCHIES";
        assert_eq!(of(&[(other, "/usr")]), ["/usr a", "/opt a b"]);
    }

    #[test]
    fn one_extension_decides_for_all() {
        use Verdict::{BlocksAll, Ignored, MergesSigned, Unknown};
        for (verdicts, merged, reasons) in [
            (vec![], Some(true), vec![]),
            (vec![MergesSigned, Ignored], Some(true), vec![]),
            (vec![MergesSigned, Unknown], None, vec![]),
            (
                vec![MergesSigned, BlocksAll],
                Some(false),
                vec!["merge-blocked"],
            ),
            (vec![Unknown, BlocksAll], Some(false), vec!["merge-blocked"]),
            // It says by itself why it is not merged.
            (vec![BlocksAll], Some(false), vec![]),
        ] {
            let names = ["a", "b"].iter().zip(&verdicts);
            let extensions: Vec<Judgement> = names
                .map(|(name, verdict)| judgement(name, *verdict, &["usr"]))
                .collect();
            let found = stack(&host("257"), &extensions);
            assert_eq!(
                (found.merged, ids(&found)),
                (merged, reasons),
                "{verdicts:?}"
            );
        }
    }

    #[test]
    fn names_that_compare_equal_have_no_order() {
        for (one, other, ties) in [
            ("a1", "a01", true),
            ("a_1", "a+1", true),
            ("a_", "a", true),
            ("a1", "a2", false),
        ] {
            let layers = [one, other].map(|name| judgement(name, Verdict::MergesSigned, &["usr"]));
            let found = stack(&host("257"), &layers);
            assert_eq!(ids(&found) == ["names-tie"], ties, "{one} {other}");
            assert_eq!(found.merged, Some(true));
        }
    }

    #[test]
    fn what_the_base_lacks_keeps_everything_out() {
        let told = |change: &dyn Fn(&mut Host<'_>)| {
            let mut base = host("257");
            change(&mut base);
            let found = stack(&base, &[judgement("a", Verdict::MergesSigned, &["usr"])]);
            assert_eq!(found.merged == Some(true), found.reasons.is_empty());
            ids(&found)
        };
        type Case<'a> = (&'a dyn Fn(&mut Host<'_>), &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&|_| {}, &[]),
            (&|base| base.kernel.overlay = Support::Unknown, &[]),
            (
                &|base| base.kernel.overlay = Support::No,
                &["kernel-without-overlay"],
            ),
            (
                &|base| base.kernel.loop_device = Support::No,
                &["kernel-without-overlay"],
            ),
            (
                &|base| base.sysext.has_tool = false,
                &["sysext-tool-missing"],
            ),
            (&|base| base.confext.has_tool = false, &[]),
            (
                &|base| base.sysext.activation = Activation::Disabled,
                &["service-not-enabled"],
            ),
            (
                &|base| base.sysext.activation = Activation::Masked,
                &["service-masked"],
            ),
            (
                &|base| base.sysext.activation = Activation::Missing,
                &["service-missing"],
            ),
            (
                &|base| base.sysext.activation = Activation::Failing("no file".to_owned()),
                &["service-fails"],
            ),
        ];
        for (number, (change, expected)) in cases.iter().enumerate() {
            assert_eq!(told(change), *expected, "case {number}");
        }
    }

    #[test]
    fn too_many_layers_break_the_merge_or_hide_the_base() {
        let extensions = |first: usize| -> Vec<Judgement> {
            let six = (0..95).map(|number| format!("ext{number:03}"));
            let names = std::iter::once("a".repeat(first)).chain(six);
            let all = names.map(|name| judgement(&name, Verdict::MergesSigned, &["usr"]));
            all.collect()
        };
        for (first, merged, hidden) in [
            (27, Some(true), None),
            (28, Some(false), Some(false)),
            (32, Some(true), Some(true)),
        ] {
            let found = stack(&host("257"), &extensions(first));
            let told = (ids(&found) == ["too-many-extensions"])
                .then_some(found.hierarchies[0].base_hidden);
            assert_eq!((found.merged, told), (merged, hidden), "{first}");
        }
    }
}
