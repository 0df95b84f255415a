//! What is done lane by lane, in one form for each instruction set. All forms give the same answer.

use super::Pairs;
use crate::tables::SlotLanes;
use crate::tables::layout::LANES;

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;

/// Buckets that a row of a tile has are a multiple of this.
pub const BUCKETS_ALIGNMENT: usize = 32;

/// An instruction set that there is a form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, BW and VL.
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
                    bits && wide && is_x86_feature_detected!("avx512vl")
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

pub trait Form {
    /// The lanes of `slot` that hold for a row's buckets, as bits.
    fn test(slot: &SlotLanes, buckets: &[u16]) -> u32;

    /// Appends `row` with each of the `values` whose lane is set.
    fn append(lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Pairs);

    /// Appends `row` with `first + lane` for each lane that is set.
    fn append_numbers(lanes: u32, first: u32, row: u32, pairs: &mut Pairs);

    /// Asks for the memory at `what`, which is needed soon.
    fn fetch<T>(what: &T);
}

/// Works everywhere; compilers turn it into vector code where they can.
pub struct Portable;

impl Form for Portable {
    #[inline(always)]
    fn test(slot: &SlotLanes, buckets: &[u16]) -> u32 {
        let mut lanes = 0;
        for lane in 0..LANES {
            let bucket = buckets[usize::from(slot.columns[lane])];
            lanes |= u32::from(bucket.wrapping_sub(slot.low[lane]) <= slot.span[lane]) << lane;
        }
        lanes
    }

    #[inline(always)]
    fn append(mut lanes: u32, values: &[u32; LANES], row: u32, pairs: &mut Pairs) {
        while lanes != 0 {
            pairs.push(row, values[lanes.trailing_zeros() as usize]);
            lanes &= lanes - 1;
        }
    }

    #[inline(always)]
    fn append_numbers(mut lanes: u32, first: u32, row: u32, pairs: &mut Pairs) {
        while lanes != 0 {
            pairs.push(row, first + lanes.trailing_zeros());
            lanes &= lanes - 1;
        }
    }

    #[inline(always)]
    fn fetch<T>(_: &T) {}
}
