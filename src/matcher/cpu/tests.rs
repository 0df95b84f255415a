//! Every form against the plain definition of a slot's test, lane by lane and column by column.

use super::form::{BucketLine, Form, Isa, Portable, Stage};
use crate::matcher::Pair;
use crate::tables::SlotLanes;
use crate::tables::layout::{Bitmap, LANES};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Tests random slots over so many columns.
struct Check {
    columns: usize,
}

impl Stage for Check {
    #[inline(always)]
    fn run<F: Form>(self) {
        let random = &mut Random(self.columns as u64);
        for round in 0..200 {
            let mut lines = [BucketLine([0; 32]); 8];
            let mut codes = vec![0_u32; 256];
            for (column, code) in codes.iter_mut().enumerate().take(self.columns) {
                *code = random.next() as u32;
                lines[column / 32].0[column % 32] = (*code >> 16) as u16;
            }
            let mut slot = SlotLanes::ALWAYS;
            for lane in 0..LANES {
                let column = random.next() as usize % self.columns;
                let bucket = (codes[column] >> 16) as u16;
                slot.columns[lane] = column as u16;
                // Ranges that end at the bucket, or one off it, in either direction.
                let span = [0, 1, 77, 0x7fff, 0xfffe, 0xffff][random.next() as usize % 6];
                slot.low[lane] = [bucket, bucket.wrapping_add(1), bucket.wrapping_sub(span), bucket.wrapping_sub(span).wrapping_sub(1)]
                    [random.next() as usize % 4];
                slot.span[lane] = span;
            }
            let bitmaps: [Bitmap; 3] = std::array::from_fn(|_| Bitmap(std::array::from_fn(|_| random.next() | random.next())));
            assert_eq!(F::intersect(bitmaps.iter()), Portable::intersect(bitmaps.iter()));
            let lanes = F::test(&slot, &lines);
            assert_eq!(lanes, slot.test(&codes), "{} columns, round {round}", self.columns);
            for lanes in [lanes, 0, u32::MAX, random.next() as u32, random.next() as u32 & random.next() as u32 & random.next() as u32] {
                let values: [u32; LANES] = std::array::from_fn(|_| random.next() as u32);
                let row = random.next() as u32;
                let appended = |append: &dyn Fn(&mut Vec<Pair>)| {
                    let mut pairs = vec![Pair { value: 1, row: 2 }];
                    append(&mut pairs);
                    pairs
                };
                assert_eq!(
                    appended(&|pairs| F::append(lanes, &values, row, pairs)),
                    appended(&|pairs| Portable::append(lanes, &values, row, pairs))
                );
                assert_eq!(
                    appended(&|pairs| F::append_numbers(lanes, values[0] >> 1, row, pairs)),
                    appended(&|pairs| Portable::append_numbers(lanes, values[0] >> 1, row, pairs))
                );
            }
        }
    }
}

#[test]
fn every_form_tests_as_the_definition_says() {
    for columns in [1, 15, 16, 17, 32, 33, 64, 65, 97, 128, 129, 250] {
        let check = || Check { columns };
        Portable::enter(check());
        #[cfg(target_arch = "x86_64")]
        {
            use super::form::{avx2, avx512};
            if Isa::Avx2.is_available() {
                avx2::AnyColumns::enter(check());
                if columns <= 16 {
                    avx2::Columns16::enter(check());
                }
            }
            if Isa::Avx512.is_available() {
                avx512::Gather::enter(check());
                if columns <= 32 {
                    avx512::Columns32::enter(check());
                }
                if columns <= 64 {
                    avx512::Columns64::enter(check());
                }
                if columns <= 128 {
                    avx512::Columns128::enter(check());
                }
            }
        }
    }
}

#[test]
fn the_portable_form_is_always_there() {
    assert!(Isa::Portable.is_available() && Isa::best().is_available());
}
