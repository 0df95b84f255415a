//! `devices`: adapters, their limits, and what `auto` would choose.

use super::Failure;
use std::io::Write;

/// Writes what this machine can match on.
///
/// # Errors
/// When `out` cannot be written.
pub fn devices(out: &mut dyn Write) -> Result<(), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    writeln!(out, "cpu: {cores} cores, {}", instruction_set())?;
    #[cfg(feature = "gpu")]
    {
        let adapters = crate::matcher::gpu::adapters();
        if adapters.is_empty() {
            writeln!(out, "gpu: no adapter (a Vulkan or Metal driver is needed)\nauto chooses: cpu, as there is nothing else")?;
            return Ok(());
        }
        for adapter in &adapters {
            writeln!(out, "gpu: {} ({}, {}, {})", adapter.name, adapter.kind, adapter.backend, adapter.driver)?;
            writeln!(
                out,
                "     {} MiB a binding, {} MiB a buffer, {} workgroups a dimension, {}",
                adapter.binding_max >> 20,
                adapter.buffer_max >> 20,
                adapter.workgroups_max,
                if adapter.timestamps { "kernel times" } else { "no kernel times" }
            )?;
            if let Some(why) = adapter.unusable {
                writeln!(out, "     cannot be used: {why}")?;
            }
        }
        let real = adapters.iter().any(|adapter| adapter.unusable.is_none() && !adapter.is_software());
        let choice = if real {
            "the faster of both for each batch, as measured on the first batch of a run (seen with `match`)"
        } else {
            "cpu, as no adapter is a GPU of its own: a software adapter is exact, but slower than matching on the CPU directly"
        };
        writeln!(out, "auto chooses: {choice}")?;
    }
    #[cfg(not(feature = "gpu"))]
    writeln!(out, "gpu: this program was built without the feature `gpu`\nauto chooses: cpu, as there is nothing else")?;
    Ok(())
}

/// The widest instruction set that the CPU matcher uses here.
pub(super) fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "portable code"
}
