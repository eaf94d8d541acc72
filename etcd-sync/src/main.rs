//! The daemon and command line of etcd-sync.

fn main() {}
