//! Questions to the kernel that have no safe interface elsewhere. They change nothing.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Opens and closes an `io_uring` of `entries`. The error says whether the kernel has none, or does not allow it.
pub fn try_io_uring(entries: u32) -> io::Result<()> {
    // The kernel's `io_uring_params`: 120 bytes, of which zeros are a request for the defaults.
    let mut parameters = [0_u64; 15];
    // SAFETY: the parameters have the size that the kernel reads and writes.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, parameters.as_mut_ptr()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).expect("descriptors are small");
    // SAFETY: the descriptor was made by the call above and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}

/// Whether something keeps the kernel's clock in step with the world's, such as NTP. `None` where the kernel does not say.
pub fn is_clock_synchronised() -> Option<bool> {
    // SAFETY: the structure is made of integers, for which zeros are values; `modes` of zero asks and sets nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of the kernel's own layout, alive for the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_no_entries_is_refused_and_one_of_a_few_is_not() {
        let error = try_io_uring(0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        try_io_uring(8).unwrap();
    }

    #[test]
    fn asking_for_the_clock_leaves_it_as_it_is() {
        assert_eq!(is_clock_synchronised(), is_clock_synchronised());
    }
}
