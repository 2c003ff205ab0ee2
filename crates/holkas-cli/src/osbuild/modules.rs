//! The modules of osbuild whose place holkas takes, and what osbuild is told of each.

/// A module, by the folder that it lies in and its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    /// `sources`, `inputs` or `stages`.
    pub(crate) folder: &'static str,
    pub(crate) name: &'static str,
    /// The bytes of `NAME.meta.json` beside it: its description, and the schema of what manifests may say to it.
    pub(crate) meta: &'static str,
}

/// Takes a file of `crates/holkas-cli/osbuild`.
macro_rules! module {
    ($folder:literal, $name:literal) => {
        Listed {
            folder: $folder,
            name: $name,
            meta: include_str!(concat!("../../osbuild/", $folder, "/", $name, ".meta.json")),
        }
    };
}

/// All of them, in the order in which they are listed.
pub(crate) const MODULES: [Listed; 8] = [
    module!("inputs", "org.osbuild.containers"),
    module!("inputs", "org.osbuild.containers-storage"),
    module!("sources", "org.osbuild.containers-storage"),
    module!("sources", "org.osbuild.skopeo"),
    module!("sources", "org.osbuild.skopeo-index"),
    module!("stages", "org.osbuild.container-deploy"),
    module!("stages", "org.osbuild.oci-archive"),
    module!("stages", "org.osbuild.skopeo"),
];

impl Listed {
    /// Returns the name of the file that osbuild reads before it runs the module.
    pub(crate) fn meta_name(&self) -> String {
        format!("{}.meta.json", self.name)
    }
}

/// Returns all files below osbuild's library directory, in order.
pub(crate) fn files() -> Vec<String> {
    MODULES
        .iter()
        .flat_map(|module| {
            let Listed { folder, name, .. } = module;
            [format!("{folder}/{name}"), format!("{folder}/{}", module.meta_name())]
        })
        .collect()
}
