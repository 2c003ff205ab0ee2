//! How the tests run the program: alone, with nothing of the caller's environment.

use std::ffi::OsStr;
use std::process::Command;

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Returns the program, with an environment in which nothing is configured.
pub(crate) fn holkas() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holkas"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
    // Where no directory can be made: a test that wants a cache names one.
    command.env("XDG_CACHE_HOME", "/dev/null");
    command
}

/// Runs the program.
pub(crate) fn run(arguments: &[impl AsRef<OsStr>]) -> Output {
    finish(holkas().args(arguments))
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the program runs");
    Output {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
