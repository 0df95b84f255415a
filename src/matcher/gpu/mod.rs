//! The match on GPUs: compute shaders (the folder `shaders`) over tables that stay on the device.
//!
//! A batch goes through kernels: `seed` puts each row on the roots of its segments, `plan` turns a count into a dispatch,
//! `descend` takes the frontier one level down, `verify` tests the groups that are left, `settle` decides memberships.
//! The answer is that of [`super::plain`], to the bit, in no particular order; or what is made of it row by row, an [output](super::output). Whatever goes wrong (no adapter, a lost device,
//! too little memory, tables beyond the adapter's limits) is an `Err`, so that the caller can match on the CPU instead.
//!
//! * `device`: adapters, the device, and how its errors are caught.
//! * `stages`: the kernels and what they bind; `launch`: what a dispatch is told.
//! * `pages`: tables to pages that fit in the adapter's bindings.
//! * `flight`: the working buffers of one batch in flight.
//! * `output`: what the kernels know of outputs.
//! * `matcher`: batches in, candidates out.

mod device;
mod error;
mod flight;
mod launch;
mod matcher;
mod output;
mod pages;
mod stages;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod timings;

pub use device::{AdapterInfo, Gpu, adapters};
pub use error::GpuError;
pub use matcher::{GpuMatcher, GpuOptions, IN_FLIGHT, Ticket};
pub use timings::Timings;
