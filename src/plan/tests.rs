use super::testing::{config, key_pair, planned, planned_for, said};
use super::*;
use crate::base::profile::by_name;

/// Names, in the order of the plan.
fn names(plan: &Plan) -> Vec<&str> {
    plan.extensions.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn a_config_without_a_block_gives_no_plan() {
    let findings = planned(Path::new("/d"), "os: {}\n").unwrap_err();
    assert_eq!(said(&findings), ["no-sysext /d/c.yaml"]);
}

#[test]
fn images_lie_where_kind_location_and_layout_put_them() {
    for (keys, extension, image, destination) in [
        (
            "",
            "name: a",
            "/d/.sysext/a.raw",
            "/var/lib/extensions/a.raw",
        ),
        (
            "location: /etc/extensions, outputDirectory: ./o",
            "name: a",
            "/d/./o/a.raw",
            "/etc/extensions/a.raw",
        ),
        (
            "location: /etc/extensions",
            "name: a, kind: confext",
            "/d/.sysext/a.raw",
            "/var/lib/confexts/a.raw",
        ),
        (
            "",
            "name: a, version: '1', versionedName: true",
            "/d/.sysext/a_1.raw",
            "/var/lib/extensions/a_1.raw",
        ),
        (
            "",
            "name: a, version: '1'",
            "/d/.sysext/a.raw",
            "/var/lib/extensions/a.raw",
        ),
        (
            "",
            "name: a, layout: bare",
            "/d/.sysext/a.raw",
            "/var/lib/extensions/a.raw",
        ),
        (
            "",
            "name: a, layout: directory",
            "/d/.sysext/a",
            "/var/lib/extensions/a",
        ),
    ] {
        let text =
            format!("sysext: {{extensions: [{{tree: t, verity: none, {extension}}}], {keys}}}\n");
        let plan = planned(Path::new("/d"), &text).unwrap();
        let [only] = plan.extensions.as_slice() else {
            panic!("{text}")
        };
        assert_eq!(only.image, Path::new(image), "{text}");
        assert_eq!(only.destination, destination, "{text}");
        let below = image.strip_prefix("/d/").unwrap();
        let below = below.strip_prefix("./").unwrap_or(below);
        assert_eq!(only.image_in_config, below, "{text}");
    }
}

#[test]
fn the_folder_of_the_run_replaces_that_of_the_config_on_this_machine_alone() {
    let text = "sysext: {outputDirectory: o, extensions: [{name: a, tree: t, verity: none}]}\n";
    let environment = Environment {
        output_directory: Some("/run/out".into()),
        epoch: 7,
        digests: true,
        ..Environment::default()
    };
    let base = by_name("debian-13").unwrap();
    let config = config(Path::new("/d"), text);
    let plan = plan(&config, Some(&BaseIdentity::of(&base)), &environment).unwrap();
    assert_eq!(plan.output_directory, Path::new("/run/out"));
    assert_eq!(plan.extensions[0].image, Path::new("/run/out/a.raw"));
    assert_eq!(plan.extensions[0].image_in_config, "o/a.raw");
    assert_eq!((plan.epoch, plan.digests), (7, true));
}

#[test]
fn errors_of_all_extensions_come_at_once_and_the_same_one_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = "sysext:\n  verityKey: k.pem\n  verityCertificate: none.crt\n  extensions:\n  \
                - {name: a, tree: t}\n  - {name: b, tree: t}\n  - gone.raw\n  \
                - {name: c.raw, tree: t}\n";
    assert_eq!(
        said(&planned(dir.path(), text).unwrap_err()),
        ["name-refused sysext.extensions[3].name"],
        "what the config alone tells comes before anything is read"
    );
    let text = text.replace("c.raw", "c");
    assert_eq!(
        said(&planned(dir.path(), &text).unwrap_err()),
        [
            "certificate-unreadable sysext.verityCertificate",
            "image-unreadable sysext.extensions[2].image",
        ]
    );
}

#[test]
fn only_the_wanted_extensions_stay() {
    let text = "sysext: {extensions: [{name: alpha, tree: t, verity: none}, \
                {name: beta, tree: t, verity: none}]}\n";
    for (only, left, expected) in [
        (vec![], vec!["alpha", "beta"], None),
        (vec!["beta"], vec!["beta"], None),
        (vec!["beta", "alpha"], vec!["alpha", "beta"], None),
        (
            vec!["alpa"],
            vec!["alpha", "beta"],
            Some("did you mean `alpha`?"),
        ),
        (
            vec!["alpha", "unlike"],
            vec!["alpha", "beta"],
            Some("it lists: alpha, beta"),
        ),
    ] {
        let mut plan = planned(Path::new("/d"), text).unwrap();
        let only: Vec<String> = only.into_iter().map(str::to_owned).collect();
        let findings = finish(&mut plan, &only);
        assert_eq!(names(&plan), left, "{only:?}");
        let told = findings.iter().map(|it| (it.id, it.help.as_deref()));
        let expected = expected.map(|help| ("unknown-extension", Some(help)));
        assert!(told.eq(expected), "{only:?}: {findings:?}");
    }
}

#[test]
fn what_is_left_out_is_judged_as_well() {
    let one = |name| format!("{{name: {name}, tree: t, verity: none}}");
    let text = format!(
        "sysext: {{extensions: [{}, {}, {}]}}\n",
        one("a"),
        one("b"),
        one("c")
    );
    let mut plan = planned(Path::new("/d"), &text).unwrap();
    plan.extensions[1].name = "a".to_owned();
    let findings = finish(&mut plan, &["c".to_owned()]);
    assert_eq!(said(&findings), ["duplicate-name sysext.extensions[1]"]);
    assert_eq!(names(&plan), ["c"]);
}

#[test]
fn each_kind_gets_its_drop_ins_and_system_extensions_come_first() {
    let dir = tempfile::tempdir().unwrap();
    key_pair(dir.path(), "c");
    let of =
        |unit: &str, file: &str| format!("/etc/systemd/system/systemd-{unit}.service.d/{file}");
    let (copy, policy) = ("40-verity-certificates.conf", "50-image-policy.conf");
    for (keys, place, expected) in [
        ("", "/etc/verity.d/c.crt", vec![]),
        (
            "certificateLocation: /usr/lib/verity.d",
            "/usr/lib/verity.d/c.crt",
            vec![],
        ),
        (
            "certificateLocation: /run/verity.d",
            "/usr/lib/prism-sysext/verity.d/c.crt",
            vec![of("sysext", copy), of("confext", copy)],
        ),
        (
            "imagePolicy: 'root=signed:=ignore'",
            "/etc/verity.d/c.crt",
            vec![of("sysext", policy), of("confext", policy)],
        ),
        (
            "imagePolicy: 'root=signed:=ignore', certificateLocation: /run/verity.d",
            "/usr/lib/prism-sysext/verity.d/c.crt",
            vec![
                of("sysext", copy),
                of("sysext", policy),
                of("confext", copy),
                of("confext", policy),
            ],
        ),
    ] {
        let text = format!(
            "sysext: {{certificates: [c.crt], {keys}, extensions: [\
             {{name: a, tree: t, verity: none, kind: confext}}, \
             {{name: b, tree: t, verity: none}}, {{name: c, tree: t, verity: none}}]}}\n"
        );
        let plan = planned(dir.path(), &text.replace(" ,", "")).unwrap();
        assert_eq!(
            plan.kinds(),
            [ExtensionKind::Sysext, ExtensionKind::Confext]
        );
        let paths: Vec<String> = plan.drop_ins().into_iter().map(|it| it.path).collect();
        assert_eq!(paths, expected, "{keys}");
        assert_eq!(
            plan.certificate_path(&plan.certificates[0]),
            place,
            "{keys}"
        );
    }
}

#[test]
fn an_unknown_base_is_an_error_unless_only_names_are_asked_for() {
    let text = "sysext: {extensions: [{name: a, tree: t, verity: none}]}\n";
    let findings = planned_for(None, Path::new("/d"), text).unwrap_err();
    assert_eq!(said(&findings), ["no-base sysext.extensions[0]"]);
    let environment = Environment {
        names_only: true,
        ..Environment::default()
    };
    let plan = plan(&config(Path::new("/d"), text), None, &environment).unwrap();
    assert_eq!(names(&plan), ["a"]);
}

#[test]
fn sharing_of_compressed_files_takes_linux_6_1() {
    for (profile, arch, shares) in [
        ("ubuntu-22.04", Arch::X86_64, false),
        ("debian-12", Arch::X86_64, true),
        ("azurelinux-3.0-arm64", Arch::ARM64, true),
    ] {
        let base = by_name(profile).unwrap();
        let identity = BaseIdentity::of(&base);
        assert_eq!(identity.arch, Some(arch), "{profile}");
        assert_eq!(identity.shares_compressed, shares, "{profile}");
        assert_eq!(identity.kernel, base.kernel_features(), "{profile}");
    }
}
