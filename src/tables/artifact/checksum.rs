//! BLAKE3 of several long inputs at once, on all cores.

use crate::parallel::map_in_order;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes that one thread hashes at a time: a power of two, so that every piece but the last is a whole subtree of the hash.
const PIECE: usize = 1 << 20;

/// More threads would wait for memory.
const THREADS_MAX: usize = 8;

/// The BLAKE3 hash of each input.
pub fn hashes(inputs: &[&[u8]]) -> Vec<[u8; 32]> {
    let pieces = || inputs.iter().flat_map(|input| input.chunks(PIECE).enumerate().filter(|_| input.len() > PIECE));
    let mut values: Vec<ChainingValue> = Vec::new();
    if pieces().next().is_some() {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX);
        map_in_order(pieces(), threads, piece_value, |value| {
            values.push(value);
            true
        });
    }
    let mut rest = values.as_slice();
    let hash = |input: &&[u8]| {
        if input.len() <= PIECE {
            return *blake3::hash(input).as_bytes();
        }
        let own;
        (own, rest) = rest.split_at(input.len().div_ceil(PIECE));
        let (left, right) = halves(own);
        *merge_subtrees_root(&merged(left), &merged(right), Mode::Hash).as_bytes()
    };
    inputs.iter().map(hash).collect()
}

fn piece_value((position, piece): (usize, &[u8])) -> ChainingValue {
    blake3::Hasher::new().set_input_offset((position * PIECE) as u64).update(piece).finalize_non_root()
}

/// The value of a subtree of these pieces.
fn merged(pieces: &[ChainingValue]) -> ChainingValue {
    if let [only] = pieces {
        return *only;
    }
    let (left, right) = halves(pieces);
    merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
}

/// The left subtree has the largest power of two of pieces that leaves some for the right.
fn halves(pieces: &[ChainingValue]) -> (&[ChainingValue], &[ChainingValue]) {
    pieces.split_at(pieces.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_hash_of_the_whole() {
        let bytes: Vec<u8> = (0..PIECE * 5 + 1).map(|at| (at * 7919 % 251) as u8).collect();
        let lengths = [0, 1, PIECE - 1, PIECE, PIECE + 1, PIECE * 2, PIECE * 2 + 1, PIECE * 3, PIECE * 4, PIECE * 5 + 1];
        let inputs: Vec<&[u8]> = lengths.iter().map(|length| &bytes[..*length]).collect();
        let expected: Vec<[u8; 32]> = inputs.iter().map(|input| *blake3::hash(input).as_bytes()).collect();
        assert_eq!(hashes(&inputs), expected);
    }
}
