//! The snippet for Trident: read by another YAML parser, its digests by another program, and images
//! that Trident would refuse on the host refused here.

use prism_sysext::image::dissect;
use prism_sysext::place::trident::{Listed, check};
use prism_sysext::systemd::kind::ExtensionKind;
use serde_json::{Value, json};

use crate::harness::tools::{command, have, run};
use crate::harness::workspace::Workspace;

const CONFIG: &str = "
sysext:
  target: azurelinux-3.0
  verityKey: ../keys/key.pem
  verityCertificate: ../keys/cert.crt
  extensions:
  - {name: tool, version: '1', versionedName: true, files: ['bin/tool:/usr/bin/tool']}
  - {name: settings, kind: confext, files: [{content: x, destination: /etc/settings}]}
";

#[test]
fn the_snippet_lists_each_image_by_url_digest_and_path() {
    if !have(&["sha384sum"]) {
        return;
    }
    let workspace = Workspace::new();
    workspace.config(CONFIG);
    let template = "https://images.example.com/{name}/{sha384}/{file}";
    workspace
        .run(&format!(
            "build --trident host.yaml --trident-url {template}"
        ))
        .succeeded();
    let read = |name: &str| -> Value {
        serde_yaml::from_slice(&workspace.read(&format!("project/{name}"))).unwrap()
    };
    let entry = |name: &str, folder: &str| {
        let image = workspace.path(&format!("project/.sysext/{name}.raw"));
        let said = run(command("sha384sum").arg(image));
        let digest = said.split_whitespace().next().unwrap();
        json!({
            "url": format!("https://images.example.com/{name}/{digest}/{name}.raw"),
            "sha384": digest,
            "path": format!("{folder}/{name}.raw"),
        })
    };
    let expected = json!({"os": {
        "sysexts": [entry("tool_1", "/var/lib/extensions")],
        "confexts": [entry("settings", "/var/lib/confexts")],
    }});
    assert_eq!(read("host.yaml"), expected);

    // Beside an expansion likewise; without a template it says what to replace.
    workspace.run("expand --trident other.yaml").succeeded();
    let text = String::from_utf8(workspace.read("project/other.yaml")).unwrap();
    assert!(text.starts_with("# Replace HOST/PATH"), "{text}");
    let other = read("other.yaml");
    assert_eq!(
        other["os"]["sysexts"][0]["url"],
        "https://HOST/PATH/tool_1.raw"
    );
    assert_eq!(
        other["os"]["sysexts"][0]["sha384"],
        expected["os"]["sysexts"][0]["sha384"]
    );

    workspace.refused(
        "expand --trident x.yaml --trident-url /srv/{file}",
        "trident-url",
    );
    workspace.config(&CONFIG.replace("versionedName: true", "verity: defer"));
    let said = workspace.run("build --trident x.yaml");
    said.is_refused("unsigned-deferred");
    assert!(!workspace.path("project/x.yaml").exists());
}

/// A naked image of the tree that a script makes.
fn image(workspace: &Workspace, name: &str, script: &str) {
    let tree = workspace.path(&format!("{name}.tree"));
    std::fs::create_dir_all(tree.join("usr/lib/extension-release.d")).unwrap();
    run(command("sh")
        .args(["-euc", script])
        .current_dir(tree.join("usr/lib/extension-release.d")));
    run(command("mkfs.erofs")
        .arg("--quiet")
        .arg(workspace.path(&format!("project/{name}.raw")))
        .arg(&tree));
}

#[test]
fn what_trident_refuses_on_the_host_is_refused_here() {
    if !have(&["mkfs.erofs"]) {
        return;
    }
    let workspace = Workspace::new();
    let id = "printf 'ID=_any\\nSYSEXT_ID=%s\\n'";
    image(
        &workspace,
        "good",
        &format!("{id} good > extension-release.good"),
    );
    image(
        &workspace,
        "twin",
        &format!("{id} good > extension-release.twin"),
    );
    image(
        &workspace,
        "nameless",
        "echo ID=_any > extension-release.nameless",
    );
    image(
        &workspace,
        "two",
        &format!("{id} two > extension-release.two; echo x > README"),
    );
    let cases: [(&[&str], &[&str]); 5] = [
        (&["good"], &[]),
        (&["good", "twin"], &["trident-id"]),
        (&["nameless"], &["trident-id"]),
        (&["two"], &["trident-release-file"]),
        (
            &["two", "nameless"],
            &["trident-release-file", "trident-id"],
        ),
    ];
    for (names, expected) in cases {
        let list: Vec<String> = names.iter().map(|name| format!("{name}.raw")).collect();
        workspace.config(&format!(
            "sysext: {{target: azurelinux-3.0, extensions: [{}]}}\n",
            list.join(", ")
        ));
        let said = workspace.run("expand --trident host.yaml");
        assert_eq!(said.errors(), expected, "{said:?}");
    }
    // What the plan never does: it places an image under the name of its release file.
    let image = dissect::open(&workspace.path("project/good.raw")).unwrap();
    let ids = |destination| {
        let listed = Listed {
            kind: ExtensionKind::Sysext,
            at: "x",
            destination,
            is_alone: true,
            image: &image,
        };
        let found = check(&[listed]).into_iter();
        found.map(|finding| finding.id).collect::<Vec<_>>()
    };
    assert!(ids("/etc/extensions/good.raw").is_empty());
    assert_eq!(ids("/var/lib/extensions/good_1.raw"), ["trident-name"]);
    for path in [
        "/run/extensions/good.raw",
        "/var/lib/confexts/good.raw",
        "/opt/good.raw",
    ] {
        assert_eq!(ids(path), ["trident-path"], "{path}");
    }
}
