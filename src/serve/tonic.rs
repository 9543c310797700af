//! Floor 6: what tonic wants to know of a connection.

use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::net::conn::Conn;

/// The addresses as tonic's own listener tells them, so that `Request::remote_addr` and
/// `Request::local_addr` have them; a Unix socket has none.
impl Connected for Conn {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.local_addr(),
            remote_addr: self.peer().socket_addr(),
        }
    }
}
