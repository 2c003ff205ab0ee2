//! Flags as Go's pflag reads them: `--name=value`, `--name value`, `-nvalue`, booleans that may be given a value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use holkas::error::{Error, Result, printable};

use crate::cli::registry;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or a boolean after `=`.
    Bool,
    /// Any text. The last one holds.
    Text,
    /// Any text, several by `,` or by repetition.
    Texts,
    /// A whole number.
    Int,
    /// A duration as Go writes it.
    Duration,
}

/// A flag of a command.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub(crate) name: Cow<'static, str>,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// What the help calls its value.
    pub(crate) value: &'static str,
    pub(crate) usage: &'static str,
    /// Not shown by the help.
    pub(crate) hidden: bool,
    /// What it would be for, if holkas cannot do it: then it is refused, by its name.
    pub(crate) lacking: Option<&'static str>,
}

/// The flags that were given, each with its values in their order.
#[derive(Debug, Default)]
pub(crate) struct Given(BTreeMap<String, Vec<OsString>>);

impl Given {
    /// Returns whether a flag was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the names of all flags that were given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the last value as it was given.
    pub(crate) fn value(&self, name: &str) -> Option<OsString> {
        self.0.get(name)?.last().cloned()
    }

    /// Returns the last value, if it is not empty: for flags whose default is the empty text.
    pub(crate) fn filled(&self, name: &str) -> Option<OsString> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Returns the last value as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// Returns all values, cut at commas.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let all = self.0.get(name).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        all.flat_map(|value| value.split(',').map(str::to_string).collect::<Vec<_>>()).collect()
    }

    /// Returns a boolean, if the flag was given.
    pub(crate) fn choice(&self, name: &str) -> Option<bool> {
        self.text(name).and_then(|value| boolean(&value))
    }

    /// Returns whether a boolean flag is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.choice(name).unwrap_or_default()
    }

    /// Returns a whole number.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| value.parse().ok())
    }

    /// Returns a duration; one that is not more than nothing is none.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        let value = self.text(name)?;
        duration(&value).ok().filter(|duration| !duration.is_zero())
    }

    /// Forgets a flag.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Takes over what another has.
    pub(crate) fn extend(&mut self, other: Self) {
        for (name, mut values) in other.0 {
            self.0.entry(name).or_default().append(&mut values);
        }
    }
}

/// Reads flags from the front of `arguments`, and returns them with the rest.
pub(crate) fn leading(flags: &[Flag], arguments: &[OsString]) -> Result<(Given, Vec<OsString>)> {
    read(flags, arguments, false)
}

/// Reads flags from wherever they are among the arguments, and returns them with the other arguments.
pub(crate) fn all(flags: &[Flag], arguments: &[OsString]) -> Result<(Given, Vec<OsString>)> {
    read(flags, arguments, true)
}

fn read(flags: &[Flag], arguments: &[OsString], everywhere: bool) -> Result<(Given, Vec<OsString>)> {
    let mut given = Given::default();
    let mut others = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let bytes = argument.as_bytes();
        if bytes == b"--" {
            others.extend(rest.cloned());
            break;
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            read_long(flags, long, &mut rest, &mut given)?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            read_short(flags, &argument.to_string_lossy()[1..], &mut rest, &mut given)?;
        } else if everywhere {
            others.push(argument.clone());
        } else {
            others.push(argument.clone());
            others.extend(rest.cloned());
            break;
        }
    }
    Ok((given, others))
}

fn read_long<'a>(
    flags: &[Flag],
    long: &[u8],
    rest: &mut impl Iterator<Item = &'a OsString>,
    given: &mut Given,
) -> Result<()> {
    let shown = || format!("--{}", printable(long));
    let (name, value) = match long.iter().position(|byte| *byte == b'=') {
        Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]).to_os_string())),
        None => (long, None),
    };
    if name.is_empty() || name[0] == b'-' {
        return Err(Error::invalid(format!("bad flag syntax: {}", shown())));
    }
    let name = printable(name);
    let flag = flags.iter().find(|flag| flag.name == name);
    let flag = flag.ok_or_else(|| Error::invalid(format!("unknown flag: --{name}")))?;
    let value = match value {
        Some(value) => value,
        None if flag.kind == Kind::Bool => "true".into(),
        None => rest.next().ok_or_else(|| Error::invalid(format!("flag needs an argument: {}", shown())))?.clone(),
    };
    set(flag, value, given)
}

fn read_short<'a>(
    flags: &[Flag],
    letters: &str,
    rest: &mut impl Iterator<Item = &'a OsString>,
    given: &mut Given,
) -> Result<()> {
    let mut left = letters;
    while let Some(letter) = left.chars().next() {
        left = &left[letter.len_utf8()..];
        let flag = flags.iter().find(|flag| flag.short == Some(letter));
        let flag = flag.ok_or_else(|| Error::invalid(format!("unknown shorthand flag: '{letter}' in -{letters}")))?;
        let attached = left.strip_prefix('=').or_else(|| Some(left).filter(|_| flag.kind != Kind::Bool));
        let value = match attached {
            Some(value) if !value.is_empty() || left.starts_with('=') => {
                let value = OsString::from_vec(value.as_bytes().to_vec());
                left = "";
                value
            }
            _ if flag.kind == Kind::Bool => "true".into(),
            _ => rest
                .next()
                .ok_or_else(|| Error::invalid(format!("flag needs an argument: '{letter}' in -{letters}")))?
                .clone(),
        };
        set(flag, value, given)?;
    }
    Ok(())
}

fn set(flag: &Flag, value: OsString, given: &mut Given) -> Result<()> {
    let text = value.to_string_lossy();
    let number = |text: &str| text.parse::<i64>().map(drop).map_err(|_| parse_error("ParseInt", text));
    let checked = match flag.kind {
        Kind::Text | Kind::Texts => Ok(()),
        Kind::Bool => boolean(&text).map(drop).ok_or_else(|| parse_error("ParseBool", &text)),
        Kind::Int => number(&text),
        Kind::Duration => duration(&text).map(drop),
    };
    checked.map_err(|why| {
        let name = match flag.short {
            Some(short) => format!("-{short}, --{}", flag.name),
            None => format!("--{}", flag.name),
        };
        Error::invalid(format!("invalid argument {} for \"{name}\" flag: {why}", super::log::quoted(&text)))
    })?;
    given.0.entry(flag.name.to_string()).or_default().push(value);
    Ok(())
}

/// Says as Go's strconv does that a text is none of what it should be.
fn parse_error(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {}: invalid syntax", super::log::quoted(text))
}

/// Reads a boolean as Go does.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a duration as Go does: every number has a unit, but for `0`. What is less than nothing is nothing here.
fn duration(text: &str) -> Result<Duration, String> {
    let (negative, whole) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let quoted = super::log::quoted(text);
    if whole != "0" && !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("time: missing unit in duration {quoted}"));
    }
    // Go writes the sign of micro in two ways.
    let ascii = whole.replace(['µ', 'μ'], "u");
    let read = registry::duration(&ascii).map_err(|_| format!("time: invalid duration {quoted}"))?;
    Ok(if negative { Duration::ZERO } else { read })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &'static str, short: Option<char>, kind: Kind) -> Flag {
        Flag { name: name.into(), short, kind, value: "", usage: "", hidden: false, lacking: None }
    }

    fn parse(arguments: &[&str]) -> Result<(Given, Vec<String>)> {
        let flags = [
            flag("all", Some('a'), Kind::Bool),
            flag("quiet", Some('q'), Kind::Bool),
            flag("format", Some('f'), Kind::Text),
            flag("tag", None, Kind::Texts),
            flag("times", None, Kind::Int),
            flag("delay", None, Kind::Duration),
        ];
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let (given, others) = all(&flags, &arguments)?;
        Ok((given, others.into_iter().map(|other| other.into_string().expect("text")).collect()))
    }

    #[test]
    fn flags_are_read_as_pflag_reads_them() {
        let (given, others) = parse(&[
            "x",
            "-aq=false",
            "--format",
            "oci",
            "y",
            "--tag=a,b",
            "--tag",
            "c",
            "--times=3",
            "--delay=1m30s",
            "-",
            "--",
            "--all",
        ])
        .expect("they are fine");
        assert_eq!(others, ["x", "y", "-", "--all"]);
        assert!(given.on("all") && given.has("quiet") && !given.on("quiet"));
        assert_eq!(given.text("format").as_deref(), Some("oci"));
        assert_eq!(given.texts("tag"), ["a", "b", "c"]);
        assert_eq!((given.int("times"), given.duration("delay")), (Some(3), Some(Duration::from_secs(90))));
        for arguments in [&["-foci"], &["-f=oci"], &["--format=oci"]] {
            assert_eq!(parse(arguments).expect("fine").0.text("format").as_deref(), Some("oci"), "{arguments:?}");
        }
        // A value is taken whatever it looks like; the last one holds.
        assert_eq!(parse(&["--format", "--all", "-f", ""]).expect("fine").0.text("format").as_deref(), Some(""));
        assert_eq!(parse(&["--delay=-1s"]).expect("fine").0.duration("delay"), None);
        assert_eq!(parse(&["--delay=0"]).expect("fine").0.duration("delay"), None);
    }

    #[test]
    fn mistakes_are_told_as_pflag_tells_them() {
        for (arguments, text) in [
            (&["--nope=1"][..], "unknown flag: --nope"),
            (&["-aZ"], "unknown shorthand flag: 'Z' in -aZ"),
            (&["--format"], "flag needs an argument: --format"),
            (&["-af"], "flag needs an argument: 'f' in -af"),
            (&["---all"], "bad flag syntax: ---all"),
            (&["--=x"], "bad flag syntax: --=x"),
            (
                &["--all=maybe"],
                "invalid argument \"maybe\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                &["--times", "x"],
                "invalid argument \"x\" for \"--times\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (&["--delay=5"], "invalid argument \"5\" for \"--delay\" flag: time: missing unit in duration \"5\""),
            (&["--delay=x"], "invalid argument \"x\" for \"--delay\" flag: time: invalid duration \"x\""),
        ] {
            assert_eq!(parse(arguments).expect_err("a mistake").to_string(), text, "{arguments:?}");
        }
    }
}
