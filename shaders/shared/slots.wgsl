// The one test that everything is built from. Uses the stage's `codes`.

// A lane's number in the word that it shares with its neighbour.
fn of_lane(word: u32, lane: u32) -> u32 {
    return (word >> (lane % 2u * 16u)) & 0xffffu;
}

// How far the bucket of a row's code lies above `low`. The row starts at `row`; the subtraction wraps within 16 bits.
fn bucket_offset(row: u32, column: u32, low: u32) -> u32 {
    return ((codes[row + column] >> 16u) - low) & 0xffffu;
}
