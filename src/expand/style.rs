//! How a file is laid out, so that new lines look like their neighbours.

use super::SECTION;
use super::literal::Layout;
use super::node::{Body, Node};
use super::spans::Source;

/// Blanks between the first dash of a block list and its item.
pub(super) fn gap(source: &Source<'_>, dash: usize, list: &Node) -> usize {
    let Body::Sequence { items, .. } = &list.body else {
        return Layout::PRISM.gap;
    };
    let Some(first) = items.first() else {
        return Layout::PRISM.gap;
    };
    let between = source.text.get(dash + 1..first.start).unwrap_or_default();
    let blanks = !between.is_empty() && between.bytes().all(|byte| byte == b' ');
    if blanks && between.len() <= 8 {
        between.len()
    } else {
        Layout::PRISM.gap
    }
}

/// True when a blank line stands between two sections of the top level.
pub(super) fn sections_stand_apart(source: &Source<'_>, entries: &[(Node, Node)]) -> bool {
    let pairs = entries.iter().zip(entries.iter().skip(1));
    pairs.into_iter().any(|((_, before), (key, _))| {
        let from = source.next_line(before.end);
        let between = source
            .text
            .get(from..source.line_start(key.start))
            .unwrap_or_default();
        let leaf = before.last_leaf();
        let keeps = leaf.is_block_scalar() && source.keeps_line_breaks(leaf.content);
        !keeps && between.lines().any(|line| line.trim_ascii().is_empty())
    })
}

/// How the file indents: the first nested mapping and the first list outside
/// the section decide, then those inside.
pub(super) fn of(source: &Source<'_>, root: &Node, default: Layout) -> Layout {
    let Body::Mapping {
        flow: false,
        entries,
    } = &root.body
    else {
        return default;
    };
    let section = |(key, _): &&(Node, Node)| key.text() == Some(SECTION);
    let (inside, outside): (Vec<_>, Vec<_>) = entries.iter().partition(section);
    let (mut map_step, mut list_step) = (None, None);
    for entry in outside.into_iter().chain(inside) {
        steps(source, entry, &mut map_step, &mut list_step);
    }
    Layout {
        map_step: map_step.unwrap_or(default.map_step),
        list_step: list_step.unwrap_or(default.list_step),
        ..default
    }
}

fn steps(
    source: &Source<'_>,
    (key, value): &(Node, Node),
    map_step: &mut Option<usize>,
    list_step: &mut Option<usize>,
) {
    let column = source.column(key.start);
    match &value.body {
        Body::Mapping {
            flow: false,
            entries,
        } => {
            if let Some((first, _)) = entries.first() {
                let step = source.column(first.start).checked_sub(column);
                *map_step = map_step.or(step.filter(|step| (1..=16).contains(step)));
            }
            for entry in entries {
                steps(source, entry, map_step, list_step);
            }
        }
        Body::Sequence { flow: false, items } => {
            let dash = source.dash(key, value).map(|dash| source.column(dash));
            let step = dash.and_then(|dash| dash.checked_sub(column));
            *list_step = list_step.or(step.filter(|step| *step <= 16));
            for item in items {
                if let Body::Mapping {
                    flow: false,
                    entries,
                } = &item.body
                {
                    for entry in entries {
                        steps(source, entry, map_step, list_step);
                    }
                }
            }
        }
        _ => {}
    }
}
