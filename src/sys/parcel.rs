//! Bytes that travel as a descriptor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Puts bytes into anonymous memory (`memfd_create(2)`).
pub(crate) fn pack<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"handover", MFdFlags::MFD_CLOEXEC)?);
    for part in parts {
        file.write_all(part)?;
    }
    Ok(file.into())
}

/// Reads such bytes from the first to the last.
///
/// # Errors
///
/// `InvalidData` when there are not `length` of them.
pub(crate) fn unpack(parcel: OwnedFd, length: u64) -> io::Result<Vec<u8>> {
    let file = File::from(parcel);
    let found = file.metadata()?.len();
    // Looked at first: the length is the peer's word, and memory is taken for it.
    if found != length {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes were announced, {found} came"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    // The offset is the sender's as well.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out() {
        let parcel = pack([&b"GET "[..], b"", b"/"]).expect("memory");
        assert_eq!(unpack(parcel, 5).expect("bytes"), b"GET /");
        let parcel = pack([&b"GET"[..]]).expect("memory");
        assert!(unpack(parcel, u64::MAX).is_err());
    }
}
