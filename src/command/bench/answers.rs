//! What the answers must be: those of the first back end, and, for the sizes that figures are quoted for, the ones known from before.

use super::{Backend, Options, Subject};
use crate::matcher::output::Reduction;
use crate::workload::{Fingerprint, Tenants, Workload};

/// The default of `--events`.
pub(super) const EVENTS: usize = 1 << 16;

/// The known answer of a generated workload with the default tenants.
pub(super) struct Known {
    pub workload: Workload,
    pub rules: usize,
    pub events: usize,
    pub answer: Fingerprint,
}

const fn entry(workload: Workload, rules: usize, events: usize, hits: u64, hash: u64) -> Known {
    Known { workload, rules, events, answer: Fingerprint { hits, hash } }
}

/// From runs with the CPU back end beside the reference one, which at the smallest size looked at all of the events.
pub(super) const KNOWN: &[Known] = &[
    entry(Workload::F1, 1000, 2000, 43, 0xcb00_50bd_7e38_9369),
    entry(Workload::F1, 10_000, EVENTS, 7599, 0xeeca_96bc_059d_01d1),
    entry(Workload::F1, 100_000, EVENTS, 56_754, 0xa654_6d8f_9ef3_d68a),
    entry(Workload::F1, 1_000_000, EVENTS, 584_330, 0x28fa_7969_3229_48ff),
    entry(Workload::F2, 1000, 2000, 24, 0x90d9_9f6d_a419_5a09),
    entry(Workload::F2, 10_000, EVENTS, 12_912, 0x0b62_b07e_5b8f_7857),
    entry(Workload::F2, 100_000, EVENTS, 139_422, 0xb75a_5fa4_6e79_ba96),
    entry(Workload::F2, 1_000_000, EVENTS, 1_337_132, 0xac73_0906_00c4_ccb0),
    entry(Workload::W1, 1000, 2000, 206, 0x18a4_e223_05cc_b075),
    entry(Workload::W1, 10_000, EVENTS, 69_822, 0x89e8_ebc2_8c4d_7edb),
    entry(Workload::W1, 100_000, EVENTS, 694_666, 0xe8c8_aaf5_8667_924e),
    entry(Workload::W2, 1000, 2000, 18, 0x13e5_2725_8942_bff8),
    entry(Workload::W2, 10_000, EVENTS, 8039, 0xfa0e_84e0_3050_db28),
    entry(Workload::W2, 100_000, EVENTS, 77_549, 0x7f82_127c_9469_4460),
    entry(Workload::W2, 1_000_000, EVENTS, 762_978, 0xe16d_a3d8_97b2_d67c),
];

/// Fails where `found` is not the answer of the first back end.
pub(super) fn agree(case: &str, backend: Backend, found: Fingerprint, first: &(Backend, Fingerprint)) -> Result<(), String> {
    if found == first.1 {
        return Ok(());
    }
    Err(format!("{case}: {} gives {found}, and {} gives {}: nothing is timed", backend.name(), first.0.name(), first.1))
}

/// Fails where what a back end reduced a batch to is not what its hits come to.
pub(super) fn reduces(case: &str, backend: Backend, output: &str, found: Reduction, of_hits: Reduction) -> Result<(), String> {
    if found.answer() == of_hits.answer() {
        return Ok(());
    }
    Err(format!("{case}: the {output} of {} are not those of its hits: nothing is timed", backend.name()))
}

/// Whether the answer is known; fails where `found` is another.
pub(super) fn known(known: &[Known], options: &Options, found: Fingerprint) -> Result<bool, String> {
    let asked = |entry: &&Known| {
        let usual = entry.workload != Workload::F1 && entry.workload != Workload::F2 || options.tenants() == Tenants::default();
        options.workload == Subject::Generated(entry.workload) && (options.rules, options.events) == (entry.rules, entry.events) && usual
    };
    match known.iter().find(asked) {
        None => Ok(false),
        Some(entry) if entry.answer == found => Ok(true),
        Some(entry) => Err(format!("{}: {found}, but {} is known to be right", options.workload.name(), entry.answer)),
    }
}
