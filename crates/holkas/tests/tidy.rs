//! Keeps the house in order: storeys, first lines, lengths, forgotten tests, licences, links and commands in the docs.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The storeys of ARCHITECTURE.md. A file imports only from lower ones, and equal storeys never import each other.
///
/// `module/file` puts a file of a module higher than the rest of it: documents are parsed only from verified bytes,
/// while the door itself needs digests and descriptors.
const STOREYS: [&[&str]; 9] = [
    &["error"],
    &["progress", "limits"],
    &["oci", "fs", "fan_out", "child"],
    &["verify", "compress", "reference", "configuration"],
    &["oci/config", "oci/manifest", "oci/index", "oci/schema1", "oci/document", "signature"],
    &["image", "unpack", "layer_tar", "cache"],
    &["registry", "layout", "archive", "dir", "docker_archive", "storage", "policy"],
    &["open", "copy", "inspect", "containers", "build"],
    &["embed", "resolve", "pack", "flatten", "sync"],
];

/// Imports that break the rule, each with the reason why it stays: (from, to, reason).
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("dir", "layout", "`dir:` names and stages its blobs as the layout does: `layout::blob` and `layout::place`"),
    ("archive", "layout", "an oci-archive is a layout whose files are in a tar"),
    ("docker_archive", "layout", "`layout::blob` and `layout::place`, as for `dir:`"),
    ("docker_archive", "archive", "both are tars: read by `archive::entries`, written by `archive::writer`"),
];

/// The most lines that a file may have: beyond it, it has two purposes.
const LONGEST: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns all files below `dir` with this extension, sorted; build output and git's own are left out.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() || ["target", ".git", "corpus", "artifacts"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} below {}", dir.display());
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn no_faults(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}\n", faults.join("\n  "));
}

/// Returns a source with comments and the contents of string literals blanked, so that only code is left.
fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|&c| c != '\n') {
                    chars.next();
                }
            }
            '"' => {
                out.push('"');
                while let Some(c) = chars.next() {
                    match c {
                        '\\' if chars.next() == Some('\n') => out.push('\n'),
                        '"' => break,
                        '\n' => out.push('\n'),
                        _ => {}
                    }
                }
                out.push('"');
            }
            // A quote or a backslash as a character literal would else open a string here.
            '\'' if chars.peek() == Some(&'"') => {
                chars.next();
            }
            '\'' if chars.peek() == Some(&'\\') => {
                chars.next();
                chars.next();
            }
            c => out.push(c),
        }
    }
    out
}

/// Returns the top modules of the crate that a file names: `crate::fs::Dir`, `use crate::{fs, oci::Digest}`.
fn imports(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let source = code(source);
    for (at, _) in source.match_indices("crate::") {
        // `some_crate::` is another word.
        if source[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &source[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            continue;
        };
        let (mut depth, mut word, mut at_start) = (0, String::new(), true);
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(std::mem::take(&mut word));
                    at_start = true;
                }
                ':' if depth == 0 => at_start = false,
                c if depth == 0 && at_start && (c.is_alphanumeric() || c == '_') => word.push(c),
                _ => {}
            }
        }
        found.insert(word);
    }
    found.remove("");
    // What lib.rs re-exports lives in `error`.
    if ["Context", "Error", "ErrorKind", "Result"].iter().filter(|name| found.remove(**name)).count() > 0 {
        found.insert("error".to_owned());
    }
    found
}

fn storey(module: &str) -> Option<usize> {
    STOREYS.iter().position(|storey| storey.contains(&module))
}

#[test]
fn imports_only_go_down() {
    let src = root().join("crates/holkas/src");
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for file in files(&src, "rs") {
        let inside = file.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let path = inside.to_string_lossy().trim_end_matches(".rs").to_owned();
        let Some(own) = storey(&path).or_else(|| storey(&module)) else {
            faults.push(format!("{}: `{module}` has no storey: give it one", shown(&file)));
            continue;
        };
        for import in imports(&text(&file)) {
            if import == module {
                continue;
            }
            let exception = EXCEPTIONS.iter().find(|(from, to, _)| *from == module && *to == import);
            match (storey(&import), exception) {
                (None, _) => faults.push(format!("{}: imports `{import}`, which has no storey", shown(&file))),
                (Some(other), _) if other < own => {}
                (Some(_), Some(exception)) => {
                    used.insert(*exception);
                }
                (Some(other), None) => faults
                    .push(format!("{}: `{module}` (storey {own}) imports `{import}` (storey {other})", shown(&file))),
            }
        }
    }
    faults.extend(
        EXCEPTIONS
            .iter()
            .filter(|exception| !used.contains(*exception))
            .map(|(from, to, _)| format!("the exception {from} → {to} is not needed any more: remove it")),
    );
    no_faults("imports go down, never up or sideways", &faults);
}

#[test]
fn the_parser_of_imports_sees_them() {
    let source = r#"
        use crate::error::{Context, Error};
        use crate::{fs::Dir, oci::{self, Digest}, limits};
        use crate::Result;
        // crate::copy in a comment
        let text = "crate::embed";
        let quote = '"'; crate::verify::check();
        pub(crate) fn f() {}
    "#;
    let found: Vec<_> = imports(source).into_iter().collect();
    assert_eq!(found, ["error", "fs", "limits", "oci", "verify"]);
}

#[test]
fn every_file_says_its_purpose_and_is_short() {
    let mut faults = Vec::new();
    for file in files(&root(), "rs") {
        let text = text(&file);
        let first = text.lines().next().unwrap_or_default();
        if !(first.starts_with("//! ") && first.len() > 12) {
            faults.push(format!("{}: the first line does not say the purpose: {first}", shown(&file)));
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            faults.push(format!("{}: {lines} lines; split it", shown(&file)));
        }
    }
    no_faults("every file has one purpose", &faults);
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["todo!(", "unimplemented!(", "#[ignore", "dbg!("];
    let mut faults = Vec::new();
    for file in files(&root(), "rs") {
        for (number, line) in code(&text(&file)).lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    no_faults("no stubs, no ignored tests", &faults);
}

#[test]
fn every_test_file_is_run() {
    let mut faults = Vec::new();
    for krate in ["holkas", "holkas-cli", "holkas-testkit"] {
        let dir = root().join("crates").join(krate);
        let tests = dir.join("tests");
        if !tests.exists() {
            continue;
        }
        let all = files(&tests, "rs");
        for file in &all {
            let source = text(file);
            // A file right below tests/ is a test binary by itself; one deeper must be a module of such a file.
            if file.parent() == Some(&tests) {
                if !["#[test]", "mod ", "proptest!"].iter().any(|word| source.contains(word)) {
                    faults.push(format!("{}: holds no test", shown(file)));
                }
                continue;
            }
            let module = match file.file_stem().unwrap().to_str().unwrap() {
                "mod" => file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(),
                stem => stem.to_owned(),
            };
            let declaration = format!("mod {module};");
            if !all.iter().any(|other| text(other).lines().any(|line| line.trim() == declaration)) {
                faults.push(format!("{}: no file says `{declaration}`", shown(file)));
            }
        }
        let manifest = text(&dir.join("Cargo.toml"));
        if manifest.contains("autotests = false") || manifest.contains("[[test]]") {
            faults.push(format!("{}/Cargo.toml: turns tests off or names them by hand", shown(&dir)));
        }
    }
    no_faults("every test file is run", &faults);
}

fn deny() -> toml::Table {
    text(&root().join("deny.toml")).parse().unwrap()
}

fn strings(list: &toml::Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Returns whether an SPDX expression can be satisfied by allowed licences alone.
fn allowed(expression: &str, licences: &[String]) -> bool {
    // `/` is the old form of `OR`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = either(&tokens, &mut at, licences);
    assert_eq!(at, tokens.len(), "cannot read the licence expression {expression}");
    result
}

fn either(tokens: &[&str], at: &mut usize, licences: &[String]) -> bool {
    let mut result = both(tokens, at, licences);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        result |= both(tokens, at, licences);
    }
    result
}

fn both(tokens: &[&str], at: &mut usize, licences: &[String]) -> bool {
    let mut result = one(tokens, at, licences);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(tokens, at, licences);
    }
    result
}

fn one(tokens: &[&str], at: &mut usize, licences: &[String]) -> bool {
    let mut licence = tokens[*at].to_owned();
    *at += 1;
    if licence == "(" {
        let result = either(tokens, at, licences);
        assert_eq!(tokens.get(*at), Some(&")"));
        *at += 1;
        return result;
    }
    if tokens.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", tokens[*at + 1]);
        *at += 2;
    }
    licences.contains(&licence)
}

#[test]
fn licence_expressions_are_read() {
    let allow = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND Zlib", false),
        ("Apache-2.0 WITH LLVM-exception OR Zlib", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(allowed(expression, &allow), expected, "{expression}");
    }
}

#[test]
fn dependencies_are_allowed() {
    let deny = deny();
    let licences = strings(&deny["licenses"]["allow"]);
    assert_eq!(deny["sources"]["unknown-git"].as_str(), Some("deny"));
    let banned: Vec<_> =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|ban| ban["crate"].as_str().unwrap()).collect();
    let mut faults = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform"])
            .args(["x86_64-unknown-linux-gnu", "--manifest-path", manifest])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        assert!(packages.len() > 20, "cargo metadata named only {} packages", packages.len());
        for package in packages {
            let name = package["name"].as_str().unwrap();
            match package["license"].as_str() {
                Some(licence) if allowed(licence, &licences) => {}
                licence => faults.push(format!("{name}: licence {}", licence.unwrap_or("unknown"))),
            }
            if let Some(source) = package["source"].as_str()
                && !source.starts_with("registry+")
            {
                faults.push(format!("{name}: comes from {source}"));
            }
            if banned.contains(&name) {
                faults.push(format!("{name}: banned by deny.toml"));
            }
        }
    }
    no_faults("deny.toml allows every dependency", &faults);
}

/// Calls `each` with the place and the text of every line of every page, and whether it is code.
fn each_line(mut each: impl FnMut(&Path, &str, &str, bool)) {
    for page in files(&root(), "md") {
        let mut in_code = false;
        for (number, line) in text(&page).lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
                continue;
            }
            each(&page, &format!("{}:{}", shown(&page), number + 1), line, in_code);
        }
    }
}

#[test]
fn links_in_the_docs_resolve() {
    let mut faults = Vec::new();
    each_line(|page, place, line, in_code| {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap();
            if in_code || target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(path) };
            if !file.exists() {
                faults.push(format!("{place}: {target}"));
            } else if !anchor.is_empty() && !headings(&text(&file)).contains(anchor) {
                faults.push(format!("{place}: no heading for {target}"));
            }
        }
    });
    no_faults("every link leads somewhere", &faults);
}

/// Returns the anchors of a page, made as the usual renderers make them.
fn headings(page: &str) -> BTreeSet<String> {
    let titles = page.lines().filter(|line| line.starts_with('#'));
    titles
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn commands_in_the_docs_exist() {
    let cli: String = files(&root().join("crates/holkas-cli/src"), "rs").iter().map(|file| text(file)).collect();
    let mut faults = Vec::new();
    each_line(|_, place, line, in_code| {
        let mut commands: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        if in_code {
            commands.push(line);
        }
        for command in commands {
            let words: Vec<&str> = command.trim_start_matches("$ ").split_whitespace().collect();
            match words.as_slice() {
                ["holkas", sub, ..] if sub.chars().all(|c| c.is_ascii_lowercase() || c == '-') => {
                    let parts = sub.split('-').filter(|part| !part.is_empty());
                    let variant: String = parts.map(|part| part[..1].to_uppercase() + &part[1..]).collect();
                    if !sub.starts_with('-') && !cli.contains(&variant) {
                        faults.push(format!("{place}: there is no `holkas {sub}`"));
                    }
                }
                [script, ..] if script.ends_with(".sh") && script.contains('/') && !root().join(script).exists() => {
                    faults.push(format!("{place}: there is no {script}"));
                }
                _ => {}
            }
        }
    });
    no_faults("commands in the docs exist", &faults);
}

#[test]
fn the_two_commands_of_the_readme_can_be_run() {
    use std::os::unix::fs::PermissionsExt;

    let readme = text(&root().join("README.md"));
    let test = "scripts/check.sh";
    for command in ["scripts/demo.sh", test, ".ci/run"] {
        assert!(command.starts_with('.') || readme.contains(&format!("```\n{command}\n```")), "README.md: {command}?");
        let mode = fs::metadata(root().join(command)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{command} is not executable");
    }
    let ci = text(&root().join(".ci/run"));
    assert!(ci.contains(&format!("exec {test}")), ".ci/run does not call {test}");
}

#[test]
fn docs_have_one_sentence_a_line() {
    let mut faults = Vec::new();
    each_line(|_, place, line, in_code| {
        let is_table_or_heading = line.starts_with('|') || line.starts_with('#');
        let second = line.split(". ").skip(1).any(|next| next.starts_with(|c: char| c.is_ascii_uppercase()));
        // `1. Text` is an item of a list.
        let is_item = line.split(". ").next().is_some_and(|head| head.trim().parse::<u32>().is_ok());
        if second && !(in_code || is_table_or_heading || is_item) {
            faults.push(format!("{place}: {line}"));
        }
    });
    no_faults("one sentence per line", &faults);
}

/// Every test that docs/hostile-inputs.md names is there: `file::function`, or `src/path.rs::function`.
#[test]
fn tests_of_hostile_inputs_exist() {
    let page = text(&root().join("docs/hostile-inputs.md"));
    let mut faults = Vec::new();
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| input")) {
        let tests = line.trim_end_matches('|').rsplit('|').next().unwrap();
        let mut any = false;
        for name in tests.split('`').skip(1).step_by(2) {
            let (file, function) = name.split_once("::").unwrap_or((name, ""));
            let wanted = format!("fn {function}()");
            let found = files(&root().join("crates"), "rs").iter().any(|path| {
                let shown = shown(path);
                let right = match file.strip_prefix("src/") {
                    Some(_) => shown.ends_with(&format!("holkas/{file}")),
                    None => shown.contains("/tests/") && shown.ends_with(&format!("/{file}.rs")),
                };
                right && text(path).split("#[test]").skip(1).any(|test| test.trim_start().starts_with(&wanted))
            });
            any |= found;
            named += 1;
            if !found {
                faults.push(format!("{name} is no test"));
            }
        }
        if !any {
            faults.push(format!("no test: {line}"));
        }
    }
    assert!(named > 50, "only {named} tests are named");
    no_faults("every hostile input has its test", &faults);
}
