//! Constraints on versions, such as `>=1.2, <2 || ~3.1`, by which tags are chosen.
//!
//! The language is that of Masterminds/semver, which skopeo uses:
//! `,` or a space is "and", `||` is "or", `1.2 - 1.4` is a range with both ends, `x`, `X`, `*` or nothing stands for any.
//! A pre-release suits only a group of "and" that has one itself: `>1.0-0` asks for them, `>1.0` does not.

use std::cmp::Ordering;
use std::str::FromStr;

use crate::error::{Error, Result, printable};

/// The longest version that is one, as Masterminds has it.
const LONGEST: usize = 256;

/// A version, as tags have it: `v1.2`, `1.2.3-rc.1`. What is missing is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

/// Which versions are wanted.
#[derive(Debug, Clone)]
pub struct Constraint {
    /// One of them must hold: all terms of it.
    any: Vec<Vec<Term>>,
}

#[derive(Debug, Clone)]
struct Term {
    operator: Operator,
    version: Version,
    open: Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

/// From which number on a version says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Major,
    Minor,
    Patch,
    Nothing,
}

/// All spellings, the longer ones before those that they begin with.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("=", Operator::Equal),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

impl Version {
    /// Reads a tag; `None` if it is no version. Build metadata is left away.
    pub fn of_tag(tag: &str) -> Option<Self> {
        match parse_version(tag)? {
            (version, Open::Nothing) => Some(version),
            // Numbers may be missing in a tag, but no `x` stands for one.
            (version, _) if !has_wildcard(tag) => Some(version),
            _ => None,
        }
    }
}

/// Returns whether an `x` or `*` stands where numbers do.
fn has_wildcard(text: &str) -> bool {
    text.split(['-', '+']).next().is_some_and(|numbers| numbers.contains(['x', 'X', '*']))
}

/// Parses `[v]MAJOR[.MINOR[.PATCH]][-PRE][+BUILD]`, in which `x` may stand for a number.
fn parse_version(text: &str) -> Option<(Version, Open)> {
    if text.len() > LONGEST {
        return None;
    }
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (rest, pre) = rest.split_once('-').map_or((rest, None), |(rest, pre)| (rest, Some(pre)));
    let identifier = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !build.is_none_or(|build| build.split('.').all(identifier)) {
        return None;
    }
    let pre: Vec<String> = pre.map(|pre| pre.split('.').map(str::to_string).collect()).unwrap_or_default();
    let fine = |part: &String| identifier(part) && !(is_number(part) && part.len() > 1 && part.starts_with('0'));
    if !pre.iter().all(fine) {
        return None;
    }
    let parts: Vec<&str> = rest.strip_prefix('v').unwrap_or(rest).split('.').collect();
    let mut numbers = [0; 3];
    let mut known = parts.len();
    if parts.len() > numbers.len() {
        return None;
    }
    for (n, part) in parts.iter().enumerate() {
        match *part {
            "x" | "X" | "*" => known = known.min(n),
            "" => return None,
            digits if is_number(digits) => {
                let number = digits.parse().ok()?;
                // What follows an `x` says nothing any more.
                numbers[n] = if n < known { number } else { 0 };
            }
            _ => return None,
        }
    }
    let open = [Open::Major, Open::Minor, Open::Patch, Open::Nothing][known];
    Some((Version { numbers, pre }, open))
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let each = self.pre.iter().zip(&other.pre).map(|(one, other)| compare(one, other));
                each.fold(Ordering::Equal, Ordering::then).then(self.pre.len().cmp(&other.pre.len()))
            }
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two identifiers of pre-releases: numbers as numbers, which come before words.
fn compare(one: &str, other: &str) -> Ordering {
    let is_word = |text: &str| !text.bytes().all(|b| b.is_ascii_digit());
    let key = |text: &str| if is_word(text) { (true, 0) } else { (false, text.len()) };
    key(one).cmp(&key(other)).then_with(|| one.cmp(other))
}

impl Constraint {
    /// Returns whether a version is wanted.
    pub fn accepts(&self, version: &Version) -> bool {
        self.any.iter().any(|group| {
            let pre_releases = group.iter().any(|term| !term.version.pre.is_empty());
            group.iter().all(|term| term.accepts(version, pre_releases))
        })
    }
}

impl Term {
    fn accepts(&self, version: &Version, pre_releases: bool) -> bool {
        let own = &self.version;
        let [major, minor, patch] = own.numbers;
        let [that_major, that_minor, that_patch] = version.numbers;
        let exact = self.operator == Operator::NotEqual && self.open == Open::Nothing;
        if !version.pre.is_empty() && own.pre.is_empty() && !pre_releases && !exact {
            return false;
        }
        match self.operator {
            Operator::Equal if self.open == Open::Nothing => version == own,
            Operator::Equal | Operator::Tilde => {
                version >= own
                    && (own.numbers == [0; 3] && matches!(self.open, Open::Major | Open::Nothing)
                        || major == that_major && (minor == that_minor || self.open == Open::Minor))
            }
            Operator::NotEqual => match self.open {
                Open::Nothing => version != own,
                Open::Major => version.numbers != own.numbers || version.pre != own.pre,
                Open::Minor => major != that_major,
                Open::Patch => (major, minor) != (that_major, that_minor) || version.pre != own.pre,
            },
            Operator::Greater => match self.open {
                Open::Nothing | Open::Major => version > own,
                Open::Minor => that_major > major,
                Open::Patch => (that_major, that_minor) > (major, minor),
            },
            Operator::GreaterOrEqual => version >= own,
            Operator::Less => version < own,
            Operator::LessOrEqual => match self.open {
                Open::Nothing => version <= own,
                Open::Minor => that_major <= major,
                Open::Major | Open::Patch => (that_major, that_minor) <= (major, minor),
            },
            Operator::Caret => {
                version >= own
                    && match self.open {
                        // Masterminds's page says "any" for this; its code accepts 0.0.0 alone.
                        Open::Major => true,
                        Open::Minor => that_major == major,
                        Open::Patch | Open::Nothing if major > 0 => that_major == major,
                        Open::Patch => (that_major, that_minor) == (major, minor),
                        Open::Nothing if minor > 0 => (that_major, that_minor) == (major, minor),
                        Open::Nothing => (that_major, that_minor, that_patch) == (major, minor, patch),
                    }
            }
        }
    }
}

impl FromStr for Constraint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let group = |group: &str| {
            parse_group(group).ok_or_else(|| {
                Error::invalid(format!("`{}` is not a constraint on versions", printable(group.trim().as_bytes())))
                    .hint("a constraint is such as `>=1.2, <2`, `~1.4`, `^2`, `1.x` or `1.2 - 1.4`, several with || between them")
            })
        };
        Ok(Self { any: text.split("||").map(group).collect::<Result<_>>()? })
    }
}

fn parse_group(text: &str) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    let mut rest = text.trim();
    loop {
        let (operator, after) = OPERATORS
            .iter()
            .find_map(|(spelled, operator)| Some((Some(*operator), rest.strip_prefix(spelled)?)))
            .unwrap_or((None, rest));
        let (version, open, after) = take_version(after)?;
        // ` - ` between two versions, and neither with an operator.
        match after.trim_start().strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)) {
            Some(upper) if operator.is_none() && after.starts_with(char::is_whitespace) => {
                let (upper, upper_open, after) = take_version(upper)?;
                terms.push(Term { operator: Operator::GreaterOrEqual, version, open });
                terms.push(Term { operator: Operator::LessOrEqual, version: upper, open: upper_open });
                rest = after;
            }
            _ => {
                terms.push(Term { operator: operator.unwrap_or(Operator::Equal), version, open });
                rest = after;
            }
        }
        let next = rest.trim_start();
        if next.is_empty() {
            return Some(terms);
        }
        let after_comma = next.strip_prefix(',').map(str::trim_start);
        if after_comma.is_none() && next.len() == rest.len() {
            return None;
        }
        rest = after_comma.unwrap_or(next);
    }
}

/// Takes a version off the beginning of a text, and returns what follows it.
fn take_version(text: &str) -> Option<(Version, Open, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || ".*+-".contains(c))).unwrap_or(text.len());
    let (version, open) = parse_version(&text[..end])?;
    Some((version, open, &text[end..]))
}
