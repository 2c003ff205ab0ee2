//! Platforms (`linux/arm64/v8`), and which entry of an index suits one.

use std::fmt;
use std::str::FromStr;

use super::{Descriptor, Index};
use crate::error::{Error, Result, printable};

/// What an image runs on, in Go's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// The operating system, such as `linux`.
    #[serde(default)]
    pub os: String,
    /// The processor architecture, such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The architecture's variant, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Returns the platform that this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: std::env::consts::OS.to_string(), architecture: architecture.to_string(), variant: None }
    }

    /// Returns the variants that may stand in for the wanted one, best first, as containers/image has them.
    fn acceptable_variants(&self) -> Vec<Option<&str>> {
        let wanted = self.variant.as_deref().filter(|v| !v.is_empty());
        match (self.architecture.as_str(), wanted) {
            ("arm64", None) => vec![Some("v8"), None],
            ("arm64", Some("v8")) => vec![Some("v8"), None],
            ("arm", wanted) => {
                let all = ["v8", "v7", "v6", "v5"];
                let from = wanted.map_or(Some(1), |w| all.iter().position(|v| *v == w));
                match from {
                    Some(from) => all[from..].iter().map(|v| Some(*v)).chain([None]).collect(),
                    None => vec![wanted],
                }
            }
            (_, None) => vec![None],
            (_, Some(wanted)) => vec![Some(wanted), None],
        }
    }

    /// Returns how well `other` suits, 0 being best, or `None` if it does not.
    fn rank(&self, other: &Platform) -> Option<usize> {
        if other.os != self.os || other.architecture != self.architecture {
            return None;
        }
        let variant = other.variant.as_deref().filter(|v| !v.is_empty());
        self.acceptable_variants().iter().position(|v| *v == variant)
    }

    /// Returns whether an image for `other` may stand in for this platform.
    pub fn accepts(&self, other: &Platform) -> bool {
        self.rank(other).is_some()
    }

    /// Returns the entry of `index` that suits this platform best.
    ///
    /// The rule is containers/image's: the best variant first; of equal ones zstd instances
    /// (annotation `io.github.containers.compression.zstd`) before others, then the earlier one.
    /// Entries without a platform come last. Other than containers/image, an entry that is an index
    /// itself is a choice like any other; the caller follows it.
    pub fn choose<'a>(&self, index: &'a Index) -> Result<&'a Descriptor> {
        const ZSTD: &str = "io.github.containers.compression.zstd";
        let zstd = |d: &Descriptor| d.annotations.as_ref().and_then(|a| a.get(ZSTD)).is_some_and(|v| v == "true");
        index
            .entries()
            .iter()
            .filter_map(|entry| {
                let rank = match &entry.platform {
                    Some(platform) => self.rank(platform)?,
                    None => usize::MAX,
                };
                Some(((rank, !zstd(entry)), entry))
            })
            .min_by_key(|(key, _)| *key)
            .map(|(_, entry)| entry)
            .ok_or_else(|| {
                let mut present: Vec<_> =
                    index.entries().iter().filter_map(|e| e.platform.as_ref()).map(Platform::to_string).collect();
                present.sort();
                present.dedup();
                Error::not_found(format!("no image for platform {self} in the manifest list"))
                    .hint(format!("the list has: {}", present.join(", ")))
            })
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split('/').collect();
        let fine = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(fine) {
            return Err(Error::invalid(format!("`{}` is not a platform", printable(text.as_bytes())))
                .hint("a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64"));
        }
        Ok(Self {
            os: parts[0].to_string(),
            architecture: parts[1].to_string(),
            variant: parts.get(2).map(|v| (*v).to_string()),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &str| printable(text.as_bytes());
        write!(f, "{}/{}", part(&self.os), part(&self.architecture))?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{}", part(variant)),
            _ => Ok(()),
        }
    }
}
