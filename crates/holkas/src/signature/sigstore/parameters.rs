//! The YAML file of `--sign-by-sigstore`: with what to sign, as containers-sigstore-signing-params.yaml(5) has it.
//!
//! ```yaml
//! privateKeyFile: /etc/keys/builder.private
//! privateKeyPassphraseFile: /run/secrets/builder
//! ```

use std::path::{Path, PathBuf};

use crate::configuration::yaml::{Entry, YamlFile};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fs::{display, read_file};
use crate::limits::CONFIGURATION;

/// With what to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The file of a private key.
    pub private_key_file: PathBuf,
    /// The file with its passphrase; without it, somebody must be asked.
    pub private_key_passphrase_file: Option<PathBuf>,
}

impl Parameters {
    /// Reads such a file.
    ///
    /// # Errors
    ///
    /// `Invalid`, with file, line and key, for anything that is not as it must be, and `Unsupported` if a service in
    /// the network is to take part: Fulcio, or a Rekor log.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_file(path, CONFIGURATION)?
            .ok_or_else(|| Error::new(ErrorKind::Io, "no such file or directory"))
            .context(|| format!("reading `{}`", display(path)))?;
        Self::parse(&bytes, path)
    }

    /// Parses such a file. `path` names it in errors.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let yaml = YamlFile::new(path);
        let (mut key, mut passphrase) = (None, None);
        if let Some(document) = yaml.document(bytes)? {
            for entry in yaml.map(&Entry { key: String::new(), node: &document })? {
                match entry.name() {
                    "privateKeyFile" => key = yaml.text_if_any(&entry)?.map(PathBuf::from),
                    "privateKeyPassphraseFile" => passphrase = yaml.text_if_any(&entry)?.map(PathBuf::from),
                    "fulcio" | "rekorURL" if entry.node.is_null() => {}
                    "fulcio" => {
                        let error = Error::unsupported("this version asks no Fulcio for a certificate")
                            .hint("sign with a key of your own, or with cosign");
                        return Err(yaml.error(&entry, error));
                    }
                    "rekorURL" => {
                        let error = Error::unsupported("this version tells no Rekor log of its signatures")
                            .hint("leave it out, or sign with cosign");
                        return Err(yaml.error(&entry, error));
                    }
                    _ => {
                        let known = "its keys are privateKeyFile, privateKeyPassphraseFile, fulcio and rekorURL";
                        return Err(yaml.error(&entry, Error::invalid("the key is unknown").hint(known)));
                    }
                }
            }
        }
        let private_key_file = key.ok_or_else(|| {
            Error::invalid("`privateKeyFile` is missing").context(format!("reading `{}`", display(path)))
        })?;
        Ok(Self { private_key_file, private_key_passphrase_file: passphrase })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_passphrases_are_named() {
        let parse = |text: &str| Parameters::parse(text.as_bytes(), Path::new("/p.yaml"));
        let both = parse("privateKeyFile: /k\nprivateKeyPassphraseFile: \"/p q\"\n").expect("valid");
        assert_eq!(both.private_key_file, Path::new("/k"));
        assert_eq!(both.private_key_passphrase_file.as_deref(), Some(Path::new("/p q")));
        assert_eq!(parse("privateKeyFile: k\nrekorURL:\n").expect("valid").private_key_passphrase_file, None);
        for (text, kind, why) in [
            ("", ErrorKind::Invalid, "`privateKeyFile` is missing"),
            ("privateKeyFile:\n", ErrorKind::Invalid, "`privateKeyFile` is missing"),
            ("privateKeyFile: /k\nprivateKeyFile: /k\n", ErrorKind::Invalid, "/p.yaml:2"),
            ("privateKeyFile: [/k]\n", ErrorKind::Invalid, "it must be a text"),
            ("privatekeyfile: /k\n", ErrorKind::Invalid, "the key is unknown"),
            ("- /k\n", ErrorKind::Invalid, "it must be a map"),
            ("privateKeyFile: /k\nrekorURL: https://r.example\n", ErrorKind::Unsupported, "`rekorURL`"),
            ("fulcio:\n  fulcioURL: https://f.example\n", ErrorKind::Unsupported, "`fulcio`"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
