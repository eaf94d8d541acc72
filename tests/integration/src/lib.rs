//! Harness: real etcds and the real program, each in its own folder on free loopback ports.
