//! `validate-config`: the whole file, without building anything.

use super::args::ValidateConfig;
use super::output::{Failure, Screen};
use crate::output::{Located, Validation, versioned};
use crate::session::{Judged, ValidateRequest, validate};

pub(crate) fn validate_config(screen: &Screen, args: &ValidateConfig) -> Result<(), Failure> {
    let resources = args.validate_resources.iter();
    let judged = validate(&ValidateRequest {
        config: args.config.config_file.clone(),
        base: args.base.choice(),
        prism_version: args.prism_version,
        resources: resources.map(|what| (*what).into()).collect(),
    });
    let mut all = judged.iter().flat_map(|it| &it.findings);
    let bad = all.any(|it| it.is_error());
    let text = if bad { "" } else { "the config is valid\n" };
    for config in &judged {
        screen.findings(Some(&config.source), &config.findings);
    }
    screen.result(
        text,
        &versioned(Validation {
            valid: !bad,
            findings: judged.iter().flat_map(located).collect(),
        }),
    )?;
    if bad { Err(Failure::Said(1)) } else { Ok(()) }
}

fn located(judged: &Judged) -> impl Iterator<Item = Located> {
    judged.findings.iter().map(|finding| Located {
        config: (!judged.given).then(|| judged.source.path.clone()),
        ..Located::new(finding, Some(&judged.source))
    })
}
