//! Runs a program, with bounds on its time and on what it says.
//!
//! Who calls this says why there is no other way: credential helpers, and the GnuPG that holds a user's secret keys.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Context, Error, ErrorKind, Result, printable};
use crate::limits::Limit;

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long it may run.
    pub time: Duration,
    /// How much it may say.
    pub output: Limit,
}

/// What a program did.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, or the beginning of that.
    pub stderr: Vec<u8>,
}

/// Runs a program with this input, and returns what it said. What it leaves running is not waited for.
///
/// # Errors
///
/// `Io` if it cannot be started or takes too long; it is then killed.
pub fn run(command: &mut Command, input: &[u8], bounds: Bounds) -> Result<Answer> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = printable(command.get_program().as_encoded_bytes());
    let mut child = command.spawn().context(|| format!("starting `{program}`"))?;
    let talked = talk(&mut child, input, bounds);
    if talked.is_err() {
        // It may just have ended by itself.
        let _already_gone = child.kill();
    }
    let status = child.wait().map_err(Error::from)?;
    let (stdout, stderr) = talked?;
    Ok(Answer { status, stdout, stderr })
}

/// Gives a child its input and returns what it wrote, until it ends.
fn talk(child: &mut Child, input: &[u8], bounds: Bounds) -> Result<(Vec<u8>, Vec<u8>)> {
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context(|| "watching it")?;
    let mut input = input;
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take().map(OwnedFd::from);
    let mut stderr = child.stderr.take().map(OwnedFd::from);
    let ours = [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
    for fd in ours.into_iter().flatten() {
        rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK).context(|| "preparing its pipes")?;
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + bounds.time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::Io, format!("it did not end within {} seconds", bounds.time.as_secs())));
        }
        let ended = {
            let mut watched = vec![PollFd::new(&end, PollFlags::IN)];
            watched.extend(stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            watched.extend(stdout.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            watched.extend(stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut watched, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "waiting for it"),
            }
            !watched[0].revents().is_empty()
        };
        if let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(written) => input = &input[written..],
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
                // A program need not read what it does not need.
                Err(_closed) => input = &[],
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        pump(&mut stdout, &mut out, bounds.output)?;
        pump(&mut stderr, &mut err, bounds.output)?;
        bounds.output.check(out.len() as u64)?;
        err.truncate(bounds.output.bytes as usize);
        if ended {
            return Ok((out, err));
        }
    }
}

/// Reads what a pipe holds, and lets go of it at its end.
fn pump(pipe: &mut Option<OwnedFd>, into: &mut Vec<u8>, bound: Limit) -> Result<()> {
    let mut buffer = [0; 4096];
    // A bound, or a child that writes without end would keep us from looking at its time and size.
    for _ in 0..=bound.bytes / 4096 {
        let Some(fd) = pipe else { return Ok(()) };
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => *pipe = None,
            Ok(n) => into.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error).context(|| "reading what it says"),
        }
    }
    Ok(())
}
