//! What the kernel says of a descriptor.
