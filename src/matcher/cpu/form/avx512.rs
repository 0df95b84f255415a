//! With 512-bit registers a slot's lanes are tested at once, each fetching its own column from the event's buckets by a permutation (up to 128 columns) or
//! a gather.

use super::{Form, LANES, Pairs, SlotLanes};
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

/// Thirty-two buckets from `first` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(buckets: &[u16], first: usize) -> __m512i {
    let buckets: &[u16; 32] = buckets[first..].first_chunk().expect("rows are padded to the columns of their form");
    // SAFETY: the load reads the thirty-two buckets.
    unsafe { _mm512_loadu_si512(buckets.as_ptr().cast()) }
}

/// Stores the lanes of sixteen values that are set, and their row as often; answers how many there are.
///
/// # Safety
/// From both places on, sixteen values can be written.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn store(lanes: u16, values: __m512i, row: __m512i, rows: *mut u32, places: *mut u32) -> usize {
    // SAFETY: the caller promises room for sixteen.
    unsafe {
        _mm512_storeu_si512(places.cast(), _mm512_maskz_compress_epi32(lanes, values));
        _mm512_storeu_si512(rows.cast(), row);
    }
    lanes.count_ones() as usize
}

/// Appends the lanes of two times sixteen values.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
fn append(lanes: u32, values: [__m512i; 2], row: u32, pairs: &mut Pairs) {
    pairs.rows.reserve(LANES);
    pairs.values.reserve(LANES);
    let length = pairs.values.len();
    let row = _mm512_set1_epi32(row.cast_signed());
    // SAFETY: there is room for thirty-two behind the ends of both; the second store begins at most sixteen behind the first. All that the new lengths
    // cover has been written.
    unsafe {
        let (rows, places) = (pairs.rows.as_mut_ptr().add(length), pairs.values.as_mut_ptr().add(length));
        let low = store(lanes as u16, values[0], row, rows, places);
        let high = store((lanes >> 16) as u16, values[1], row, rows.add(low), places.add(low));
        pairs.rows.set_len(length + low + high);
        pairs.values.set_len(length + low + high);
    }
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident, |$slot:ident, $buckets:ident| $fetched:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Form for $name {
            #[inline(always)]
            fn test($slot: &SlotLanes, $buckets: &[u16]) -> u32 {
                // SAFETY: `super::super::run` chooses this form only where its features were detected.
                unsafe { holds($slot, $fetched) }
            }

            #[inline(always)]
            fn append(lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Pairs) {
                // SAFETY: as above; the loads read the thirty-two values.
                unsafe {
                    let low = _mm512_loadu_si512(values.as_ptr().cast());
                    let high = _mm512_loadu_si512(values.as_ptr().add(16).cast());
                    append(lanes, [low, high], row, pairs);
                }
            }

            #[inline(always)]
            fn append_numbers(lanes: u32, first: u32, row: u32, pairs: &mut Pairs) {
                // SAFETY: as above.
                unsafe {
                    let first = _mm512_set1_epi32(first.cast_signed());
                    let low = _mm512_add_epi32(first, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
                    append(lanes, [low, _mm512_add_epi32(low, _mm512_set1_epi32(16))], row, pairs);
                }
            }

            #[inline(always)]
            fn fetch<T>(what: &T) {
                let start = std::ptr::from_ref(what).cast::<i8>();
                for line in (0..size_of::<T>()).step_by(64) {
                    // SAFETY: a prefetch reads nothing that could be seen; the address lies within `what`.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(line)) };
                }
            }
        }
    };
}

form!(
    /// At most 32 columns.
    Columns32,
    |slot, buckets| _mm512_permutexvar_epi16(columns(slot), load(buckets, 0))
);

form!(
    /// At most 64 columns.
    Columns64,
    |slot, buckets| _mm512_permutex2var_epi16(load(buckets, 0), columns(slot), load(buckets, 32))
);

form!(
    /// At most 128 columns. The permutations look at the lower bits of a column only; bit 6 says which of the two it is.
    Columns128,
    |slot, buckets| {
        let columns = columns(slot);
        let low = _mm512_permutex2var_epi16(load(buckets, 0), columns, load(buckets, 32));
        let high = _mm512_permutex2var_epi16(load(buckets, 64), columns, load(buckets, 96));
        _mm512_mask_blend_epi16(_mm512_test_epi16_mask(columns, _mm512_set1_epi16(64)), low, high)
    }
);

/// Thirty-two buckets, each from a place of its own.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn gather(slot: &SlotLanes, buckets: &[u16]) -> __m512i {
    let columns = columns(slot);
    let highest = _mm512_set1_epi16((buckets.len() - 2).min(usize::from(u16::MAX)) as u16 as i16);
    assert!(_mm512_cmpgt_epu16_mask(columns, highest) == 0, "a slot names a column that is not there");
    let half = |columns: __m256i| {
        let columns = _mm512_cvtepu16_epi32(columns);
        // SAFETY: the gather reads four bytes from each column's bucket on; the columns are below the row's last bucket, as asserted.
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
