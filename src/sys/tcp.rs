//! What the kernel says of a TCP socket.

use std::os::fd::{AsFd, AsRawFd};

/// Whether it is a TCP socket (multipath TCP among them) and listens: one question for two answers,
/// because ten thousand sockets are asked while a successor starts.
pub(crate) fn is_listener(socket: &impl AsFd) -> bool {
    // `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTEN: u8 = 10;

    let number = socket.as_fd().as_raw_fd();
    // The first byte of what `TCP_INFO` gives (`tcp(7)`).
    let mut state = 0_u8;
    let mut length: libc::socklen_t = 1;
    // SAFETY: both pointers are to values that outlive the call. The kernel writes as many bytes as
    // `length` says, one; were it larger than `state`, it would write past it.
    let answer = unsafe {
        libc::getsockopt(
            number,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    };
    answer == 0 && state == LISTEN
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_tcp_socket_that_listens_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let connection = TcpStream::connect(address).expect("room");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let directory = tempfile::tempdir().expect("a directory");
        let unix = UnixListener::bind(directory.path().join("socket")).expect("a path");
        assert!(is_listener(&listener));
        assert!(!is_listener(&connection) && !is_listener(&datagrams) && !is_listener(&unix));
        assert!(!is_listener(&std::io::stdin()));
    }
}
