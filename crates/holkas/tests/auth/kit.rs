//! Credential helpers and auth files for the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use holkas::registry::auth::{AUTH_FILES, AuthFile, AuthFiles, AuthKey, AuthStore, Format, Found, KeyStyle};
use holkas::{Error, Result};

/// What each helper does; `$0` is asked for its directory, so that a link elsewhere has a state of its own.
const HELPERS: [(&str, &str); 11] = [
    ("ok", r#"echo "{\"ServerURL\":\"x\",\"Username\":\"helped\",\"Secret\":\"for $(cat)\"}""#),
    ("token", r#"cat >/dev/null; echo '{"Username":"<token>","Secret":"s3cret-token"}'"#),
    ("none", "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1"),
    ("empty", "cat >/dev/null; echo '{}'"),
    ("boom", r"cat >/dev/null; printf 'no \033[31mkeyring\n' >&2; exit 3"),
    ("answers-and-fails", r#"cat >/dev/null; echo '{"Username":"u","Secret":"s3cret"}'; exit 1"#),
    ("echo", r#"echo "cannot: $(cat | tr -d '{}')"; exit 1"#),
    ("junk", "cat >/dev/null; echo 's3cret is no JSON'"),
    ("endless", "yes s3cret"),
    ("deaf", r#"exec <&-; sleep 60 & echo '{"Username":"u","Secret":"p"}'"#),
    (
        "keep",
        r#"state=$(dirname "$0")/kept; input=$(cat)
echo "$1 $input" >>"$state.log"
case $1 in
store) echo "$input" >"$state" ;;
get) [ -f "$state" ] && cat "$state" || { echo 'credentials not found in native keychain'; exit 1; } ;;
erase) [ -f "$state" ] && rm "$state" || { echo 'credentials not found in native keychain'; exit 1; } ;;
list) [ -f "$state" ] && echo '{"keyring.example":"u"}' || echo '{}' ;;
esac"#,
    ),
];

/// The directory of all helpers. They are written before any of them runs: a program that a child of another test
/// still has open for writing could not be started.
pub(crate) static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helpers");
    fs::create_dir_all(&dir).unwrap();
    for (name, script) in HELPERS {
        let path = dir.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let slow = dir.join("docker-credential-slow");
    fs::write(&slow, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("docker-credential-plain"), "not to be executed").unwrap();
    dir
});

/// A directory for files and for a helper with a state.
pub(crate) struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(PROGRAMS.join("docker-credential-keep"), dir.path().join("docker-credential-keep"))
            .unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Returns what the helper `keep` was told.
    pub(crate) fn told(&self) -> String {
        fs::read_to_string(self.path("kept.log")).unwrap_or_default()
    }

    pub(crate) fn programs(&self) -> Vec<PathBuf> {
        vec!["relative".into(), self.dir.path().to_owned(), PROGRAMS.clone()]
    }

    pub(crate) fn files(&self, files: &[(&str, Format)], helpers: &[&str]) -> AuthFiles {
        let files = files.iter().map(|(name, format)| AuthFile { path: self.path(name), format: *format }).collect();
        AuthFiles::new(files, helpers.iter().map(|&name| name.to_owned()).collect(), self.programs())
    }

    pub(crate) fn store(&self, name: &str, style: KeyStyle) -> AuthStore {
        AuthStore { file: self.path(name), style, helpers: vec![AUTH_FILES.to_owned()], programs: self.programs() }
    }

    /// Looks a key up in one file with this text.
    pub(crate) fn find(&self, text: &str, key: &str) -> Result<Found> {
        self.file("auth.json", text);
        self.files(&[("auth.json", Format::Current)], &[AUTH_FILES]).find(&self::key(key))
    }
}

pub(crate) fn key(text: &str) -> AuthKey {
    AuthKey::parse(text).unwrap()
}

/// Returns everything that an error can show.
pub(crate) fn shown(error: &Error) -> String {
    format!("{error} {error:?} {}", error.hint_text().unwrap_or_default())
}
