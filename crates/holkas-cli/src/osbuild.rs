//! osbuild's modules: sources and inputs as services on the host, stages in the sandbox.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::face::Module;
use crate::report;

/// Runs as a module of osbuild, and returns its exit code.
pub(crate) fn run(_module: &Module, _arguments: &[OsString]) -> ExitCode {
    ExitCode::from(report::FAILED)
}
