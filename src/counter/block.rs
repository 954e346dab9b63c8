//! Memory for many counters: two megabytes that the system is asked to keep in one page.
//!
//! A hit on a counter that is not in the cache waits for its memory, and with pages of four kilobytes also for the tables
//! that say where the page is: those of a million counters fill a quarter of the cache that counters want. In large pages
//! the median decision of a million counters takes two thirds, measured; where the system gives none, nothing changes but
//! that.

use memmap2::Advice;
use memmap2::MmapMut;
use zerocopy::FromBytes;

use crate::counter::line::Line;

const PAGE_LEN: usize = 2 << 20;

/// Lines of a block.
pub(crate) const BLOCK: usize = PAGE_LEN / size_of::<Line>();

/// A block of free lines. It is never given back, as a node has one table for as long as it runs; that way it needs no
/// `unsafe`. `None`: there is no memory.
pub(crate) fn block() -> Option<&'static [Line]> {
    // A page of this size lies at a multiple of it: older systems start a mapping anywhere.
    let map = MmapMut::map_anon(2 * PAGE_LEN).ok()?;
    // Refused where the system knows no large pages.
    let _ = map.advise(Advice::HugePage);
    let bytes: &'static mut MmapMut = Box::leak(Box::new(map));
    let before = bytes.as_ptr().align_offset(PAGE_LEN);
    let page = bytes.get_mut(before..before + PAGE_LEN)?;
    <[Line]>::mut_from_bytes(page).ok().map(|lines| &*lines)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_one_page_of_free_lines() {
        let lines = block().unwrap();
        assert_eq!((lines.len(), lines.as_ptr().addr() % PAGE_LEN), (BLOCK, 0));
        assert!(lines.iter().all(|line| line.key() == 0));
    }
}
