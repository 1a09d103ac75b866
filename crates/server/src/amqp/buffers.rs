//! Buffers that belong to the thread, not to the connection, so that an idle connection holds none.

use std::cell::RefCell;

/// Bytes read at once. Large enough to make the system call cheap, small enough to stay in the second-level cache.
pub(super) const READ: usize = 256 * 1024;

/// Buffers with more capacity than this are freed instead of kept.
const KEEP: usize = 2 * 1024 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's read buffer: `old` at its beginning, room for [`READ`] bytes behind. What is there is whatever
/// was left, so that nothing is cleared only to be overwritten.
pub(super) fn take_input(old: &[u8]) -> Vec<u8> {
    let mut buffer = INPUT.with_borrow_mut(std::mem::take);
    if buffer.len() < old.len() + READ {
        buffer.resize(old.len() + READ, 0);
    }
    buffer[..old.len()].copy_from_slice(old);
    buffer
}

/// Gives the read buffer back.
pub(super) fn return_input(buffer: Vec<u8>) {
    if buffer.capacity() <= KEEP {
        INPUT.with_borrow_mut(|own| *own = buffer);
    }
}

/// Lends an empty write buffer.
pub(super) fn take_output() -> Vec<u8> {
    OUTPUT.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a write buffer back; its contents are dropped.
pub(super) fn return_output(mut buffer: Vec<u8>) {
    if buffer.capacity() > 0 && buffer.capacity() <= KEEP {
        buffer.clear();
        OUTPUT.with_borrow_mut(|own| {
            if own.len() < 2 {
                own.push(buffer);
            }
        });
    }
}
