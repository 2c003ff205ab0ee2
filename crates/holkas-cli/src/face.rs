//! Whose place the program takes: its own, skopeo's, or one of osbuild's modules, by the name that it is called by.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whose place the program takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Face<'a> {
    /// Its own.
    Holkas,
    /// skopeo's: what was typed after the name.
    Skopeo(&'a [OsString]),
    /// That of an osbuild module.
    Osbuild(Module),
    /// That of a run which is going into a user namespace, and has started us for it.
    NamespaceHelper,
}

/// One of osbuild's modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// What kind it is: sources and stages share names.
    pub(crate) kind: Kind,
    /// The whole name, such as `org.osbuild.skopeo`.
    pub(crate) name: String,
}

/// The kinds of osbuild's modules that holkas can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Fetches what a manifest lists into the store.
    Source,
    /// Gives a stage what was fetched or built.
    Input,
    /// Works on the tree, in the sandbox.
    Stage,
}

/// What the program is called by a run of its own which is going into a user namespace.
pub(crate) const NAMESPACE_HELPER: &str = "holkas-namespace-helper";

/// Returns whose place to take. `arguments` are all of the process, the name of the program being the first.
pub(crate) fn of(arguments: &[OsString]) -> Face<'_> {
    let called = arguments.first().map(Path::new);
    let name = called.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name == "skopeo" {
        return Face::Skopeo(&arguments[1..]);
    }
    if called == Some(Path::new(NAMESPACE_HELPER)) {
        return Face::NamespaceHelper;
    }
    if name.starts_with("org.osbuild.") {
        return Face::Osbuild(Module { kind: kind(called, &arguments[1..]), name });
    }
    match arguments.get(1) {
        Some(first) if first == "skopeo" => Face::Skopeo(&arguments[2..]),
        _ => Face::Holkas,
    }
}

/// Tells a source and a stage of one name apart: by the folder, and where that tells nothing, by the arguments.
///
/// In the sandbox a stage lies in `/run/osbuild/bin`, and gets no arguments. Services get their ID.
fn kind(called: Option<&Path>, arguments: &[OsString]) -> Kind {
    match called.and_then(Path::parent).and_then(Path::file_name).map(OsStrExt::as_bytes) {
        Some(b"sources") => return Kind::Source,
        Some(b"inputs") => return Kind::Input,
        Some(b"stages") => return Kind::Stage,
        _ => {}
    }
    let id = arguments.iter().skip_while(|argument| *argument != "--service-id").nth(1);
    match id.map(|id| id.as_bytes()) {
        Some(id) if id.starts_with(b"source/") => Kind::Source,
        Some(id) if id.starts_with(b"input/") => Kind::Input,
        _ => Kind::Stage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        format!("{:?}", of(&arguments))
    }

    #[test]
    fn the_name_decides() {
        let skopeo = |arguments: &[&str]| {
            format!("{:?}", Face::Skopeo(&arguments.iter().map(OsString::from).collect::<Vec<_>>()))
        };
        let module = |kind, name: &str| format!("{:?}", Face::Osbuild(Module { kind, name: name.into() }));
        assert_eq!(face(&["/usr/bin/holkas", "copy", "a", "b"]), "Holkas");
        assert_eq!(face(&[]), "Holkas");
        assert_eq!(face(&[NAMESPACE_HELPER]), "NamespaceHelper");
        assert_eq!(face(&["skopeo", "copy", "a"]), skopeo(&["copy", "a"]));
        assert_eq!(face(&["/usr/bin/holkas", "skopeo", "copy", "a"]), skopeo(&["copy", "a"]));
        let name = "org.osbuild.skopeo";
        assert_eq!(face(&["/usr/lib/osbuild/sources/org.osbuild.skopeo"]), module(Kind::Source, name));
        assert_eq!(face(&["/usr/lib/osbuild/stages/org.osbuild.skopeo"]), module(Kind::Stage, name));
        assert_eq!(face(&["/run/osbuild/bin/org.osbuild.skopeo"]), module(Kind::Stage, name));
        let service = |id| face(&["/x/org.osbuild.skopeo", "--service-id", id, "--service-fd", "3"]);
        assert_eq!(service("source/org.osbuild.skopeo"), module(Kind::Source, name));
        assert_eq!(service("input/images"), module(Kind::Input, name));
    }
}
