//! Questions to whoever sits at the terminal, a password without echo among them.

use std::io::{IsTerminal, Write};

use holkas::error::{Context, Error, Result};
use holkas::limits::TYPED_SECRET;
use holkas::progress::Cancel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Whether what is typed can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    Shown,
    Hidden,
}

/// Asks on stderr and returns the line that was typed, without its end. `flag` is what would have made it unneeded.
pub(crate) fn ask(prompt: &str, flag: &str, echo: Echo, cancel: &Cancel) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::invalid("it was not given, and standard input is no terminal to ask at")
            .hint(format!("give it with {flag}")));
    }
    tell(prompt)?;
    let line = {
        let _hidden = (echo == Echo::Hidden).then(Hidden::begin).transpose()?;
        read_line(cancel)
    };
    if echo == Echo::Hidden {
        // The end of the line was not shown either.
        tell("\n")?;
    }
    line
}

fn tell(text: &str) -> Result<()> {
    let mut stderr = std::io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).context(|| "writing to the terminal")
}

/// Reads a line, looking now and then whether the user wants to stop: no signal interrupts a read.
fn read_line(cancel: &Cancel) -> Result<String> {
    let stdin = std::io::stdin();
    let frame = || "reading from the terminal";
    let mut line = Vec::new();
    loop {
        cancel.check()?;
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error).context(frame),
        }
        let mut byte = [0];
        match rustix::io::read(&stdin, &mut byte) {
            Ok(0) => return Err(Error::invalid("the input ended")).context(frame),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error).context(frame),
        }
        TYPED_SECRET.check(line.len() as u64)?;
    }
    String::from_utf8(line).map_err(|_| Error::invalid("what was typed is not UTF-8"))
}

/// The terminal without echo, until dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).context(|| "looking at the terminal")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).context(|| "turning the terminal's echo off")?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
