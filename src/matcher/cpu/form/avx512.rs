//! With 512-bit registers a slot's lanes are tested at once, each fetching its own column from the event's buckets by a permutation (up to 128 columns) or
//! a gather.

use super::{Bitmap, BucketLine, Form, LANES, Pair, SlotLanes, Stage};
use std::arch::x86_64::*;

/// Whether each lane's bucket lies in its range.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn holds(slot: &SlotLanes, buckets: __m512i) -> u32 {
    // SAFETY: each array has thirty-two `u16`, which is what a 512-bit load reads.
    let (low, span) = unsafe { (_mm512_loadu_si512(slot.low.as_ptr().cast()), _mm512_loadu_si512(slot.span.as_ptr().cast())) };
    _mm512_cmple_epu16_mask(_mm512_sub_epi16(buckets, low), span)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn columns(slot: &SlotLanes) -> __m512i {
    // SAFETY: as above.
    unsafe { _mm512_loadu_si512(slot.columns.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &BucketLine) -> __m512i {
    // SAFETY: a line is what a 512-bit load reads.
    unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) }
}

/// Appends a pair of each of the first eight numbers of `lanes`, by `value` from a register of lane numbers (64 bits each), and so on for the next eight.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn append(lanes: u32, row: u32, pairs: &mut Vec<Pair>, value: impl Fn(__m512i) -> __m512i) {
    #[rustfmt::skip]
    let numbers = _mm512_set_epi16(
        31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    );
    let mut numbers = _mm512_maskz_compress_epi16(lanes, numbers);
    let row = _mm512_set1_epi64((u64::from(row) << 32).cast_signed());
    pairs.reserve(LANES);
    let (length, count) = (pairs.len(), lanes.count_ones() as usize);
    let mut done = 0;
    // Seldom more than once.
    while done < count {
        let values = value(_mm512_cvtepu16_epi64(_mm512_castsi512_si128(numbers)));
        // SAFETY: there is room for thirty-two pairs behind the length, and at most the last eight of them are written here. A pair is a value and, above it,
        // a row: a 64-bit lane.
        unsafe { _mm512_storeu_si512(pairs.as_mut_ptr().add(length + done).cast(), _mm512_or_si512(values, row)) };
        done += 8;
        numbers = _mm512_alignr_epi64::<2>(numbers, numbers);
    }
    // SAFETY: the loop has written the pairs up to this length.
    unsafe { pairs.set_len(length + count) };
}

/// In two registers from beginning to end.
#[inline]
#[target_feature(enable = "avx512f")]
fn intersect<'a>(bitmaps: impl Iterator<Item = &'a Bitmap>) -> Bitmap {
    let mut lanes = [_mm512_set1_epi64(-1); 2];
    for bitmap in bitmaps {
        let start = bitmap.0.as_ptr();
        // SAFETY: a bitmap has sixteen words, which is what two 512-bit loads read.
        let (low, high) = unsafe { (_mm512_loadu_si512(start.cast()), _mm512_loadu_si512(start.add(8).cast())) };
        lanes = [_mm512_and_si512(lanes[0], low), _mm512_and_si512(lanes[1], high)];
    }
    let mut all = Bitmap([0; 16]);
    // SAFETY: as above, for the stores.
    unsafe {
        _mm512_storeu_si512(all.0.as_mut_ptr().cast(), lanes[0]);
        _mm512_storeu_si512(all.0.as_mut_ptr().add(8).cast(), lanes[1]);
    }
    all
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident, |$slot:ident, $buckets:ident| $fetched:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Form for $name {
            #[inline(always)]
            fn test($slot: &SlotLanes, $buckets: &[BucketLine]) -> u32 {
                // SAFETY: `super::super::run` chooses this form only where its features were detected.
                unsafe { holds($slot, $fetched) }
            }

            #[inline(always)]
            fn append(lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Vec<Pair>) {
                // SAFETY: as above; the loads read the thirty-two values.
                unsafe {
                    let low = _mm512_loadu_si512(values.as_ptr().cast());
                    let high = _mm512_loadu_si512(values.as_ptr().add(16).cast());
                    // The upper half of each 64-bit lane would be the value of lane 0; it is cleared for the row.
                    append(lanes, row, pairs, |numbers| {
                        let values = _mm512_permutex2var_epi32(low, numbers, high);
                        _mm512_maskz_mov_epi32(0x5555, values)
                    });
                }
            }

            #[inline(always)]
            fn append_numbers(lanes: u32, first: u32, row: u32, pairs: &mut Vec<Pair>) {
                // SAFETY: as above.
                unsafe {
                    let first = _mm512_set1_epi64(i64::from(first));
                    append(lanes, row, pairs, |numbers| _mm512_add_epi64(first, numbers));
                }
            }

            #[inline(always)]
            fn intersect<'a>(bitmaps: impl Iterator<Item = &'a Bitmap>) -> Bitmap {
                // SAFETY: as above.
                unsafe { intersect(bitmaps) }
            }

            #[inline(always)]
            fn fetch<T>(what: &T) {
                super::avx2::fetch(what);
            }

            fn enter(stage: impl Stage) {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,bmi1,bmi2,popcnt")]
                fn inside(stage: impl Stage) {
                    stage.run::<$name>();
                }
                // SAFETY: as above.
                unsafe { inside(stage) }
            }
        }
    };
}

form!(
    /// At most 32 columns.
    Columns32,
    |slot, buckets| _mm512_permutexvar_epi16(columns(slot), load(&buckets[0]))
);

form!(
    /// At most 64 columns.
    Columns64,
    |slot, buckets| _mm512_permutex2var_epi16(load(&buckets[0]), columns(slot), load(&buckets[1]))
);

form!(
    /// At most 128 columns. The permutations look at the lower bits of a column only; bit 6 says which of the two it is.
    Columns128,
    |slot, buckets| {
        let columns = columns(slot);
        let low = _mm512_permutex2var_epi16(load(&buckets[0]), columns, load(&buckets[1]));
        let high = _mm512_permutex2var_epi16(load(&buckets[2]), columns, load(&buckets[3]));
        _mm512_mask_blend_epi16(_mm512_test_epi16_mask(columns, _mm512_set1_epi16(64)), low, high)
    }
);

/// Thirty-two buckets, each from a place of its own.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn gather(slot: &SlotLanes, buckets: &[BucketLine]) -> __m512i {
    let columns = columns(slot);
    let last = (buckets.len() * 32 - 2).min(usize::from(u16::MAX)) as u16;
    assert!(_mm512_cmpgt_epu16_mask(columns, _mm512_set1_epi16(last.cast_signed())) == 0, "a slot names a column that is not there");
    let half = |columns: __m256i| {
        let columns = _mm512_cvtepu16_epi32(columns);
        // SAFETY: the gather reads four bytes from each column's bucket on; the columns are below the last bucket of the slice, as asserted.
        let words = unsafe { _mm512_i32gather_epi32::<2>(columns, buckets.as_ptr().cast()) };
        _mm512_cvtepi32_epi16(words)
    };
    let low = half(_mm512_castsi512_si256(columns));
    let high = half(_mm512_extracti64x4_epi64::<1>(columns));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

form!(
    /// Any number of columns.
    Gather,
    |slot, buckets| gather(slot, buckets)
);
