//! `remove`: what is ours goes, and nothing else.

use std::fs;

use crate::harness::placing;
use crate::harness::placing::{CERTIFICATE, DROP_IN, IMAGE, LINK, RECORD, UNIT};
use crate::harness::snapshot::assert_same;

#[test]
fn an_image_that_changed_is_not_taken_out() {
    let workspace = placing::workspace();
    workspace.list_extensions(&["kubernetes", "other"]);
    workspace.apply("").succeeded();
    workspace.write_inside("/var/lib/extensions/other.raw", "mine now");
    let before = workspace.rootfs_snapshot();
    workspace.remove("other", "").is_refused("changed-since");
    workspace.list_extensions(&["kubernetes"]);
    // Garbage blocks the merge of all, so leaving it and going on would not do either.
    workspace.apply("").is_refused("changed-since");
    assert_same(&before, &workspace.rootfs_snapshot());
    let forced = workspace.apply("--force").actions();
    assert!(forced.contains(&"/var/lib/extensions/other.raw removed".to_owned()));
}

#[test]
fn a_changed_file_is_only_removed_by_force() {
    for path in [CERTIFICATE, DROP_IN, IMAGE] {
        let workspace = placing::workspace();
        workspace.apply("").succeeded();
        fs::write(workspace.inside(path), "changed").unwrap();
        let before = workspace.rootfs_snapshot();
        workspace
            .remove("kubernetes", "")
            .is_refused("changed-since");
        assert_same(&before, &workspace.rootfs_snapshot());
        workspace.remove("kubernetes", "--force").succeeded();
        assert!(!workspace.inside(path).exists());
        // The same for a link that took its place; a folder stays in any case.
        let workspace = placing::workspace();
        workspace.apply("").succeeded();
        fs::remove_file(workspace.inside(path)).unwrap();
        workspace.link_inside(path, "/etc/os-release");
        workspace
            .remove("kubernetes", "")
            .is_refused("changed-since");
        workspace.remove("kubernetes", "--force").succeeded();
        assert!(fs::symlink_metadata(workspace.inside(path)).is_err());
        let workspace = placing::workspace();
        workspace.apply("").succeeded();
        fs::remove_file(workspace.inside(path)).unwrap();
        fs::create_dir(workspace.inside(path)).unwrap();
        let before = workspace.rootfs_snapshot();
        let ran = workspace.remove("kubernetes", "--force");
        ran.is_refused("changed-since");
        assert!(!ran.err.contains("--force"), "{}", ran.err);
        assert_same(&before, &workspace.rootfs_snapshot());
    }
}

#[test]
fn remove_takes_one_and_with_the_last_all() {
    let workspace = placing::workspace();
    workspace.write_inside("/etc/verity.d/.keep", "");
    fs::create_dir_all(workspace.inside("/var/lib/extensions")).unwrap();
    workspace.list_extensions(&["kubernetes", "other"]);
    let before = workspace.rootfs_snapshot();
    workspace.apply("").succeeded();
    let listing = workspace.list();
    assert_eq!(listing["extensions"].as_array().unwrap().len(), 2);
    assert_eq!(listing["extensions"][0]["ours"], true);
    assert_eq!(listing["certificates"][0]["path"], CERTIFICATE);
    assert_eq!(listing["certificates"][0]["ours"], true);
    assert_eq!(listing["service"]["enabled"], true);

    let unknown = workspace.remove("kubernetez", "");
    unknown.is_refused("not-applied");
    assert!(unknown.err.contains("did you mean `kubernetes`?"));

    let ran = workspace.remove("other", "");
    assert_eq!(ran.actions(), ["/var/lib/extensions/other.raw removed"]);
    assert_eq!(ran.succeeded().json()["applied"]["service"], "none");
    for path in [CERTIFICATE, DROP_IN, IMAGE, RECORD] {
        assert!(workspace.inside(path).is_file(), "{path}");
    }
    workspace.remove("other", "").is_refused("not-applied");
    assert_eq!(workspace.list()["extensions"].as_array().unwrap().len(), 1);

    let ran = workspace.remove("kubernetes", "");
    assert_eq!(ran.actions().len(), 3);
    // Certificates go last: without them an image blocks all others.
    assert_eq!(ran.actions()[0], format!("{IMAGE} removed"));
    assert_eq!(ran.succeeded().json()["applied"]["service"], "removed");
    assert_same(&before, &workspace.rootfs_snapshot());
    let listing = workspace.list();
    assert_eq!(listing["extensions"].as_array().unwrap().len(), 0);
    assert_eq!(listing["service"]["enabled"], false);
}

#[test]
fn folders_that_others_use_by_now_stay() {
    let workspace = placing::workspace();
    workspace.apply("").succeeded();
    workspace.write_inside("/var/lib/extensions/theirs.txt", "x");
    workspace.write_inside("/etc/verity.d/theirs.crt", "x");
    // A second run makes no folder, but must not forget the ones of the first.
    workspace.change_content("changed");
    workspace.apply("").succeeded();
    workspace.remove("kubernetes", "").succeeded();
    assert!(workspace.inside("/var/lib/extensions/theirs.txt").is_file());
    assert!(workspace.inside("/etc/verity.d/theirs.crt").is_file());
    assert!(!workspace.inside("/var/lib/prism-sysext").exists());
    assert!(!workspace.inside("/etc/systemd/system").exists());
}

#[test]
fn a_link_that_was_there_stays() {
    let workspace = placing::workspace();
    workspace.link_inside(LINK, UNIT);
    let before = workspace.rootfs_snapshot();
    assert_eq!(
        workspace.apply("").succeeded().json()["applied"]["service"],
        "unchanged"
    );
    workspace.remove("kubernetes", "").succeeded();
    assert_same(&before, &workspace.rootfs_snapshot());
}

#[test]
fn our_link_is_ours_even_if_a_later_config_does_not_enable() {
    let workspace = placing::workspace();
    let before = workspace.rootfs_snapshot();
    workspace.apply("").succeeded();
    workspace.list_with("  enable: none\n", &["kubernetes"]);
    assert_eq!(
        workspace.apply("").succeeded().json()["applied"]["service"],
        "none"
    );
    workspace.remove("kubernetes", "").succeeded();
    assert_same(&before, &workspace.rootfs_snapshot());
}
