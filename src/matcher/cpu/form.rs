//! What is done lane by lane, in one form for each instruction set. All forms give the same answer.

use crate::matcher::Pair;
use crate::tables::SlotLanes;
use crate::tables::layout::{Bitmap, LANES};

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;

/// An instruction set that there is a form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, BW, VL and VBMI2.
    Avx512,
    Avx2,
    /// Whatever the program was compiled for.
    Portable,
}

impl Isa {
    /// Every one, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The fastest that this machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this machine has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt");
            match self {
                Self::Avx512 => {
                    let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
                    bits && wide && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vbmi2")
                }
                Self::Avx2 => bits && is_x86_feature_detected!("avx2"),
                Self::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }
}

/// Thirty-two buckets of a row; a row of a tile is one or several of these.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct BucketLine(pub [u16; 32]);

pub trait Form {
    /// The lanes of `slot` that hold for a row's buckets, as bits.
    fn test(slot: &SlotLanes, buckets: &[BucketLine]) -> u32;

    /// Appends `row` with each of the `values` whose lane is set.
    fn append(lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Vec<Pair>);

    /// Appends `row` with `first + lane` for each lane that is set.
    fn append_numbers(lanes: u32, first: u32, row: u32, pairs: &mut Vec<Pair>);

    /// The lanes that all of the bitmaps have.
    fn intersect<'a>(bitmaps: impl Iterator<Item = &'a Bitmap>) -> Bitmap;

    /// Asks for the memory of `what`, which is needed soon.
    fn fetch<T>(what: &T);

    /// Runs a stage as compiled for this form's instruction set.
    fn enter(stage: impl Stage);
}

/// A loop that is compiled once for each form.
pub trait Stage {
    /// Always inlined: only then may the form's instructions be, too.
    fn run<F: Form>(self);
}

/// Works everywhere; compilers turn it into vector code where they can.
pub struct Portable;

impl Form for Portable {
    #[inline(always)]
    fn test(slot: &SlotLanes, buckets: &[BucketLine]) -> u32 {
        let mut lanes = 0;
        for lane in 0..LANES {
            let column = usize::from(slot.columns[lane]);
            let bucket = buckets[column / 32].0[column % 32];
            lanes |= u32::from(bucket.wrapping_sub(slot.low[lane]) <= slot.span[lane]) << lane;
        }
        lanes
    }

    #[inline(always)]
    fn append(mut lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Vec<Pair>) {
        while lanes != 0 {
            pairs.push(Pair { value: values[lanes.trailing_zeros() as usize], row });
            lanes &= lanes - 1;
        }
    }

    #[inline(always)]
    fn append_numbers(mut lanes: u32, first: u32, row: u32, pairs: &mut Vec<Pair>) {
        while lanes != 0 {
            pairs.push(Pair { value: first + lanes.trailing_zeros(), row });
            lanes &= lanes - 1;
        }
    }

    #[inline(always)]
    fn intersect<'a>(bitmaps: impl Iterator<Item = &'a Bitmap>) -> Bitmap {
        bitmaps.fold(Bitmap([u64::MAX; LANES * LANES / 64]), |mut all, bitmap| {
            all.0.iter_mut().zip(bitmap.0).for_each(|(all, lanes)| *all &= lanes);
            all
        })
    }

    #[inline(always)]
    fn fetch<T>(_: &T) {}

    fn enter(stage: impl Stage) {
        stage.run::<Self>();
    }
}
