//! Decisions with given costs, and a pair of back ends whose costs are known, which routing must come close to at every size of batch.

use super::*;

/// Costs as if measured: nanoseconds of a row on the CPU by class, of a dispatch, and of a row on the GPU.
fn costs(cpu: impl Fn(usize) -> f64, dispatch: f64, gpu: f64) -> Costs {
    Costs {
        cpu: std::array::from_fn(|class| if class == 0 { 0.0 } else { cpu(class) }),
        dispatch,
        gpu,
        paces: [1.0; 2],
        rows: 65536,
        since_probe: 0,
    }
}

fn visits(of: &[(usize, usize)]) -> Visits {
    let mut visits = [0; CLASSES];
    of.iter().for_each(|(class, rows)| visits[*class] += rows);
    visits
}

fn classes(of: &[usize]) -> Classes {
    Classes::of(|class| of.contains(&class))
}

#[test]
fn classes_are_powers_of_two() {
    assert_eq!([0, 1, 2, 3, 4, 1000, u32::MAX].map(class), [0, 1, 2, 2, 3, 10, 32]);
}

#[test]
fn a_partition_goes_where_its_rows_cost_less_if_that_pays_for_a_dispatch() {
    let costs = costs(|class| 10.0 * class as f64, 1000.0, 50.0);
    // Class 9 costs 90 on the CPU: 40 saved a row, so 25 rows pay for a dispatch; a tie stays on the CPU.
    for (rows, on_gpu) in [(1, Classes::NONE), (24, Classes::NONE), (25, Classes::NONE), (30, classes(&[9])), (1 << 20, classes(&[9]))] {
        assert_eq!(costs.fastest(&visits(&[(9, rows)])), on_gpu, "{rows} rows");
    }
    // What costs the same on both stays, and so does what costs less on the CPU, however many rows there are.
    assert_eq!(costs.fastest(&visits(&[(5, 1 << 20)])), Classes::NONE);
    assert_eq!(costs.fastest(&visits(&[(1, 1 << 20)])), Classes::NONE);
    assert_eq!(costs.fastest(&visits(&[(0, 1 << 20)])), Classes::NONE, "no rules, no work");
    // One huge tenant among thousands of small ones: it alone goes.
    let many = visits(&[(2, 60_000), (12, 5_000)]);
    assert_eq!(costs.fastest(&many), classes(&[12]));
    assert_eq!(costs.expected(Side::Cpu, &many, classes(&[12])), 20.0 * 60_000.0);
    assert_eq!(costs.expected(Side::Gpu, &many, classes(&[12])), 1000.0 + 50.0 * 5_000.0);
    // But not for the sake of a few rows, where a split saves less than it costs.
    assert_eq!(costs.fastest(&visits(&[(2, 60_000), (12, 30)])), Classes::NONE);
    assert_eq!(costs.fastest(&visits(&[(4, 30), (12, 5_000)])), classes(&[4, 12]), "nor is a little left behind on the CPU");
    // Together they pay for what none of them would alone.
    assert_eq!(costs.fastest(&visits(&[(8, 20), (9, 20), (10, 20)])), classes(&[8, 9, 10]));
    assert_eq!(costs.fastest(&visits(&[(8, 20)])), Classes::NONE);
}

#[test]
fn without_a_gpu_that_answers_all_stays_on_the_cpu() {
    let seconds = |trial| matches!(trial, Trial::Class(_)).then_some(1e-3);
    let costs = Costs::measure(1000, &visits(&[(3, 1000)]), seconds);
    assert!(costs.never_pay(1 << 24));
    assert_eq!(costs.fastest(&visits(&[(3, 1 << 24)])), Classes::NONE);
}

#[test]
fn trials_become_costs() {
    let measured = visits(&[(0, 500), (2, 1000), (7, 500)]);
    let costs = Costs::measure(1000, &measured, |trial| match trial {
        Trial::Class(2) => Some(20.0),
        Trial::Class(7) => Some(50.0),
        Trial::Class(other) => panic!("nothing visits class {other}"),
        Trial::Dispatch => Some(3.0),
        Trial::Gpu => Some(33.0),
    });
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    for (class, cost) in [(0, 0.0), (1, 0.02), (2, 0.02), (6, 0.02), (7, 0.1), (32, 0.1)] {
        near(costs.cpu[class], cost);
    }
    near(costs.dispatch, 3.0);
    near(costs.gpu, 0.02);
    assert!(!costs.are_outgrown(7999) && costs.are_outgrown(8000));
    assert!(costs.never_pay(15) && !costs.never_pay(16));
}

/// A pair of back ends.
#[derive(Clone, Copy)]
struct Machine {
    /// Nanoseconds of a row on the CPU, for each class.
    cpu: f64,
    dispatch: f64,
    gpu: f64,
}

impl Machine {
    fn seconds(self, visits: &Visits, on_gpu: Classes) -> [Option<f64>; 2] {
        let sum = |wanted: bool, cost: &dyn Fn(usize) -> f64| -> f64 {
            (1..CLASSES)
                .filter(|class| visits[*class] > 0 && on_gpu.hold(*class) == wanted)
                .map(|class| visits[class] as f64 * cost(class))
                .sum()
        };
        let (cpu, gpu) = (sum(false, &|class| self.cpu * class as f64), sum(true, &|_| self.gpu));
        [(cpu > 0.0).then_some(cpu * 1e-9), (gpu > 0.0).then_some((self.dispatch + gpu) * 1e-9)]
    }

    fn total(self, visits: &Visits, on_gpu: Classes) -> f64 {
        self.seconds(visits, on_gpu).into_iter().flatten().sum()
    }

    fn trial(self, visits: &Visits, trial: Trial) -> f64 {
        match trial {
            Trial::Class(class) => self.cpu * class as f64 * visits[class] as f64 * 1e-9,
            Trial::Dispatch => (self.dispatch + self.gpu) * 1e-9,
            Trial::Gpu => self.total(visits, Classes::visited(visits)),
        }
    }
}

/// What a fault does to costs: after they were measured, and after each batch.
type Fault = fn(&mut Costs);

/// Batches of every size, of a huge tenant and many small ones, while the machine stays as it was measured and after it has changed: how much longer the
/// routed ones take at worst than the same batches on the better of the two back ends.
fn worst(measured: Machine, changed: Machine, after_measuring: Fault, after_each: Fault) -> f64 {
    let batch = |rows: usize| visits(&[(3, rows), (5, rows / 2), (12, rows / 4)]);
    let sample = batch(8192);
    let mut costs = Costs::measure(8192, &sample, |trial| Some(measured.trial(&sample, trial)));
    after_measuring(&mut costs);
    // Noise of a tenth of the time, in both directions, and now and then a thread that is interrupted.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 24 == 7 { 20.0 } else { 0.9 + f64::from(state >> 16 & 0xff) / 1280.0 }
    };
    let mut worst = 0.0_f64;
    for machine in [measured, changed] {
        for size in 0..24 {
            let batch = batch(1 << size);
            let mut sums = [0.0; 3];
            for nth in 0..1500 {
                let choice = if costs.never_pay(1 << size) {
                    super::Choice { on_gpu: Classes::NONE, is_probe: false }
                } else {
                    costs.choose(&batch)
                };
                let seconds = machine.seconds(&batch, choice.on_gpu).map(|seconds| seconds.map(|seconds| seconds * noise()));
                costs.observe(&batch, choice, seconds);
                after_each(&mut costs);
                // A machine that has changed is given some batches to be seen.
                if nth >= 700 {
                    let ways = [choice.on_gpu, Classes::NONE, Classes::visited(&batch)];
                    sums.iter_mut().zip(ways).for_each(|(sum, way)| *sum += machine.total(&batch, way));
                }
            }
            worst = worst.max(sums[0] / sums[1].min(sums[2]));
        }
    }
    worst
}

#[test]
fn routing_is_within_a_tenth_of_the_better_back_end_at_every_size() {
    let even = Machine { cpu: 20.0, dispatch: 200_000.0, gpu: 40.0 };
    let fast_gpu = Machine { cpu: 100.0, dispatch: 60_000.0, gpu: 5.0 };
    let slow_gpu = Machine { cpu: 10.0, dispatch: 5_000_000.0, gpu: 400.0 };
    let machines = [
        (even, even),
        (fast_gpu, fast_gpu),
        (slow_gpu, slow_gpu),
        // Others take the CPU, and others the GPU; and the GPU comes back.
        (even, Machine { cpu: 60.0, ..even }),
        (even, Machine { dispatch: 500_000.0, gpu: 100.0, ..even }),
        (even, Machine { dispatch: 80_000.0, gpu: 16.0, ..even }),
    ];
    let all = |machines: &[(Machine, Machine)], after_measuring: Fault, after_each: Fault| -> Vec<f64> {
        machines.iter().map(|(first, then)| worst(*first, *then, after_measuring, after_each)).collect()
    };
    let sound = all(&machines, |_| (), |_| ());
    assert!(sound.iter().all(|worst| *worst <= 1.1), "{sound:?}");
    let forget: Fault = |costs| costs.paces = [1.0; 2];
    let forgetful = all(&machines[3..], |_| (), forget);
    assert!(forgetful.iter().any(|worst| *worst > 1.1), "what is observed is forgotten: {forgetful:?}");
    // What is observed makes up for costs that were measured wrongly; without it they show.
    let (steady, sound): (_, Fault) = (&machines[..3], |_| ());
    let forgetful = all(steady, sound, forget);
    assert!(forgetful.iter().all(|worst| *worst <= 1.1), "{forgetful:?}");
    let faults: [(&str, Fault); 3] = [
        ("a dispatch costs nothing", |costs| costs.dispatch = 0.0),
        ("a row costs the GPU nothing", |costs| costs.gpu = 0.0),
        ("all partitions cost the CPU the same", |costs| costs.cpu = [costs.cpu[3]; CLASSES]),
    ];
    for (what, fault) in faults {
        let faulty = all(steady, fault, forget);
        assert!(faulty.iter().any(|worst| *worst > 1.1), "{what}: {faulty:?}");
    }
}
