//! An archive as a file that can be read from any position, whatever it comes as.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use crate::compress::{Compression, Decoder};
use crate::error::{Context, Error, Result};
use crate::fs;
use crate::layout::blob;
use crate::limits::ARCHIVE_SPOOL;

/// Where archives are unpacked that cannot be read in place: as in skopeo, not `/tmp`, which is often in memory.
pub const SCRATCH: &str = "/var/tmp";

/// Opens an archive. What is compressed, or comes through a pipe, is written to a file without a name in `scratch`.
pub(crate) fn open(path: &Path, scratch: &Path) -> Result<Arc<File>> {
    if is_piped(path) {
        let pipe = File::open(path).context(|| format!("opening `{}`", fs::display(path)))?;
        let (_, decoder) = Decoder::new(pipe)?;
        return spool(decoder, scratch);
    }
    if !path.exists() {
        return Err(Error::not_found("no such file").context(format!("opening `{}`", fs::display(path))));
    }
    let mut file = fs::open_file(path)?;
    let (compression, decoder) = Decoder::new(file.try_clone().map_err(Error::from)?)?;
    if compression != Compression::None {
        return spool(decoder, scratch);
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::from)?;
    Ok(Arc::new(file))
}

/// Returns whether a path is a descriptor of our own that is a pipe or socket. A FIFO with a name is not: it could block.
fn is_piped(path: &Path) -> bool {
    let ours = path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd");
    ours && std::fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo() || m.file_type().is_socket())
}

fn spool(mut decoder: Decoder<File>, scratch: &Path) -> Result<Arc<File>> {
    let frame = || format!("unpacking the archive into a temporary file in `{}`", fs::display(scratch));
    let mut file = fs::Dir::open(scratch).and_then(|dir| dir.unnamed_file()).context(frame)?;
    let mut bounded = std::io::Read::take(&mut decoder, ARCHIVE_SPOOL.bytes + 1);
    let copied = blob::copy(&mut bounded, &mut file).context(frame)?;
    ARCHIVE_SPOOL.check(copied).context(frame)?;
    decoder.finish().context(frame)?;
    Ok(Arc::new(file))
}
