//! The only crate of etcd-sync that talks to etcd.
