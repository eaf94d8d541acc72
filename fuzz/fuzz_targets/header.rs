//! No plain bytes make the header's decoders panic, overflow the stack or allocate without bound.
#![no_main]

use etcd_sync_core::object::header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|plain: &[u8]| {
    let _ = header(plain);
});
