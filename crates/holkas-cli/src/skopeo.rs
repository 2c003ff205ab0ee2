//! skopeo's command line: its commands, messages and exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{proxy, report};

/// Runs what was typed after `skopeo`.
pub(crate) fn run(typed: &[OsString]) -> ExitCode {
    const PROXY: &str = "experimental-image-proxy";
    if !typed.iter().any(|word| word == PROXY) {
        return ExitCode::from(report::FAILED);
    }
    report::report(proxy::run_typed(typed.iter().filter(|word| *word != PROXY)), report::Form::Text)
}
