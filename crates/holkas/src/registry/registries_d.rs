//! registries.d: where signatures of images in registries are, and where new ones go, by the name of the image.
//!
//! ```yaml
//! default-docker:
//!   lookaside-staging: file:///srv/signatures
//! docker:
//!   registry.example.com/team:
//!     lookaside: https://signatures.example.com
//!     use-sigstore-attachments: true
//! ```
//!
//! See containers-registries.d(5). `sigstore` and `sigstore-staging` are former names of `lookaside` and
//! `lookaside-staging`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::conf::ConfFile;
use super::scopes::docker_scopes;
use super::url::Url;
use crate::configuration::yaml::{Entry, YamlFile};
use crate::error::{Context, Error, Result, printable};
use crate::fs::{display, path_of};
use crate::reference::Name;

/// What registries.d says.
#[derive(Debug, Clone, Default)]
pub struct RegistriesD {
    default: Option<Section>,
    /// By scope.
    scopes: BTreeMap<String, Section>,
    built_in: Option<PathBuf>,
    /// The files that were read, in their order.
    pub files: Vec<PathBuf>,
    /// Keys that mean nothing, each with its file and line.
    pub unknown_keys: Vec<String>,
}

/// Which line of which file says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The keys that lead to it.
    pub key: String,
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

/// What one section says.
#[derive(Debug, Clone)]
struct Section {
    texts: BTreeMap<&'static str, (String, Said)>,
    attachments: Option<(bool, Said)>,
    place: Said,
}

/// What is done at a lookaside server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Signatures are read.
    Read,
    /// They are written or deleted.
    Write,
}

/// A place beside the registry, where an image's signatures are files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookaside {
    /// What the paths of repositories follow.
    pub base: Base,
    /// Who says so; `None` if nobody does, and it is the place that is used then.
    pub said: Option<Said>,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A directory.
    Dir(PathBuf),
    /// Files of a web server: the address up to its query, and the query with its question mark, if it has one.
    Web(String, String),
}

impl RegistriesD {
    /// Parses files. `built_in` is the directory for signatures of which no file says where they are.
    ///
    /// # Errors
    ///
    /// `Invalid`, with file, line and key, for what is not as it must be, and where two files speak of the same scope.
    pub fn parse(files: &[ConfFile], built_in: Option<PathBuf>) -> Result<Self> {
        let mut all = Self { built_in, ..Self::default() };
        for file in files {
            all.add(file).context(|| "loading registries.d")?;
            all.files.push(file.path.clone());
        }
        Ok(all)
    }

    fn add(&mut self, file: &ConfFile) -> Result<()> {
        let yaml = YamlFile::new(&file.path);
        let Some(document) = yaml.document(&file.bytes)? else { return Ok(()) };
        let top = Entry { key: String::new(), node: &document };
        for entry in yaml.map(&top)? {
            match entry.name() {
                // Left empty, as in the files of distributions, it says nothing.
                "default-docker" if entry.node.is_null() => {}
                "default-docker" => {
                    let section = self.section(file, yaml, &entry)?;
                    if let Some(other) = &self.default {
                        return Err(twice(yaml, &entry, other));
                    }
                    self.default = Some(section);
                }
                "docker" => {
                    for entry in yaml.map(&entry)? {
                        let section = self.section(file, yaml, &entry)?;
                        if let Some(other) = self.scopes.insert(entry.name().to_string(), section) {
                            return Err(twice(yaml, &entry, &other));
                        }
                    }
                }
                _ => self.unknown(file, yaml, &entry)?,
            }
        }
        Ok(())
    }

    fn section(&mut self, file: &ConfFile, yaml: YamlFile<'_>, entry: &Entry<'_>) -> Result<Section> {
        const TEXTS: [&str; 4] = ["lookaside", "lookaside-staging", "sigstore", "sigstore-staging"];
        let mut section = Section { texts: BTreeMap::new(), attachments: None, place: said(file, entry) };
        for entry in yaml.map(entry)? {
            if let Some(key) = TEXTS.into_iter().find(|key| *key == entry.name()) {
                if let Some(text) = yaml.text_if_any(&entry)? {
                    section.texts.insert(key, (text.to_string(), said(file, &entry)));
                }
            } else if entry.name() == "use-sigstore-attachments" {
                if !entry.node.is_null() {
                    section.attachments = Some((yaml.truth(&entry)?, said(file, &entry)));
                }
            } else {
                self.unknown(file, yaml, &entry)?;
            }
        }
        Ok(section)
    }

    /// Notes a key that means nothing: what a newer version knows may be there.
    fn unknown(&mut self, file: &ConfFile, yaml: YamlFile<'_>, entry: &Entry<'_>) -> Result<()> {
        if entry.name() == "<<" {
            let error = Error::unsupported("maps are not merged").hint("write what the other map has here, too");
            return Err(yaml.error(entry, error));
        }
        self.unknown_keys.push(format!("{}:{}: `{}`", display(&file.path), entry.node.line, entry.shown()));
        Ok(())
    }

    /// Returns the sections that speak of a name, the most specific first.
    fn sections(&self, name: &Name) -> impl Iterator<Item = &Section> {
        let found: Vec<_> = docker_scopes(name).scopes.iter().filter_map(|scope| self.scopes.get(scope)).collect();
        found.into_iter().chain(&self.default)
    }

    /// Returns the lookaside server of a name; `None` if no file names one, and there is none otherwise.
    ///
    /// # Errors
    ///
    /// `Invalid` or `Refused`, with file, line and key, if what the file has is no address of a lookaside server.
    pub fn lookaside(&self, name: &Name, purpose: Use) -> Result<Option<Lookaside>> {
        let keys: &[&str] = match purpose {
            Use::Read => &["lookaside", "sigstore"],
            Use::Write => &["lookaside-staging", "sigstore-staging", "lookaside", "sigstore"],
        };
        let found = self.sections(name).find_map(|section| keys.iter().find_map(|key| section.texts.get(key)));
        let Some((text, said)) = found else {
            let built_in = self.built_in.as_ref();
            return Ok(built_in.map(|dir| Lookaside { base: Base::Dir(dir.clone()), said: None }));
        };
        let base = Base::parse(text).context(|| format!("{said}: reading `{}`", said.key))?;
        Ok(Some(Lookaside { base, said: Some(said.clone()) }))
    }

    /// Returns whether sigstore signatures of a name are beside it in its repository, and who says so.
    pub fn attachments(&self, name: &Name) -> (bool, Option<&Said>) {
        let found = self.sections(name).find_map(|section| section.attachments.as_ref());
        found.map_or((false, None), |(wanted, said)| (*wanted, Some(said)))
    }
}

fn said(file: &ConfFile, entry: &Entry<'_>) -> Said {
    Said { key: entry.shown(), file: file.path.clone(), line: entry.node.line }
}

fn twice(yaml: YamlFile<'_>, entry: &Entry<'_>, other: &Section) -> Error {
    let hint = "all that is said of a scope must stand in one place";
    yaml.error(entry, Error::invalid(format!("{} speaks of it, too", other.place)).hint(hint))
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", display(&self.file), self.line)
    }
}

impl Base {
    fn parse(text: &str) -> Result<Self> {
        let scheme = text.split(':').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("file") {
            let path = &text[scheme.len() + 1..];
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                return Err(Error::invalid("the address of a directory is file:///PATH, with an absolute path"));
            }
            let path = path.split(['?', '#']).next().unwrap_or_default();
            return Ok(Self::Dir(path_of(&unescaped(path)?).to_path_buf()));
        }
        let text = text.split('#').next().unwrap_or_default();
        let (address, query) = text.split_at(text.find('?').unwrap_or(text.len()));
        if !address.contains("://") {
            return Err(Error::invalid(format!("`{}` is not an address", printable(address.as_bytes())))
                .hint("a lookaside server is https://HOST/PATH, http://HOST/PATH or file:///PATH"));
        }
        Url::parse(text)?;
        Ok(Self::Web(address.to_string(), query.to_string()))
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "file://{}", display(path)),
            Self::Web(address, _) => f.write_str(&printable(address.as_bytes())),
        }
    }
}

/// Returns the bytes that an address stands for: `%2F` is a slash, for example.
fn unescaped(path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(0) | None => return Err(Error::invalid("after a `%` there must be two hexadecimal digits, but 00")),
            Some(byte) => bytes.push(byte),
        }
        rest = &after[2..];
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> ConfFile {
        ConfFile { path: PathBuf::from(format!("/d/{name}")), bytes: text.as_bytes().to_vec() }
    }

    fn parsed(files: &[ConfFile]) -> RegistriesD {
        RegistriesD::parse(files, Some("/built-in".into())).expect("the files are fine")
    }

    fn name(text: &str) -> Name {
        Name::parse_normalised(text).expect("a name")
    }

    fn found(conf: &RegistriesD, text: &str, purpose: Use) -> String {
        let found = conf.lookaside(&name(text), purpose).expect("an address").expect("a place");
        let said = found.said.map_or_else(|| "nobody".to_string(), |said| format!("{said} {}", said.key));
        format!("{} by {said}", found.base)
    }

    #[test]
    fn the_most_specific_scope_decides_each_thing_for_itself() {
        let mut text = String::from(
            "default-docker:\n  lookaside: https://default\n  lookaside-staging: file:///default\ndocker:\n",
        );
        for scope in [
            "localhost",
            "localhost:5000",
            "example.com",
            "example.com/ns1",
            "example.com/ns1/ns2",
            "example.com/ns1/ns2/repo",
            "example.com/ns1/ns2/repo:notlatest",
            "'*.wild.example'",
        ] {
            let path = scope.replace([':', '*', '\''], "_");
            text += &format!("  {scope}:\n    lookaside: https://r/{path}\n    lookaside-staging: file:///w/{path}\n");
        }
        let conf = parsed(&[file("a.yaml", &text)]);
        for (image, place) in [
            ("example.com/ns1/ns2/repo:notlatest", "example.com/ns1/ns2/repo_notlatest"),
            ("example.com/ns1/ns2/repo:unmatched", "example.com/ns1/ns2/repo"),
            ("example.com/ns1/ns2/notrepo:notlatest", "example.com/ns1/ns2"),
            ("example.com/ns1/notns2/repo:notlatest", "example.com/ns1"),
            ("example.com/notns1/ns2/repo:notlatest", "example.com"),
            ("localhost:5000/busybox", "localhost_5000"),
            ("localhost/busybox", "localhost"),
            ("a.wild.example:5000/busybox", "__.wild.example_"),
            ("a.b.wild.example/busybox", "__.wild.example_"),
        ] {
            let place = if place.contains("wild") { "__.wild.example_" } else { place };
            assert!(found(&conf, image, Use::Read).starts_with(&format!("https://r/{place} by")), "{image}");
            assert!(found(&conf, image, Use::Write).starts_with(&format!("file:///w/{place} by")), "{image}");
        }
        for image in ["unknown.example.com/busybox", "localhost:9999/busybox", "wild.example/x", "busybox"] {
            assert_eq!(found(&conf, image, Use::Read), "https://default by /d/a.yaml:2 default-docker → lookaside");
            let staging = "file:///default by /d/a.yaml:3 default-docker → lookaside-staging";
            assert_eq!(found(&conf, image, Use::Write), staging);
        }
        // Where a scope says nothing of one thing, a wider one is asked.
        let conf = parsed(&[file(
            "a.yaml",
            "default-docker: {lookaside: 'https://d', use-sigstore-attachments: on}\n\
             docker:\n  e.com/a: {use-sigstore-attachments: false}\n  e.com: {lookaside-staging: 'file:///s'}\n  \
             e.com/a/b: {}\n  e.com/c:\n",
        )]);
        let attachments = |text: &str| conf.attachments(&name(text)).0;
        assert_eq!((attachments("e.com/a/b"), attachments("e.com/b"), attachments("f.com/a")), (false, true, true));
        assert!(found(&conf, "e.com/a/b", Use::Read).starts_with("https://d by"));
        assert!(found(&conf, "e.com/a/b", Use::Write).starts_with("file:///s by /d/a.yaml:4"));
        assert!(!RegistriesD::default().attachments(&name("x")).0);
    }

    /// The two examples of containers-registries.d(5).
    #[test]
    fn the_examples_of_the_manual() {
        let conf = parsed(&[
            file(
                "a.yaml",
                "docker:
    registry.example.com:
        lookaside: https://registry-lookaside.example.com
    registry.example.com/mydepartment:
        lookaside: https://lookaside.mydepartment.example.com
        lookaside-staging: file:///mnt/mydepartment/lookaside-staging
    registry.example.com/mydepartment/myproject:mybranch:
        lookaside: http://localhost:4242/lookaside
        lookaside-staging: file:///home/useraccount/webroot/lookaside
",
            ),
            file("b.yaml", "default-docker:\n    sigstore-staging: file:///mnt/company/common-lookaside-staging\n"),
        ]);
        for (image, read, write) in [
            (
                "registry.example.com/x",
                "https://registry-lookaside.example.com",
                "https://registry-lookaside.example.com",
            ),
            (
                "registry.example.com/mydepartment/myproject:other",
                "https://lookaside.mydepartment.example.com",
                "file:///mnt/mydepartment/lookaside-staging",
            ),
            (
                "registry.example.com/mydepartment/myproject:mybranch",
                "http://localhost:4242/lookaside",
                "file:///home/useraccount/webroot/lookaside",
            ),
            ("other.example/x", "file:///built-in", "file:///mnt/company/common-lookaside-staging"),
        ] {
            assert_eq!(found(&conf, image, Use::Read).split(' ').next(), Some(read), "{image}");
            assert_eq!(found(&conf, image, Use::Write).split(' ').next(), Some(write), "{image}");
        }
        assert_eq!(found(&conf, "other.example/x", Use::Read), "file:///built-in by nobody");
    }

    #[test]
    fn new_names_of_keys_go_before_the_old() {
        for (keys, read, write) in [
            (
                "lookaside-staging: file:///a, lookaside: file:///b, sigstore-staging: file:///c, sigstore: file:///d",
                "b",
                "a",
            ),
            ("lookaside: file:///b, sigstore-staging: file:///c, sigstore: file:///d", "b", "c"),
            ("lookaside: file:///b, sigstore: file:///d", "b", "b"),
            ("sigstore: file:///d", "d", "d"),
            ("lookaside: '', sigstore: file:///d, lookaside-staging: ~", "d", "d"),
            ("lookaside-staging: file:///a", "built-in", "a"),
        ] {
            let conf = parsed(&[file("a.yaml", &format!("default-docker: {{{keys}}}\n"))]);
            for (purpose, place) in [(Use::Read, read), (Use::Write, write)] {
                let found = found(&conf, "x", purpose);
                assert!(found.starts_with(&format!("file:///{place} by")), "{keys}: {found}");
            }
        }
    }

    #[test]
    fn files_are_merged_and_contradict_each_other_never() {
        let conf = parsed(&[
            file("a.yaml", "default-docker:\n#  lookaside: x\n"),
            file("b.yaml", ""),
            file("c.yaml", "{}"),
            file("d.yaml", "docker: ~\ndefault-docker: {lookaside: 'file:///d', future: [1]}\nother: 1\n"),
        ]);
        assert_eq!(found(&conf, "x", Use::Read), "file:///d by /d/d.yaml:2 default-docker → lookaside");
        assert_eq!(conf.unknown_keys, ["/d/d.yaml:2: `default-docker → future`", "/d/d.yaml:3: `other`"]);
        assert_eq!(conf.files.len(), 4);
        for (first, second, said) in [
            (
                "default-docker: {lookaside: 'file:///a'}",
                "\ndefault-docker: {lookaside: 'file:///a'}",
                "/d/2.yaml:2: reading `default-docker`: /d/1.yaml:1 speaks of it, too",
            ),
            ("docker:\n e.com: {}", "docker:\n e.com:", "/d/2.yaml:2: reading `docker → e.com`: /d/1.yaml:2 speaks"),
            ("", "docker: {a.b: {}, a.b: {}}", "/d/2.yaml:1: reading `docker → a.b`: the key is there twice"),
            ("", "}", "/d/2.yaml:1: reading the file"),
            ("", "- a", "/d/2.yaml:1: reading the file: it must be a map"),
            ("", "docker: [a]", "/d/2.yaml:1: reading `docker`: it must be a map"),
            ("", "docker:\n a.b: text", "/d/2.yaml:2: reading `docker → a.b`: it must be a map"),
            ("", "docker:\n a.b:\n  lookaside: [x]", "/d/2.yaml:3: reading `docker → a.b → lookaside`: it must be a"),
            ("", "default-docker: {use-sigstore-attachments: 'true'}", "it must be true or false"),
            ("", "x: &x {lookaside: 'file:///a'}\ndefault-docker:\n  <<: *x", "maps are not merged"),
        ] {
            let error = RegistriesD::parse(&[file("1.yaml", first), file("2.yaml", second)], None);
            let told = error.expect_err(second).chain().collect::<Vec<_>>().join(": ");
            assert!(told.starts_with("loading registries.d: ") && told.contains(said), "{told}");
        }
    }

    #[test]
    fn addresses_are_of_directories_or_web_servers() {
        for (text, base) in [
            ("file:///a%20b/%2F", Base::Dir("/a b//".into())),
            ("FILE:/a", Base::Dir("/a".into())),
            ("https://H:1/p/", Base::Web("https://H:1/p/".into(), String::new())),
            ("http://h?a=b#c", Base::Web("http://h".into(), "?a=b".into())),
        ] {
            assert_eq!(Base::parse(text).expect(text), base);
        }
        for text in [
            ":emptyscheme",
            "/no/scheme/just/a/path",
            "no/scheme/relative/path",
            "file://host/path",
            "file:path",
            "file:///%0",
            "file:///%zz",
            "file:///%00",
            "file:///%+1",
            "ftp://h/x",
            "https://",
            "https://user:secret@h/x",
            "https://h/a b",
        ] {
            let error = Base::parse(text).expect_err(text);
            assert!(!format!("{error}").contains("secret"), "{error}");
        }
        // Who is not concerned is not disturbed.
        let conf = parsed(&[file("a.yaml", "docker:\n e.com/a:\n  lookaside: :x\n e.com:\n  lookaside: file:///e\n")]);
        assert!(found(&conf, "e.com/b", Use::Read).starts_with("file:///e by"));
        let error = conf.lookaside(&name("e.com/a"), Use::Write).expect_err("no address");
        let told = error.chain().collect::<Vec<_>>().join(": ");
        assert!(told.starts_with("/d/a.yaml:3: reading `docker → e.com/a → lookaside`: "), "{told}");
    }
}
