//! What each verb prints with `--output json` is what its schema says, good results and failures.

use prism_sysext::output::schema::KINDS;
use serde_json::{Value, json};

use crate::harness::said::Said;
use crate::harness::workspace::Workspace;

/// The schema of a kind. A key at the top that it does not name is an error, so that none is
/// printed that has no description.
fn schema(kind: &str) -> Value {
    let kind = KINDS.iter().find(|it| it.name == kind).unwrap();
    let mut schema = (kind.make)();
    schema["unevaluatedProperties"] = json!(false);
    schema
}

/// Holds what was said against a schema, and gives it.
fn holds(kind: &str, said: &Said) -> Value {
    let value = said.json();
    if let Err(error) = jsonschema::validate(&schema(kind), &value) {
        panic!("{kind}: {error}\n{said:?}");
    }
    assert_eq!(value["schemaVersion"], 1, "{kind}");
    value
}

const CONFIG: &str = "\
sysext:
  verityKey: ../keys/key.pem
  verityCertificate: ../keys/cert.crt
  extensions:
  - {name: tools, version: '1', files: ['bin/tool:/usr/bin/tools']}
";

#[test]
fn a_whole_life_is_told_as_the_schemas_say() {
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    let run = |line: &str| workspace.run(&format!("{line} --output json"));
    let valid = holds(
        "validate-config",
        &run("validate-config --rootfs ../rootfs"),
    );
    assert_eq!(valid["valid"], true);
    let plan = holds("apply-dry-run", &run("apply --dry-run --rootfs ../rootfs"));
    assert_eq!(plan["extensions"][0]["action"], "build");
    let built = holds("build", &run("build --digests --rootfs ../rootfs"));
    assert_eq!(built["extensions"][0]["name"], "tools");
    let checked = holds("check", &run("check --rootfs ../rootfs"));
    assert_eq!(checked["good"], true, "{checked}");
    let mkosi = "[Output]\nFormat=sysext\nImageId=x\n[Content]\nExtraTrees=bin:/usr/bin\n";
    workspace.write("project/x.conf", mkosi, 0o644);
    let imported = holds("import-mkosi", &run("import-mkosi x.conf"));
    assert_eq!(imported["config"]["sysext"]["extensions"][0]["name"], "x");
    let image = ".sysext/tools.raw";
    holds("inspect", &run(&format!("inspect {image}")));
    holds("inspect-list", &run(&format!("inspect --list {image}")));
    let verified = run(&format!("verify {image} --certificate ../keys/cert.crt"));
    assert_eq!(holds("verify", &verified)["good"], true);
    let expanded = holds("expand", &run("expand --rootfs ../rootfs"));
    assert!(expanded.get("upToDate").is_none(), "{expanded}");
    let fresh = holds("expand", &run("expand --check --rootfs ../rootfs"));
    assert_eq!(fresh["upToDate"], true);
    let applied = holds("apply", &run("apply --rootfs ../rootfs"));
    assert_eq!(applied["applied"]["service"], "placed");
    let unpredicted = holds("apply", &run("apply --no-check --rootfs ../rootfs"));
    assert_eq!(unpredicted["prediction"], Value::Null);
    let listed = holds("list", &run("list --rootfs ../rootfs"));
    assert_eq!(listed["extensions"][0]["ours"], true);
    let removed = holds("remove", &run("remove tools --rootfs ../rootfs"));
    assert_eq!(removed["applied"]["files"][0]["action"], "removed");
}

#[test]
fn bad_ends_are_told_as_the_schemas_say() {
    let workspace = Workspace::new();
    let run = |line: &str| workspace.run(&format!("{line} --output json"));
    // Places of all kinds: in the text, of a value, of a file.
    workspace.config("os:\n  hostnmae: a\nsysext:\n  extensions: [{name: a, tree: t}]\n");
    let findings = holds("validate-config", &run("validate-config"));
    assert_eq!(findings["valid"], false);
    for finding in findings["findings"].as_array().unwrap() {
        assert!(finding["line"].as_u64() > Some(0), "{finding}");
        assert!(finding["column"].as_u64() > Some(0), "{finding}");
    }
    workspace.config("os: [\n");
    holds("validate-config", &run("validate-config"));
    holds("failure", &run("expand --target azurelinux-3.0"));
    let missing = run("build --config-file none.yaml --target azurelinux-3.0");
    holds("failure", &missing);
    holds("failure", &run("inspect none.raw"));
    holds("failure", &run("list --rootfs none"));
    workspace.config(CONFIG);
    workspace.run("build --rootfs ../rootfs").succeeded();
    // Merged, and not signed by whom it should.
    let strangers = run("verify .sysext/tools.raw --certificate ../keys/other.crt");
    assert_eq!(holds("verify", &strangers)["good"], false);
    let ignored = run("check .sysext/tools.raw --target debian-13");
    let ignored = holds("check", &ignored);
    assert_eq!(ignored["good"], false);
    assert!(
        !ignored["extensions"][0]["reasons"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

/// The report is written when all is known: an extension that is not merged is in it.
#[test]
fn verdicts_are_in_the_forms_for_build_servers() {
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    workspace.run("build --rootfs ../rootfs").succeeded();
    let sarif = workspace.run("check .sysext/tools.raw --target debian-13 --output sarif");
    assert_eq!(sarif.status, Some(1));
    let log: Value = serde_json::from_str(&sarif.out).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let ids: Vec<_> = results.iter().map(|it| &it["ruleId"]).collect();
    assert!(ids.contains(&&json!("release-id-mismatch")), "{ids:?}");
    let junit = workspace.run("check .sysext/tools.raw --target debian-13 --output junit");
    assert_eq!(junit.status, Some(1));
    assert!(junit.out.contains("release-id-mismatch"), "{}", junit.out);
    assert!(!junit.out.contains("failures=\"0\""), "{}", junit.out);
    // So is what is asked for beyond that.
    let weak = "sysext:\n  extensions: [{name: a, verity: none, files: ['bin/tool:/usr/bin/a']}]\n";
    workspace.config(weak);
    workspace.run("build --rootfs ../rootfs").succeeded();
    let weak = workspace.run("check --rootfs ../rootfs --require signed --output junit");
    assert!(weak.out.contains("protection-required"), "{}", weak.out);
    let good = workspace.run("check --rootfs ../rootfs --output junit");
    assert_eq!(good.status, Some(0));
    assert!(good.out.contains("failures=\"0\""), "{}", good.out);
}

#[test]
fn every_kind_is_printed_by_its_name() {
    let workspace = Workspace::new();
    for kind in KINDS {
        let said = workspace.run(&format!("schema --kind {}", kind.name));
        let printed: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(printed, (kind.make)(), "{}", kind.name);
    }
    assert_eq!(workspace.run("schema --kind nothing").status, Some(2));
}
