//! The plans of all sections of a chain as one: they end up in one image.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::destinations::clashes;
use super::{Chain, Link};
use crate::config::validate::around;
use crate::config::{Config, model};
use crate::expand::{AdditionalFile, Additions, Enable, ExpandError, expand_on};
use crate::finding::Finding;
use crate::plan::placements::PlacementSource;
use crate::plan::{BaseIdentity, Environment, Plan, Step, finish, overlays, plan};
use crate::sign::trust::Trusted;
use crate::systemd::drop_in::enable_script;

/// What the sections of a chain come to.
#[derive(Debug)]
pub(crate) struct MergedPlans {
    /// All of them as one plan. Places in other files than the given one begin with the name of the file.
    pub plan: Plan,
    /// What was noticed, by the number of the link.
    pub findings: Vec<(usize, Finding)>,
    /// What each section adds to its own config.
    pub added: Added,
}

/// What the sections of a chain add to their configs, by the number of the link.
#[derive(Debug)]
pub(crate) struct Added(BTreeMap<usize, Additions>);

/// What a config without a section gains.
static NOTHING: Additions = Additions::NONE;

/// Joins the plans of all sections; on errors all findings, by the number of the link.
pub(crate) fn merge_plans(
    chain: &Chain,
    base: Option<&BaseIdentity<'_>>,
    environment: &Environment,
) -> Result<MergedPlans, Vec<(usize, Finding)>> {
    let each = Environment {
        only: Vec::new(),
        ..environment.clone()
    };
    let mut findings: Vec<(usize, Finding)> = Vec::new();
    let mut plans: Vec<(usize, Plan)> = Vec::new();
    let links = chain.links().iter().enumerate();
    for (number, link) in links.filter(|(_, link)| link.config.sysext.is_some()) {
        match plan(&link.config, base, &each) {
            Ok(mut plan) => {
                let noticed = std::mem::take(&mut plan.findings);
                findings.extend(noticed.into_iter().map(|finding| (number, finding)));
                plans.push((number, plan));
            }
            Err(errors) => findings.extend(errors.into_iter().map(|error| (number, error))),
        }
    }
    findings.extend(bystanders(chain));
    findings.extend(clashes(chain, &plans));
    findings.extend(differences(chain, &plans));
    stop_on_errors(&findings)?;
    let added = plans
        .iter()
        .map(|(number, plan)| (*number, additions(plan)));
    let added = Added(added.collect());
    // Where what is about all of them is told.
    let last = chain.links().len().saturating_sub(1);
    let mut joined: Option<Plan> = None;
    for (number, mut plan) in plans {
        if let Some(link) = chain.links().get(number) {
            name_places(&mut plan, link);
        }
        joined = Some(match joined {
            None => plan,
            Some(before) => added_to(before, plan),
        });
    }
    let Some(mut plan) = joined else {
        let finding = Finding::error("no-sysext", "the config has no `sysext` section");
        let finding = match chain.top() {
            Some(top) => finding.in_file(&top.source.path),
            None => finding,
        };
        let finding = finding.help("add `sysext:` with a list of `extensions`");
        return Err(vec![(last, finding)]);
    };
    let told = finish(&mut plan, &environment.only);
    findings.extend(told.into_iter().map(|finding| (last, finding)));
    stop_on_errors(&findings)?;
    Ok(MergedPlans {
        plan,
        findings,
        added,
    })
}

fn stop_on_errors(findings: &[(usize, Finding)]) -> Result<(), Vec<(usize, Finding)>> {
    match findings.iter().any(|(_, it)| it.is_error()) {
        true => Err(findings.to_vec()),
        false => Ok(()),
    }
}

/// What configs without a section do to the extensions of the others.
pub(crate) fn bystanders(chain: &Chain) -> Vec<(usize, Finding)> {
    let section = chain.sections().next_back();
    let Some(sysext) = section.and_then(|link| link.config.sysext.as_ref()) else {
        return Vec::new();
    };
    let links = chain.links().iter().enumerate();
    let others = links.filter(|(_, link)| link.config.sysext.is_none());
    let told = others.flat_map(|(number, link)| {
        let config = Config {
            sysext: Some(sysext.clone()),
            ..link.config.clone()
        };
        let mut findings = around(&config);
        findings.extend(overlays(&config, sysext));
        findings.into_iter().map(move |finding| (number, finding))
    });
    told.collect()
}

/// Both plans as one; `later` belongs to a config that builds on that of `before`.
fn added_to(mut before: Plan, later: Plan) -> Plan {
    before.extensions.extend(later.extensions);
    for trusted in later.certificates {
        let known = |it: &Trusted| {
            it.file_name == trusted.file_name
                && it.certificate.fingerprint_sha256_hex
                    == trusted.certificate.fingerprint_sha256_hex
        };
        if !before.certificates.iter().any(known) {
            before.certificates.push(trusted);
        }
    }
    Plan {
        enable: later.enable,
        start: before.start || later.start,
        output_directory: later.output_directory,
        ..before
    }
}

/// Keys that hold for the whole system and that two sections have different values for.
fn differences(chain: &Chain, plans: &[(usize, Plan)]) -> Vec<(usize, Finding)> {
    let Some(((first, before), others)) = plans.split_first() else {
        return Vec::new();
    };
    let enables = |plan: &Plan| plan.enable != model::Enable::None;
    let name = |number: &usize| chain.links().get(*number).map(|link| link.called("sysext"));
    let mut findings = Vec::new();
    for (number, plan) in others {
        let keys = [
            ("imagePolicy", plan.image_policy != before.image_policy),
            (
                "certificateLocation",
                plan.certificate_location != before.certificate_location,
            ),
            ("enable", enables(plan) != enables(before)),
        ];
        for (key, _) in keys.iter().filter(|(_, differs)| *differs) {
            let other = name(first).unwrap_or_default();
            let message = format!("`{key}` is another one than in {other}");
            findings.push((
                *number,
                Finding::error("sections-differ", message)
                    .at(format!("sysext.{key}"))
                    .because(
                        "both configs make one image, and the key holds for all of its extensions",
                    )
                    .help("write the same in both"),
            ));
        }
    }
    findings
}

/// Puts the name of the file before places of other files than the given one.
fn name_places(plan: &mut Plan, link: &Link) {
    if link.name.is_empty() {
        return;
    }
    let named = |at: &mut String| *at = format!("{}: {at}", link.name);
    for planned in &mut plan.extensions {
        named(&mut planned.at);
        if let Step::Build(step) = &mut planned.step {
            named(&mut step.content.at);
            if let Some(signing) = &mut step.signing {
                named(&mut signing.at);
            }
        }
    }
    for trusted in &mut plan.certificates {
        named(&mut trusted.at);
    }
}

impl Added {
    /// The plain configs of all links that plain Prism would refuse, and of the given one in any case, each with
    /// its number. `expanded` gives the file name of the plain config of another.
    pub(crate) fn expanded(
        &self,
        chain: &Chain,
        expanded: impl Fn(&Config) -> OsString,
    ) -> Result<Vec<(usize, String)>, (usize, ExpandError)> {
        let mut texts = Vec::new();
        for (number, link) in chain.links().iter().enumerate() {
            if chain.needs_expansion(link) || number + 1 == chain.links().len() {
                let text = self.text(chain, number, link, self.of(number), &expanded)?;
                texts.push((number, text));
            }
        }
        Ok(texts)
    }

    /// The config of a link without its section, and nothing added.
    pub(crate) fn without_section(
        &self,
        chain: &Chain,
        number: usize,
        expanded: impl Fn(&Config) -> OsString,
    ) -> Result<String, (usize, ExpandError)> {
        match chain.links().get(number) {
            Some(link) => self.text(chain, number, link, &NOTHING, &expanded),
            None => Ok(String::new()),
        }
    }

    /// What the section of a link adds.
    pub(crate) fn of(&self, number: usize) -> &Additions {
        self.0.get(&number).unwrap_or(&NOTHING)
    }

    fn text(
        &self,
        chain: &Chain,
        number: usize,
        link: &Link,
        additions: &Additions,
        expanded: &impl Fn(&Config) -> OsString,
    ) -> Result<String, (usize, ExpandError)> {
        let moved = chain.moved(link, expanded);
        expand_on(&link.config.source.text, additions, &moved).map_err(|error| (number, error))
    }
}

/// What a plan adds to the config that it was made of.
fn additions(plan: &Plan) -> Additions {
    let files = plan.placements().into_iter().map(|placement| {
        let (source, content) = match placement.source {
            PlacementSource::Extension(planned) => (Some(planned.image_in_config.clone()), None),
            PlacementSource::Sidecar { in_config, .. } => (Some(in_config.to_owned()), None),
            PlacementSource::Certificate(trusted) => match &trusted.as_is {
                Some(path) => (Some(path.display().to_string()), None),
                None => (None, Some(trusted.certificate.pem())),
            },
            PlacementSource::DropIn(drop_in) => (None, Some(drop_in.text)),
        };
        AdditionalFile {
            source,
            content,
            destination: placement.destination,
            permissions: format!("{:o}", placement.mode),
        }
    });
    let files = files.collect();
    let kinds = plan.kinds();
    let enable = match plan.enable {
        model::Enable::Script => {
            let (name, content) = enable_script(&kinds, plan.start);
            Enable::Script { name, content }
        }
        model::Enable::Service => Enable::Services {
            units: kinds.iter().map(|kind| kind.unit().to_owned()).collect(),
        },
        model::Enable::None => Enable::None,
    };
    Additions { files, enable }
}
