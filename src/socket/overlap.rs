//! Which addresses keep others from being bound.

use std::net::{IpAddr, SocketAddr};

use super::address::Address;

/// A bound address, or one to be bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) address: SocketAddr,
    /// Does an IPv6 wildcard leave IPv4 alone?
    pub(super) only_v6: bool,
}

impl Claim {
    /// Does a connection to some address belong to both?
    pub(super) fn overlaps(self, other: Self) -> bool {
        let (a, b) = (plain(self.address), plain(other.address));
        if a.port() != b.port() {
            return false;
        }
        match (a.ip(), b.ip()) {
            (IpAddr::V4(x), IpAddr::V4(y)) => x == y || x.is_unspecified() || y.is_unspecified(),
            // With their scopes: a link-local address is another one on another link.
            (IpAddr::V6(x), IpAddr::V6(y)) => a == b || x.is_unspecified() || y.is_unspecified(),
            (IpAddr::V6(x), IpAddr::V4(_)) => x.is_unspecified() && !self.only_v6,
            (IpAddr::V4(_), IpAddr::V6(y)) => y.is_unspecified() && !other.only_v6,
        }
    }
}

/// The address under which equal ones are found.
pub(super) fn canonical(address: &Address) -> Address {
    match address {
        Address::Inet(inet) => Address::Inet(plain(*inet)),
        other => other.clone(),
    }
}

/// An IPv4 address that is written as an IPv6 one is an IPv4 address.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(address: &str, only_v6: bool) -> Claim {
        Claim {
            address: address.parse().unwrap(),
            only_v6,
        }
    }

    #[test]
    fn wildcards_overlap_what_they_cover() {
        let table = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:80", "0.0.0.0:80", true),
            ("[fe80::1%1]:80", "[fe80::1%2]:80", false),
        ];
        for (a, b, overlap) in table {
            assert_eq!(
                claim(a, false).overlaps(claim(b, false)),
                overlap,
                "{a} {b}"
            );
            assert_eq!(
                claim(b, false).overlaps(claim(a, false)),
                overlap,
                "{b} {a}"
            );
        }
    }

    #[test]
    fn only_v6_leaves_v4_alone() {
        assert!(!claim("[::]:80", true).overlaps(claim("0.0.0.0:80", false)));
        assert!(!claim("127.0.0.1:80", false).overlaps(claim("[::]:80", true)));
        assert!(claim("[::]:80", true).overlaps(claim("[::1]:80", false)));
    }

    proptest! {
        #[test]
        fn overlapping_is_mutual(a: SocketAddr, b: SocketAddr, x: bool, y: bool) {
            let (a, b) = (Claim { address: a, only_v6: x }, Claim { address: b, only_v6: y });
            prop_assert_eq!(a.overlaps(b), b.overlaps(a));
            prop_assert!(a.overlaps(a));
        }
    }
}
