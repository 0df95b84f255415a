// The one test that everything is built from. Uses the stage's `codes`.

// Whether both slots of a lane hold for the row of codes that starts at `at`. The subtraction wraps.
fn slots_hold(columns: u32, low: vec2<u32>, span: vec2<u32>, at: u32) -> bool {
    let code = vec2(codes[at + (columns & 0xffffu)], codes[at + (columns >> 16u)]);
    return all(code - low <= span);
}
