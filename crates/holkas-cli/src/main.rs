//! The program `holkas`: whose place it takes, signals, and the exit code. All else is decided elsewhere.
#![deny(unsafe_code)]

mod cli;
mod commands;
mod environment;
mod face;
mod gpg;
mod inherited;
mod osbuild;
mod output;
mod progress;
mod proxy;
mod quantities;
mod report;
mod seqpacket;
mod signing;
mod sigstore;
mod skopeo;
mod table;
mod terminal;
mod user_namespace;

use std::process::ExitCode;

use face::Face;
use holkas::progress::Cancel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match face::of(&arguments) {
        Face::Holkas => holkas(),
        Face::Skopeo(typed) => skopeo::run(typed),
        Face::Osbuild(module) => osbuild::run(&module, &arguments),
        Face::NamespaceHelper => user_namespace::help(&arguments),
    }
}

/// Runs as ourselves.
fn holkas() -> ExitCode {
    let typed = match cli::parse() {
        Ok(typed) => typed,
        Err(answered) => return answered,
    };
    let form = report::Form::of(typed.json());
    open_many_files();
    let cancel = Cancel::default();
    // Before there are threads.
    let result = user_namespace::enter(commands::store_use(&typed.command))
        .and_then(|()| stop_on_signals(&cancel))
        .and_then(|()| commands::run(typed, &cancel));
    report::report(result.map_err(user_namespace::explain), form)
}

/// Takes as many open files as the administrator allows: 1024, the usual, are for who uses `select`.
pub(crate) fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is not allowed, what there is must do.
    let _as_before = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Makes the first signal stop the run in an orderly way, so that staged files are removed, and the second kill it.
pub(crate) fn stop_on_signals(cancel: &Cancel) -> holkas::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            cancel.cancel();
        }
        if arrived.next().is_some() {
            std::process::exit(report::CANCELLED.into());
        }
    });
    Ok(())
}
