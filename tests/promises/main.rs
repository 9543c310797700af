//! Every promise of the design, kept by real processes and real sockets.
