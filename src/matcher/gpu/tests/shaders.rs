//! The shaders' sources, without an adapter: they are valid, and say the same as their twins in Rust.

use crate::matcher::gpu::flight::ENTRY_BYTES;
use crate::matcher::gpu::launch::{self, Launch};
use crate::matcher::gpu::output::Verdict;
use crate::matcher::gpu::pages::ResidentGroup;
use crate::matcher::gpu::stages::{
    Access, BRUTE, DESCEND, ORDER, PLAN, REDUCE, SCAN, SCATTER, SEED, SETTLE, STORAGE_BUFFERS_MAX, StageSource, TOP, VERIFY,
};
use crate::matcher::output::Output;
use crate::tables::Candidate;
use crate::tables::layout::{self, Node, Partition, Segment, SetTest, SlotLanes, Tail};
use std::mem::offset_of;
use std::path::Path;
use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};
use wgpu::naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner, front::wgsl};

const STAGES: [StageSource; 11] = [BRUTE, SEED, PLAN, DESCEND, VERIFY, SETTLE, REDUCE, SCAN, SCATTER, ORDER, TOP];

fn parse(name: &str, source: &str) -> Result<Module, String> {
    let module = wgsl::parse_str(source).map_err(|error| format!("{name}: {}", error.emit_to_string(source)))?;
    // No capabilities: neither 64-bit integers nor subgroups.
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    validator.validate(&module).map_err(|error| format!("{name}: {}", error.emit_to_string(source)))?;
    Ok(module)
}

fn module(stage: &StageSource) -> Module {
    parse(stage.name, stage.wgsl).unwrap_or_else(|error| panic!("{error}"))
}

/// A struct's size and the offsets of its members, if the shader declares it.
fn structure(module: &Module, name: &str) -> Option<(usize, Vec<(String, usize)>)> {
    module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name)).and_then(|(_, ty)| match &ty.inner {
        TypeInner::Struct { members, span } => {
            let members = members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset as usize));
            Some((*span as usize, members.collect()))
        }
        _ => None,
    })
}

fn constant(module: &Module, name: &str) -> Option<u32> {
    let (_, constant) = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name))?;
    match module.global_expressions[constant.init] {
        wgpu::naga::Expression::Literal(wgpu::naga::Literal::U32(value)) => Some(value),
        _ => None,
    }
}

#[test]
fn every_stage_is_valid_and_binds_what_it_declares() {
    for stage in &STAGES {
        let module = module(stage);
        let [entry] = module.entry_points.as_slice() else { panic!("{}: one entry point a stage", stage.name) };
        assert_eq!((entry.name.as_str(), entry.stage), (stage.name, ShaderStage::Compute));
        let invocations = if stage.name == "plan" { 1 } else { launch::WORKGROUP };
        assert_eq!(entry.workgroup_size, [invocations, 1, 1], "{}", stage.name);

        let mut declared: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let access = match variable.space {
                    AddressSpace::Uniform => Access::Uniform,
                    AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::Write,
                    _ => Access::Read,
                };
                variable.binding.map(|binding| (binding.group, binding.binding, variable.name.clone().unwrap_or_default(), access))
            })
            .collect();
        declared.sort_by_key(|(group, binding, ..)| (*group, *binding));
        let expected: Vec<_> =
            stage.bindings.iter().zip(0..).map(|((resource, access), nth)| (0, nth, resource.name().to_owned(), *access)).collect();
        assert_eq!(declared, expected, "{}", stage.name);
        let storage = stage.bindings.iter().filter(|(_, access)| *access != Access::Uniform).count();
        assert!(storage <= STORAGE_BUFFERS_MAX as usize, "{}: {storage} storage buffers", stage.name);
    }
}

#[test]
fn an_invalid_source_is_noticed() {
    let faulty = DESCEND.wgsl.replace("u32(holds)", "holds");
    assert_ne!(faulty, DESCEND.wgsl);
    assert!(parse("descend", &faulty).is_err());
}

#[test]
fn every_file_belongs_to_a_stage() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = 0;
    for folder in [folder.clone(), folder.join("shared")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wgsl") {
                let source = std::fs::read_to_string(&path).unwrap();
                assert!(STAGES.iter().any(|stage| stage.wgsl.contains(&source)), "{} is part of no stage", path.display());
                files += 1;
            }
        }
    }
    assert_eq!(files, 16);
}

/// Says where a shader's struct differs from its twin.
macro_rules! differs {
    ($module:expr, $type:ident { $($field:ident),* $(,)? }) => {{
        let expected: Vec<(String, usize)> = vec![$({
            (stringify!($field).to_owned(), offset_of!($type, $field))
        }),*];
        match structure($module, stringify!($type)) {
            None => Some(format!("{} is not declared", stringify!($type))),
            Some(found) if found != (size_of::<$type>(), expected.clone()) => Some(format!("{found:?} instead of {expected:?}")),
            Some(_) => None,
        }
    }};
}

fn differences(module: &Module) -> Vec<String> {
    let structs = [
        differs!(module, SlotLanes { columns, low, span }),
        differs!(module, Node { slots }),
        differs!(module, ResidentGroup { slots, tailed, first_tail, used, at_edges, returned }),
        differs!(module, Verdict { score_low, score_high, action, live }),
        differs!(module, Tail { first_set, sets, residual, whole }),
        differs!(module, SetTest { column, intervals, first, high }),
        differs!(module, Segment { root, height, first_node, nodes, first_group, groups, first_slot, slots }),
        differs!(module, Partition { first_segment, segments }),
        differs!(module, Candidate { row, term }),
        differs!(
            module,
            Launch {
                rows,
                first_row,
                columns,
                partitions,
                first_segment,
                segments,
                first_node,
                first_group,
                first_slot,
                first_tail,
                height,
                source,
                source_max,
                workgroup_entries,
                sink,
                sink_max,
                open_max,
                candidates_max,
                line,
                output,
                best,
            }
        ),
    ];
    let constants = [
        ("LANES", layout::LANES as u32),
        ("SLOTS_MAX", layout::SLOTS_MAX as u32),
        ("NONE", layout::NONE),
        ("WORKGROUP", launch::WORKGROUP),
        ("WORKGROUP_PAIRS", launch::WORKGROUP_PAIRS),
        ("BRUTE_ROWS", launch::BRUTE_ROWS),
        ("BRUTE_GROUPS", launch::BRUTE_GROUPS),
        ("COUNTER_LONGEST", launch::COUNTER_LONGEST),
        ("COUNTER_RETURNED", launch::COUNTER_RETURNED),
        ("COUNTER_OPEN", launch::COUNTER_OPEN),
        ("COUNTER_CANDIDATES", launch::COUNTER_CANDIDATES),
        ("SCORE_WORDS", launch::SCORE_WORDS),
        ("ORDERED_MAX", launch::ORDERED_MAX),
        ("OUTPUT_SCORES", Output::Scores.launched()[0]),
        ("OUTPUT_FIRST", Output::First.launched()[0]),
        ("OUTPUT_COUNTS", Output::Counts.launched()[0]),
        ("OUTPUT_TOP", Output::Top(1).launched()[0]),
        ("OUTPUT_LISTS", Output::Lists.launched()[0]),
    ]
    .map(|(name, value)| (constant(module, name) != Some(value)).then(|| format!("{name} is {:?}", constant(module, name))));
    structs.into_iter().chain(constants).flatten().collect()
}

#[test]
fn shared_declarations_are_twins() {
    for stage in &STAGES {
        let module = module(stage);
        assert_eq!(differences(&module), Vec::<String>::new(), "{}", stage.name);
        // Frontier pairs exist on the device only; the host knows their size.
        assert_eq!(structure(&module, "Pair").map(|(size, _)| size as u64), Some(ENTRY_BYTES));
    }
    assert_eq!(launch::WORKGROUP, launch::WORKGROUP_PAIRS * layout::LANES as u32);
    assert_eq!(size_of::<Candidate>() as u64, ENTRY_BYTES);
    assert!(launch::HEIGHT_MAX < launch::COUNTER_LONGEST && launch::COUNTER_CANDIDATES < launch::COUNTERS as u32);
}

#[test]
fn a_twin_that_differs_is_noticed() {
    for (from, to, expected) in [
        ("LANES: u32 = 32u", "LANES: u32 = 8u", "LANES"),
        ("    first_slot: u32,\n    slots: u32,\n}", "    slots: u32,\n    first_slot: u32,\n}", "first_slot"),
        ("COUNTER_OPEN: u32 = 14u", "COUNTER_OPEN: u32 = 13u", "COUNTER_OPEN"),
    ] {
        let faulty = PLAN.wgsl.replace(from, to);
        assert_ne!(faulty, PLAN.wgsl, "{from}");
        let found = differences(&parse("plan", &faulty).unwrap());
        assert!(found.iter().any(|difference| difference.contains(expected)), "{from}: {found:?}");
    }
}
