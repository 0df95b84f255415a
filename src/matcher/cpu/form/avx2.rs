//! With 256-bit registers and few columns, each lane fetches its own column by byte shuffles: of the lower and of the upper bytes of the event's buckets.

use super::{Bitmap, BucketLine, Form, LANES, Pair, Portable, SlotLanes, Stage};
use std::arch::x86_64::*;

/// The lanes of one half of the slot that hold, as bits.
#[inline]
#[target_feature(enable = "avx2")]
fn half(slot: &SlotLanes, first: usize, low_bytes: __m256i, high_bytes: __m256i) -> u32 {
    // SAFETY: each array has sixteen more `u16` from `first` (0 or 16) on, which is what a 256-bit load reads.
    let (columns, low, span) = unsafe {
        (
            _mm256_loadu_si256(slot.columns.as_ptr().add(first).cast()),
            _mm256_loadu_si256(slot.low.as_ptr().add(first).cast()),
            _mm256_loadu_si256(slot.span.as_ptr().add(first).cast()),
        )
    };
    // The column in both bytes of its lane, so that one shuffle finds the lower byte and one the upper.
    let columns = _mm256_or_si256(columns, _mm256_slli_epi16::<8>(columns));
    let lower = _mm256_shuffle_epi8(low_bytes, columns);
    let upper = _mm256_shuffle_epi8(high_bytes, columns);
    let buckets = _mm256_blendv_epi8(lower, upper, _mm256_set1_epi16(0xff00_u16.cast_signed()));
    let offset = _mm256_sub_epi16(buckets, low);
    let holds = _mm256_cmpeq_epi16(_mm256_min_epu16(offset, span), offset);
    // Sixteen lanes of all ones or none, to sixteen bits.
    let bytes = _mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi16(holds, holds));
    _mm_movemask_epi8(_mm256_castsi256_si128(bytes)).cast_unsigned() & 0xffff
}

#[inline]
#[target_feature(enable = "avx2")]
fn test(slot: &SlotLanes, line: &BucketLine) -> u32 {
    // SAFETY: the load reads the first sixteen buckets of the line.
    let buckets = unsafe { _mm256_loadu_si256(line.0.as_ptr().cast()) };
    let low = _mm256_and_si256(buckets, _mm256_set1_epi16(0xff));
    let high = _mm256_srli_epi16::<8>(buckets);
    // Sixteen lower bytes, then sixteen upper ones, each in both halves of a register, where the shuffles look.
    let packed = _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packus_epi16(low, high));
    let low = _mm256_permute4x64_epi64::<0b0100_0100>(packed);
    let high = _mm256_permute4x64_epi64::<0b1110_1110>(packed);
    half(slot, 0, low, high) | half(slot, 16, low, high) << 16
}

#[inline(always)]
pub fn fetch<T>(what: &T) {
    let start = std::ptr::from_ref(what).cast::<i8>();
    for line in (0..size_of::<T>()).step_by(64) {
        // SAFETY: a prefetch reads nothing that could be seen; the address lies within `what`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(line)) };
    }
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident, |$slot:ident, $buckets:ident| $test:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Form for $name {
            #[inline(always)]
            fn test($slot: &SlotLanes, $buckets: &[BucketLine]) -> u32 {
                $test
            }

            #[inline(always)]
            fn append(lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Vec<Pair>) {
                Portable::append(lanes, values, row, pairs);
            }

            #[inline(always)]
            fn append_numbers(lanes: u32, first: u32, row: u32, pairs: &mut Vec<Pair>) {
                Portable::append_numbers(lanes, first, row, pairs);
            }

            #[inline(always)]
            fn intersect<'a>(bitmaps: impl Iterator<Item = &'a Bitmap>) -> Bitmap {
                Portable::intersect(bitmaps)
            }

            #[inline(always)]
            fn fetch<T>(what: &T) {
                fetch(what);
            }

            fn enter(stage: impl Stage) {
                #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
                fn inside(stage: impl Stage) {
                    stage.run::<$name>();
                }
                // SAFETY: `super::super::run` chooses this form only where its features were detected.
                unsafe { inside(stage) }
            }
        }
    };
}

form!(
    /// At most 16 columns.
    Columns16,
    // SAFETY: as in `enter`, which is how tests are come to.
    |slot, buckets| unsafe { test(slot, &buckets[0]) }
);

form!(
    /// Any number of columns.
    AnyColumns,
    |slot, buckets| Portable::test(slot, buckets)
);
