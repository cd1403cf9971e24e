//! Which layer of an overlay a path comes from (Linux `Documentation/filesystems/overlayfs.rst`).

use std::collections::BTreeMap;

use super::Node;

/// A layer: nodes by path; a folder may be implied by what lies in it.
pub(crate) type Layer<'a> = &'a BTreeMap<String, Node>;

/// What is at a path of the stack, its top layer first: the text of a file, `DIR`, or nothing.
pub(crate) fn look(layers: &[Layer<'_>], path: &str) -> Option<String> {
    let mut active: Vec<Layer<'_>> = layers.to_vec();
    let parts: Vec<&str> = path.split('/').collect();
    for depth in 1..=parts.len() {
        let here = parts[..depth].join("/");
        let last = depth == parts.len();
        let mut below = Vec::new();
        for layer in active {
            match at(layer, &here) {
                None => {}
                Some(Node::Dir(_)) => below.push(layer),
                Some(Node::Opaque) => {
                    below.push(layer);
                    break;
                }
                // What is no folder hides all below it, unless folders above hide it.
                Some(_) if !below.is_empty() => break,
                Some(Node::File(text)) if last => {
                    return Some(format!("FILE {}", text.trim_end_matches('\n')));
                }
                Some(Node::Symlink(target)) if target.starts_with('/') => {
                    let rest = parts[depth..].join("/");
                    let led = format!("{}/{rest}", target.trim_matches('/'));
                    return look(layers, led.trim_end_matches('/'));
                }
                Some(_) => return None,
            }
        }
        if below.is_empty() {
            return None;
        }
        active = below;
    }
    Some("DIR".to_owned())
}

/// A node, or the folder that lies on the way to one.
fn at(layer: Layer<'_>, path: &str) -> Option<Node> {
    if let Some(node) = layer.get(path) {
        return match node {
            Node::Absent => None,
            node => Some(node.clone()),
        };
    }
    let inside = format!("{path}/");
    let mut below = layer.iter().filter(|(known, _)| known.starts_with(&inside));
    below
        .any(|(_, node)| !matches!(node, Node::Absent))
        .then_some(Node::Dir(None))
}
