//! skopeo's command line: its commands, messages and exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use holkas::progress::Cancel;

use crate::{proxy, report};

/// Runs what was typed after `skopeo`.
pub(crate) fn run(typed: &[OsString]) -> ExitCode {
    const PROXY: &str = "experimental-image-proxy";
    if !typed.iter().any(|word| word == PROXY) {
        return ExitCode::from(report::FAILED);
    }
    crate::open_many_files();
    let cancel = Cancel::default();
    let run =
        crate::stop_on_signals(&cancel).and_then(|()| proxy::run_typed(typed.iter().filter(|w| *w != PROXY), &cancel));
    match run {
        Ok(proxy::Typed::Wrong) => ExitCode::from(report::FAILED),
        result => report::report(result.map(drop), report::Form::Text),
    }
}
