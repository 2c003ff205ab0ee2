//! Templates of `inspect --format`: what the real skopeo prints for them, and what is said of wrong ones.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use holkas::error::ErrorKind;
use holkas::inspect::{self, Inspection, OciConfig};
use holkas::oci::Platform;
use holkas::open::{Rooms, open_source};
use holkas_testkit::image::{BuiltImage, ImageBuilder};
use holkas_testkit::peers::Peer;
use holkas_testkit::tar::TarBuilder;
use serde_json::json;

struct Sample {
    name: &'static str,
    reference: String,
    inspection: Inspection,
    config: OciConfig,
}

/// An image with every field, a Docker image with few, and one with none.
fn samples(temp: &std::path::Path) -> Vec<Sample> {
    let layer = || TarBuilder::new().file("f", 0o644, "x").finish();
    let rich = ImageBuilder::oci()
        .layer(layer())
        .platform("arm64", "linux")
        .variant("v8")
        .created("2020-01-02T03:04:05.120Z")
        .env("A=b")
        .env("PATH=/bin:/usr/bin")
        .label("b", "<1> & 2")
        .label("a", "2")
        .user("u")
        .command(&["x", "y z"])
        .run_field("Volumes", json!({"/v": {}}))
        .run_field("ExposedPorts", json!({"80/tcp": {}, "53/udp": {}}))
        .run_field("ArgsEscaped", json!(true))
        .run_field("StopSignal", json!("TERM"))
        .config_field("os.version", json!("10"))
        .config_field("os.features", json!(["f"]))
        .config_field("author", json!("Ann <ann@example.org>"))
        .config_field(
            "history",
            json!([
                {"created": "2024-05-06T07:08:09+02:00", "created_by": "cmd", "comment": "c"},
                {"created_by": "e", "empty_layer": true, "author": "a"},
            ]),
        );
    let docker = ImageBuilder::docker().layer(layer()).without_created().without_history();
    let images = [("rich", rich.build()), ("docker", docker.build()), ("bare", ImageBuilder::oci().build())];
    let sample = |(name, image): (&'static str, BuiltImage)| {
        image.write_dir(temp.join(name));
        let reference = format!("dir:{}", temp.join(name).display());
        let source = open_source(&reference.parse().unwrap(), &Rooms::default()).unwrap();
        let platform = Platform::host();
        let inspection = inspect::inspect(source.as_ref(), &platform).unwrap();
        Sample { name, reference, inspection, config: inspect::config(source.as_ref(), &platform).unwrap() }
    };
    images.into_iter().map(sample).collect()
}

/// Templates over what both shapes have.
const COMMON: &[&str] = &[
    "{{.Created}}",
    "{{.Architecture}}|{{ .Author }}",
    "  x {{- .Architecture -}} y",
    "a {{- \" b \" -}} c",
    "{{- /* nothing }} here */ -}} x",
    "{{println .Architecture .Author}}",
    "{{print .Architecture .Author 1 2}}",
    "{{printf \"%s-%d-%v|%5s|%-5s|%05d|%x|%t|%q|%%|%.2s\" .Architecture 3 .Created \"a\" \"b\" 7 255 true \"c\" \"def\"}}",
    "{{printf \"%x|%5d|%-5d|%05d\" .Architecture 1 2 -3}}",
    "{{$x := .Architecture}}{{$x}}{{$x = \"q\"}}{{$x}}",
    "{{if .Author}}{{$x := 1}}{{$x}}{{end}}",
    "{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}",
    "{{$x := 1}}{{if true}}{{$x = 2}}{{$x}}{{end}}{{$x}}",
    "{{with .Author}}by {{.}}{{else}}by nobody{{end}}",
    "{{with $x := .Architecture}}{{$x}}{{.}}{{end}}",
    "{{if eq .Architecture \"arm64\" \"amd64\"}}yes{{else if .Author}}x{{else}}no{{end}}",
    "{{if eq .Architecture \"x\"}}1{{else if eq .Architecture \"y\"}}2{{else if .Architecture}}3{{else}}4{{end}}",
    "{{eq .Architecture \"arm64\"}} {{ne .Architecture \"a\"}} {{lt 1 2}} {{le 2 2}} {{gt \"a\" \"b\"}} {{ge 1 2}}",
    "{{and .Architecture .Author}}|{{or \"\" .Architecture}}|{{not .Author}}|{{and 1 0 2}}|{{or 0 \"\" 3}}",
    "{{or .Architecture (index \"x\" 9)}}",
    "{{printf \"%q\" \"a\\rb\\\\c\"}} {{\"a\\tb\\\"\" | printf \"%q\" | len}} {{`r`}} {{true}} {{-1}}",
    "{{.Architecture | printf \"%s:%s\" \"on\"}}",
    "{{(print .Architecture) | len}} {{len (print .Architecture)}}",
    "one\\ntwo\\n",
    "{{/* only a comment */}}",
    "",
];

/// Templates over an inspection.
const INSPECTION: &[&str] = &[
    "{{.Digest}}",
    "{{.Labels}}",
    "{{.Env}}",
    "{{.Layers}}",
    "{{.Os}}/{{.Architecture}}",
    "{{index .Labels \"a\"}}",
    "{{index .Labels \"zz\"}}|",
    "{{.Labels.zz}}",
    "{{range .Layers}}{{.}}\\n{{end}}",
    "{{len .Layers}}",
    "{{if .Labels}}yes{{else}}no{{end}}",
    "{{.Labels | len}}",
    "{{range .Env}}{{.}}{{else}}none{{end}}",
    "{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}",
    "{{range $i, $v := .Env}}{{$i}}={{$v}};{{end}}",
    "{{range $v := .Env}}{{$v}}{{range $.Nothing}}{{end}}{{end}}",
];

/// Templates over a config.
const CONFIG: &[&str] = &[
    "{{.}}",
    "json",
    "{{json .}}",
    " {{ json }} ",
    "{{.Config}}",
    "{{.Config.ExposedPorts}} {{.Config.Volumes}} {{.RootFS.DiffIDs}} {{.RootFS}}",
    "{{.History}}",
    "{{.OS}} {{.OSVersion}} {{.OSFeatures}} {{.Variant}}",
    "{{range .History}}{{.Created}} {{.CreatedBy}} {{.EmptyLayer}}{{println}}{{end}}",
    "{{range $i, $h := .History}}{{$i}}{{if $h.EmptyLayer}}e{{end}}{{$h.Comment}}{{end}}",
    "{{range .Config.ExposedPorts}}{{.}}{{end}}",
    "{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}",
    "{{index .Config.ExposedPorts \"1/tcp\"}}",
    "{{.Config.ArgsEscaped}} {{.Config.StopSignal}} {{.Config.User}} {{.Config.WorkingDir}}",
    "{{.Config.Cmd}} {{.Config.Entrypoint}} {{printf \"%s %v\" .Config.Cmd .Config.Labels}}",
    "{{with .Config}}{{.User}}{{range .Env}}[{{.}}]{{end}}{{end}}",
    "{{if and (eq .OS \"linux\") (gt (len .Config.Env) 1)}}yes{{else}}no{{end}}",
    "{{index .Config.Labels \"a\"}}|{{.Config.Labels.a}}|{{.Config.Labels.zz}}|",
];

/// skopeo 1.9 sees every template through a loop of its own, so that `$` is another thing there.
fn comparable(template: &str) -> bool {
    !template.contains("$.")
}

#[test]
fn templates_print_what_skopeo_prints() {
    let temp = tempfile::tempdir().unwrap();
    for sample in samples(temp.path()) {
        let check = |flags: &[&str], template: &str, ours: holkas::Result<String>| {
            let arguments = [&["inspect"], flags, &["--format", template, &sample.reference]].concat();
            let theirs = Peer::skopeo().run(arguments);
            theirs.ok();
            let theirs = String::from_utf8(theirs.stdout).unwrap();
            assert_eq!(ours.expect(template), theirs, "{} {flags:?}: {template}", sample.name);
        };
        // An empty --format is none.
        for template in COMMON.iter().chain(INSPECTION).filter(|t| comparable(t) && !t.is_empty()) {
            // skopeo 1.9 knows no `Author` of an inspection.
            if !template.contains(".Author") {
                check(&[], template, inspect::render(template, &sample.inspection));
            }
        }
        for template in COMMON.iter().chain(CONFIG).filter(|t| !t.is_empty()) {
            check(&["--config"], template, inspect::render_config(template, &sample.config));
        }
    }
}

/// The functions of the report package: skopeo 1.9 lacks them, podman has them.
#[test]
fn functions_print_what_podman_prints() {
    let temp = tempfile::tempdir().unwrap();
    let samples = samples(temp.path());
    for template in [
        "{{join (split \"a,b,,c\" \",\") \"-\"}}|{{split \"abc\" \"\"}}|{{split \"\" \",\"}}",
        "{{lower \"A Ä\"}} {{upper \"b ß\"}}",
        "{{json \"<a> & \\\"b\\\"\"}} {{json (split \"a,b\" \",\")}} {{json 1}} {{json true}}",
        "{{split \"a,b\" \",\" | json}}",
    ] {
        let theirs = Peer::program("podman").run(["version", "--format", template]);
        theirs.ok();
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        assert_eq!(inspect::render(template, &samples[0].inspection).expect(template), theirs, "{template}");
    }
}

#[test]
fn templates_beyond_skopeo_1_9() {
    let temp = tempfile::tempdir().unwrap();
    let samples = samples(temp.path());
    let rich = &samples[0];
    for (template, expected) in [
        ("{{range .Config.Cmd}}{{$.OS}}-{{.}};{{end}}", "linux-x;linux-y z;\n"),
        ("{{json .Config.Labels}}", "{\"a\":\"2\",\"b\":\"<1> & 2\"}\n"),
        ("{{json .Config.Entrypoint}} {{json .Config.ExposedPorts}}", "null {\"53/udp\":{},\"80/tcp\":{}}\n"),
        ("{{json .RootFS.Type}}{{.Config.Env | json}}", "\"layers\"[\"A=b\",\"PATH=/bin:/usr/bin\"]\n"),
        ("{{join .Config.Cmd \", \"}}", "x, y z\n"),
        ("{{upper .OS}} {{.OS | upper | lower}}", "LINUX linux\n"),
        ("table {{.OS}}\\t{{.Architecture}}", "linux       arm64\n"),
        ("table NAME VALUE\\naaaaaaaaaaaaaaa {{.OS}}\\n", "NAME             VALUE\naaaaaaaaaaaaaaa  linux\n"),
        ("table a\\tb\\n\\naaaaaaaaaaaaaaa\\tb", "a           b\n\naaaaaaaaaaaaaaa  b\n"),
    ] {
        assert_eq!(inspect::render_config(template, &rich.config).expect(template), expected, "{template}");
    }
}

/// Every wrong template is an error that says where, and nothing is shown.
#[test]
fn wrong_templates() {
    let temp = tempfile::tempdir().unwrap();
    let samples = samples(temp.path());
    let (invalid, unsupported) = (ErrorKind::Invalid, ErrorKind::Unsupported);
    let deep = format!("{}{}", "{{if .OS}}".repeat(17), "{{end}}".repeat(17));
    let parentheses = format!("{{{{{}.OS{}}}}}", "(".repeat(17), ")".repeat(17));
    for (template, kind, said) in [
        ("x{{.Nope}}", invalid, "1:4: there is no field `Nope`; there are Created, Author"),
        ("a\nb {{.Config.Nope}}", invalid, "2:12: there is no field `Nope`; there are User"),
        ("{{.OS.Nope}}", invalid, "1:6: there is no field `Nope` in a string"),
        ("{{", invalid, "1:1: `{{` is not closed"),
        ("ab{{.OS", invalid, "1:3: `{{` is not closed"),
        ("{{if .OS}}", invalid, "1:1: `if` has no end"),
        ("{{range .OS}}{{else}}", invalid, "1:1: `range` has no end"),
        ("{{end}}", invalid, "1:1: `end` has no beginning"),
        ("x{{else}}", invalid, "1:2: `else` has no beginning"),
        ("{{if 1}}{{else}}{{else}}{{end}}", invalid, "1:17: a second `else`"),
        ("{{if 1}}{{else with 1}}{{end}}", invalid, "1:9: after `else`"),
        ("{{if}}{{end}}", invalid, "1:1: an empty command"),
        ("{{}}", invalid, "1:1: an empty command"),
        ("{{.OS|}}", invalid, "1:1: an empty command"),
        ("{{|.OS}}", invalid, "1:3: an empty command"),
        ("{{end 1}}", invalid, "1:1: `end` has no beginning"),
        ("{{if 1}}{{end 1}}", invalid, "1:15: nothing may follow `end`"),
        ("{{$x}}", invalid, "1:3: there is no variable `$x`"),
        ("{{$x = 1}}", invalid, "1:1: there is no variable `$x`"),
        ("{{if 1}}{{$x := 1}}{{end}}{{$x}}", invalid, "1:29: there is no variable `$x`"),
        ("{{$a, $b := .OS}}", invalid, "1:1: too many variables"),
        ("{{.OS := 1}}", invalid, "1:7: `:=`"),
        ("{{(.OS}}", invalid, "1:3: `(` is not closed"),
        ("{{.OS)}}", invalid, "1:6: `)` has no beginning"),
        ("{{\"a}}", invalid, "1:3: the string is not closed"),
        ("{{/* a }}", invalid, "1:1: the comment is not closed"),
        ("{{/* a */ .OS}}", invalid, "1:11: a comment stands alone"),
        ("{{.OS .OS}}", invalid, "1:3: it is given arguments but is not a function"),
        ("{{.OS | .OS}}", invalid, "1:9: it is given arguments"),
        ("{{range .OS}}{{end}}", invalid, "1:1: cannot range over a string"),
        ("{{index .Config.Env 9}}", invalid, "1:3: `index`: index out of range: 9"),
        ("{{index .Config.Env \"a\"}}", invalid, "1:3: `index`: a list has no index that is a string"),
        ("{{len 3}}", invalid, "1:3: `len`: wrong arguments (a number)"),
        ("{{lt .OS 1}}", invalid, "`lt`: a string cannot be compared with a number"),
        ("{{eq 1}}", invalid, "`eq`: wrong arguments"),
        ("{{and}}", invalid, "`and` has no arguments"),
        ("{{printf \"%d\" .OS}}", invalid, "`%d` of a string is not supported"),
        ("{{printf \"%s %s\" .OS}}", invalid, "there is no value for `%s`"),
        ("{{printf \"%s\" .OS .OS}}", invalid, "1 of its values unused"),
        ("{{printf \"%99999d\" 1}}", invalid, "a width of 99999 is too much"),
        ("{{printf \"%\"}}", invalid, "ends within a `%`"),
        ("{{join .OS 1}}", invalid, "`join`: wrong arguments (a string, a number)"),
        ("{{join .History \",\"}}", invalid, "`join`: it joins strings, not a struct"),
        ("{{?}}", invalid, "1:3: `?` has no meaning here"),
        ("table {{.OS}} {{.Nope}}", invalid, "1:17: there is no field `Nope`"),
        ("{{nosuch .OS}}", unsupported, "1:3: `nosuch` is not supported"),
        ("{{define \"x\"}}{{end}}", unsupported, "1:1: `define` is not supported"),
        ("{{range .OS}}{{break}}{{end}}", unsupported, "1:14: `break`"),
        ("{{1.5}}", unsupported, "1:3: `1.5`"),
        ("{{\"\\x41\"}}", unsupported, "1:4: `\\x`"),
        (&deep, invalid, "nested too deeply"),
        (&parentheses, invalid, "nested too deeply"),
    ] {
        let error = inspect::render_config(template, &samples[0].config).expect_err(template);
        assert_eq!(error.kind(), kind, "{template}: {error}");
        let chain = error.chain().collect::<Vec<_>>().join(": ");
        assert!(chain.contains(said), "{template}: {chain}");
    }
}
