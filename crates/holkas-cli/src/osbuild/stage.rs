//! The frame of a stage: arguments from a file, work on the tree, ASCII on stdout and stderr, and the exit status.
//!
//! osbuild decodes what a stage writes as UTF-8, in chunks whose borders fall anywhere, and gives up the whole build
//! if a character lies across one. So nothing but ASCII is written.
//! Signals are not caught: what is staged in the tree has `.unverified-*` names, and osbuild throws the tree away.

mod arguments;
mod container_deploy;
mod images;
mod oci_archive;
mod skopeo;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use holkas::error::{Context, Error, Result, printable};
use holkas::progress::{Event, Monitor};

use crate::report;
use arguments::Arguments;

/// Runs as the stage of this name, and returns its exit code.
pub(crate) fn run(name: &str) -> ExitCode {
    crate::open_many_files();
    let frame = || format!("stage {}", printable(name.as_bytes()));
    report::report_ascii(Arguments::read().and_then(|arguments| stage(name, &arguments)).context(frame))
}

fn stage(name: &str, arguments: &Arguments) -> Result<()> {
    match name {
        "org.osbuild.skopeo" => skopeo::run(arguments),
        "org.osbuild.oci-archive" => oci_archive::run(arguments),
        "org.osbuild.container-deploy" => container_deploy::run(arguments),
        _ => Err(Error::unsupported("holkas is no stage of this name")
            .hint("the stages are org.osbuild.skopeo, org.osbuild.oci-archive and org.osbuild.container-deploy")),
    }
}

/// Writes one line on stdout, which osbuild keeps as the stage's output.
fn say(line: &str) {
    // The tree and the exit status are the result. Without a reader, the line is for nobody.
    let _nobody_left = writeln!(std::io::stdout().lock(), "{}", report::ascii(line));
}

/// Tells warnings, and nothing else: osbuild keeps all that a stage says.
struct Warnings;

impl Monitor for Warnings {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { text } = event {
            say(&format!("warning: {text}"));
        }
    }
}

/// Returns the monitor of a stage.
fn monitor() -> Arc<dyn Monitor> {
    Arc::new(Warnings)
}
