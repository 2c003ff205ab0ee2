//! osbuild's modules: sources and inputs as services on the host, stages in the sandbox.

mod stage;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::face::{Kind, Module};
use crate::report;

/// Runs as a module of osbuild, and returns its exit code.
pub(crate) fn run(module: &Module, _arguments: &[OsString]) -> ExitCode {
    match module.kind {
        Kind::Stage => stage::run(&module.name),
        Kind::Source | Kind::Input => ExitCode::from(report::FAILED),
    }
}
