// Appending to a buffer that every workgroup shares. Uses the stage's `counters`.

var<workgroup> bump_entries: atomic<u32>;
var<workgroup> bump_base: u32;

// Where this invocation's `entries` entries go: one atomic on the shared counter a workgroup. The counter keeps counting past
// the buffer's end, so that the host learns how much room was missing; the caller does not write there.
// Every invocation of the workgroup calls this, in uniform control flow.
fn bump(counter: u32, entries: u32, local: u32) -> u32 {
    var place = 0u;
    if entries > 0u {
        place = atomicAdd(&bump_entries, entries);
    }
    workgroupBarrier();
    if local == 0u {
        let all = atomicExchange(&bump_entries, 0u);
        if all > 0u {
            bump_base = atomicAdd(&counters[counter], all);
        }
    }
    workgroupBarrier();
    return bump_base + place;
}
