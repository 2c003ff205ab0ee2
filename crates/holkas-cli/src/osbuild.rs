//! osbuild's modules: sources and inputs as services on the host, stages in the sandbox.
//!
//! ```text
//! ../inherited   the socket that osbuild hands over
//!   jsoncomm     packets of JSON and descriptors on it
//!     service    calls, one after the other, until the socket is closed
//!       source   fetches into the store
//!       input    mounts what was fetched, or built, for a stage
//! stage          works on the tree, in the sandbox
//! modules        their names and meta.json files
//! ```

pub(crate) mod modules;

mod input;
mod jsoncomm;
mod mounts;
mod service;
mod source;
mod stage;
mod store_api;

use std::ffi::OsString;
use std::process::ExitCode;

use holkas::error::Error;

use crate::face::{Kind, Module};
use crate::report::{self, Form};

/// Runs as a module of osbuild, and returns its exit code.
pub(crate) fn run(module: &Module, arguments: &[OsString]) -> ExitCode {
    crate::open_many_files();
    let result = match module.kind {
        Kind::Source => source::run(&module.name, arguments),
        Kind::Input => input::run(&module.name, arguments),
        Kind::Stage => return stage::run(&module.name),
    };
    report::report(result, Form::Text)
}

/// Makes the error of a module whose place holkas cannot take.
fn unknown(kind: &str, name: &str) -> Error {
    Error::unsupported(format!("holkas is no {kind} `{name}`"))
        .hint("`holkas osbuild files` lists the modules whose place it takes")
}
