//! What a prediction means for the verb that asked for it.

use super::output::{Failure, Screen};
use crate::check::{Allowed, Prediction};
use crate::config::source::Source;
use crate::finding::Finding;

/// Shows the reasons, and stops if an extension would not be merged.
pub(crate) fn judge(
    screen: &Screen,
    source: Option<&Source>,
    prediction: &Prediction,
    allowed: Allowed,
) -> Result<(), Failure> {
    let reasons = prediction
        .extensions
        .iter()
        .flat_map(|judgement| &judgement.reasons)
        .chain(prediction.stacks().flat_map(|(_, stack)| &stack.reasons));
    let good = prediction.is_good(allowed);
    let mut findings: Vec<Finding> = reasons.cloned().collect();
    if good {
        screen.findings(source, &findings);
        return Ok(());
    }
    if findings.iter().all(|finding| !finding.is_error()) {
        findings.push(
            Finding::error(
                "unknown-verdict",
                "it can't be told whether everything is merged at boot",
            )
            .help("see the warnings above, or go on with --allow-unknown"),
        );
    }
    screen.findings(source, &findings);
    Err(Failure::Said(1))
}
