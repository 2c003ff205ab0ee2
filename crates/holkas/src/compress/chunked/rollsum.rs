//! The rolling checksum that says where contents are cut: the one of rsync and bup, over the last 64 bytes.

const WINDOW: usize = 64;
/// What is added to each byte, so that zeros count too.
const OFFSET: u32 = 31;
/// So many bits of the sum must be set: a chunk has 64 KiB on average.
const MASK: u32 = (1 << 16) - 1;

/// The checksum of the last bytes; before the first byte there are zeros.
#[derive(Debug)]
pub(super) struct RollSum {
    first: u32,
    second: u32,
    window: [u8; WINDOW],
    next: usize,
}

impl RollSum {
    pub(super) fn new() -> Self {
        let window = WINDOW as u32;
        Self { first: window * OFFSET, second: window * (window - 1) * OFFSET, window: [0; WINDOW], next: 0 }
    }

    /// Takes the next byte, and returns whether a chunk ends with it.
    #[inline]
    pub(super) fn roll(&mut self, byte: u8) -> bool {
        let gone = u32::from(std::mem::replace(&mut self.window[self.next], byte));
        self.next = (self.next + 1) % WINDOW;
        self.first = self.first.wrapping_add(u32::from(byte)).wrapping_sub(gone);
        self.second = self.second.wrapping_add(self.first).wrapping_sub(WINDOW as u32 * (gone + OFFSET));
        self.second & MASK == MASK
    }

    /// Takes as many zeros as fill the window: more of them change nothing.
    pub(super) fn roll_zeros(&mut self) {
        for _ in 0..WINDOW {
            self.roll(0);
        }
    }
}
