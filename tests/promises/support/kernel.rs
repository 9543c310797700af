//! What the kernel says of a generation.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use handover_tests::{Identity, Process};

/// The inodes of all sockets that listen, as far as the kernel's tables name them.
pub(crate) fn listening_inodes(identity: Identity) -> BTreeSet<u64> {
    let ours = socket_inodes(identity);
    let mut listening = BTreeSet::new();
    for (table, column, state, inode) in [
        ("tcp", 3, "0A", 9),
        ("tcp6", 3, "0A", 9),
        ("unix", 3, "00010000", 6),
    ] {
        let text = fs::read_to_string(format!("/proc/{}/net/{table}", identity.pid));
        for line in text.expect("/proc can be read").lines() {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let number = fields.get(inode).and_then(|inode| inode.parse().ok());
            if fields.get(column) == Some(&state) {
                listening.extend(number.filter(|number| ours.contains(number)));
            }
        }
    }
    listening
}

/// The inodes of all its sockets.
pub(crate) fn socket_inodes(identity: Identity) -> BTreeSet<u64> {
    let process = Process::open(identity.pid).expect("it serves");
    let descriptors = process.descriptors().expect("it serves");
    descriptors
        .iter()
        .filter_map(|descriptor| descriptor.socket_inode())
        .collect()
}

/// The targets of the three standard streams.
pub(crate) fn streams(identity: Identity) -> [PathBuf; 3] {
    [0, 1, 2].map(|number| {
        fs::read_link(format!("/proc/{}/fd/{number}", identity.pid)).expect("it serves")
    })
}
