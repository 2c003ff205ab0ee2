//! Help in the layout of Go's cobra, and the suggestions for a command that there is not.

use super::commands::{self, COMMANDS, Command};
use super::flags::{Flag, Kind};

/// What is said of all that holkas is in skopeo's place.
const ABOUT: &str = "Works with container images and registries (holkas in skopeo's place)";
const TRANSPORTS: &str = "containers-storage, dir, docker, docker-archive, oci, oci-archive";

/// Returns the help of the program.
pub(crate) fn root() -> String {
    let mut text = format!("{ABOUT}\n\nUsage:\n  skopeo [flags]\n  skopeo [command]\n\nAvailable Commands:\n");
    let mut shown: Vec<_> = COMMANDS.iter().filter(|command| is_shown(command)).collect();
    shown.sort_by_key(|command| command.name);
    for Command { name, about, .. } in shown {
        text += &format!("  {name:<22} {about}\n");
    }
    let flags = [commands::global(), commands::root(), vec![commands::help("skopeo")]].concat();
    text + &format!(
        "\nFlags:\n{}\nUse \"skopeo [command] --help\" for more information about a command.\n",
        list(flags)
    )
}

/// Returns the help of a command.
pub(crate) fn of(command: &Command) -> String {
    let Command { name, about, arguments, lacking, flags, .. } = command;
    let mut text = format!("{about}\n");
    if let Some(why) = lacking {
        text += &format!("Not supported: {why}.\n");
    }
    if ["copy", "delete", "inspect"].contains(name) {
        text += &format!("\nSupported transports:\n{TRANSPORTS}\n");
    }
    let mut flags = flags();
    flags.push(commands::help(name));
    text + &format!("\nUsage:\nskopeo {name} {arguments}\n\nFlags:\n{}\n", list(flags))
}

/// Returns whether the help names a command. Callers search it for what there is, so that it names nothing else.
fn is_shown(command: &Command) -> bool {
    !command.hidden && command.lacking.is_none()
}

/// Returns the flags in columns, by name; those that are lacking are not shown.
fn list(mut flags: Vec<Flag>) -> String {
    flags.retain(|flag| !flag.hidden && flag.lacking.is_none());
    flags.sort_by(|one, other| one.name.cmp(&other.name));
    let left = |flag: &Flag| {
        let short = flag.short.map_or_else(|| "    ".to_string(), |letter| format!("-{letter}, "));
        let value = if flag.kind == Kind::Bool { String::new() } else { format!(" {}", flag.value) };
        format!("  {short}--{}{value}", flag.name)
    };
    let width = flags.iter().map(|flag| left(flag).len()).max().unwrap_or_default();
    let line = |flag: &Flag| format!("{:<width$}   {}\n", left(flag), flag.usage);
    flags.iter().map(line).collect()
}

/// Returns the commands that may have been meant.
pub(crate) fn suggestions(typed: &str) -> Vec<&'static str> {
    let typed = typed.to_lowercase();
    let close = |name: &str| name.starts_with(&typed) || distance(&typed, name) <= 2;
    COMMANDS.iter().filter(|command| !command.hidden).map(|command| command.name).filter(|name| close(name)).collect()
}

/// Returns how many letters must be added, removed or replaced to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_commands_are_suggested() {
        assert_eq!(suggestions("insect"), ["inspect"]);
        assert_eq!(suggestions("log"), ["login", "logout"]);
        assert_eq!(suggestions("bogus"), Vec::<&str>::new());
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("a", "a")), (3, 3, 0));
    }

    #[test]
    fn every_flag_is_there_once() {
        for command in &COMMANDS {
            let mut names: Vec<_> = (command.flags)().iter().map(|flag| flag.name.to_string()).collect();
            names.extend(commands::global().iter().map(|flag| flag.name.to_string()));
            names.sort();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{}", command.name);
        }
    }
}
