//! skopeo's command line: its commands, messages and exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::report;

/// Runs what was typed after `skopeo`.
pub(crate) fn run(_typed: &[OsString]) -> ExitCode {
    ExitCode::from(report::FAILED)
}
