//! The kernels: their sources, what they bind, and their pipelines. One stem names a stage everywhere: file, entry point, label.

use super::launch::Launch;
use wgpu::{
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, BufferSize, ComputePipelineDescriptor, Device,
    PipelineLayoutDescriptor, ShaderModuleDescriptor, ShaderSource, ShaderStages,
};

/// What a binding is, whichever buffer serves for it in a dispatch. Each is named in the shaders as [`Resource::name`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Launch,
    Partitions,
    Segments,
    RowPartitions,
    Nodes,
    NodeChildren,
    Groups,
    LeafSlots,
    Steps,
    Tails,
    SetTests,
    Intervals,
    Codes,
    Frontier,
    Next,
    Open,
    Candidates,
    Counters,
    Workgroups,
    TermRules,
    Verdicts,
    Results,
    Returned,
    Offsets,
    Listed,
    Best,
}

impl Resource {
    #[cfg(test)]
    pub fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Partitions => "partitions",
            Self::Segments => "segments",
            Self::RowPartitions => "row_partitions",
            Self::Nodes => "nodes",
            Self::NodeChildren => "node_children",
            Self::Groups => "groups",
            Self::LeafSlots => "leaf_slots",
            Self::Steps => "steps",
            Self::Tails => "tails",
            Self::SetTests => "set_tests",
            Self::Intervals => "intervals",
            Self::Codes => "codes",
            Self::Frontier => "frontier",
            Self::Next => "next",
            Self::Open => "open",
            Self::Candidates => "candidates",
            Self::Counters => "counters",
            Self::Workgroups => "workgroups",
            Self::TermRules => "term_rules",
            Self::Verdicts => "verdicts",
            Self::Results => "results",
            Self::Returned => "returned",
            Self::Offsets => "offsets",
            Self::Listed => "listed",
            Self::Best => "best",
        }
    }
}

/// How a stage uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Uniform,
    Read,
    Write,
}

/// A stage as the shaders define it. Its bindings are numbered in order.
pub struct StageSource {
    pub name: &'static str,
    pub wgsl: &'static str,
    pub bindings: &'static [(Resource, Access)],
}

/// Storage buffers that a stage binds at most: what every adapter offers by WebGPU's default limits.
pub const STORAGE_BUFFERS_MAX: u32 = 8;

macro_rules! wgsl {
    ($($file:literal),*) => {
        concat!(include_str!("../../../shaders/shared/tables.wgsl"), include_str!("../../../shaders/shared/launch.wgsl"),
            $(include_str!(concat!("../../../shaders/", $file, ".wgsl"))),*)
    };
}

pub const SEED: StageSource = StageSource {
    name: "seed",
    wgsl: wgsl!("shared/bump", "seed"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Partitions, Access::Read),
        (Resource::Segments, Access::Read),
        (Resource::RowPartitions, Access::Read),
        (Resource::Frontier, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const PLAN: StageSource = StageSource {
    name: "plan",
    wgsl: wgsl!("plan"),
    bindings: &[(Resource::Launch, Access::Uniform), (Resource::Counters, Access::Write), (Resource::Workgroups, Access::Write)],
};

pub const DESCEND: StageSource = StageSource {
    name: "descend",
    wgsl: wgsl!("shared/bump", "shared/slots", "descend"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Nodes, Access::Read),
        (Resource::NodeChildren, Access::Read),
        (Resource::Codes, Access::Read),
        (Resource::Frontier, Access::Read),
        (Resource::Next, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const VERIFY: StageSource = StageSource {
    name: "verify",
    wgsl: wgsl!("shared/bump", "shared/slots", "verify"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Groups, Access::Read),
        (Resource::LeafSlots, Access::Read),
        (Resource::Steps, Access::Read),
        (Resource::Codes, Access::Read),
        (Resource::Frontier, Access::Read),
        (Resource::Candidates, Access::Write),
        (Resource::Open, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const SETTLE: StageSource = StageSource {
    name: "settle",
    wgsl: wgsl!("shared/bump", "settle"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Groups, Access::Read),
        (Resource::Tails, Access::Read),
        (Resource::SetTests, Access::Read),
        (Resource::Intervals, Access::Read),
        (Resource::Codes, Access::Read),
        (Resource::Open, Access::Read),
        (Resource::Candidates, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const BRUTE: StageSource = StageSource {
    name: "brute",
    wgsl: wgsl!("shared/slots", "brute"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Partitions, Access::Read),
        (Resource::Segments, Access::Read),
        (Resource::RowPartitions, Access::Read),
        (Resource::Groups, Access::Read),
        (Resource::LeafSlots, Access::Read),
        (Resource::Codes, Access::Read),
        (Resource::Open, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const REDUCE: StageSource = StageSource {
    name: "reduce",
    wgsl: wgsl!("shared/bump", "shared/verdicts", "reduce"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Groups, Access::Read),
        (Resource::TermRules, Access::Read),
        (Resource::Verdicts, Access::Read),
        (Resource::Candidates, Access::Read),
        (Resource::Results, Access::Write),
        (Resource::Returned, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const SCAN: StageSource = StageSource {
    name: "scan",
    wgsl: wgsl!("scan"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Results, Access::Write),
        (Resource::Offsets, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const SCATTER: StageSource = StageSource {
    name: "scatter",
    wgsl: wgsl!("shared/verdicts", "scatter"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Groups, Access::Read),
        (Resource::TermRules, Access::Read),
        (Resource::Verdicts, Access::Read),
        (Resource::Candidates, Access::Read),
        (Resource::Offsets, Access::Read),
        (Resource::Results, Access::Write),
        (Resource::Listed, Access::Write),
        (Resource::Counters, Access::Write),
    ],
};

pub const ORDER: StageSource = StageSource {
    name: "order",
    wgsl: wgsl!("order"),
    bindings: &[(Resource::Launch, Access::Uniform), (Resource::Offsets, Access::Read), (Resource::Listed, Access::Write)],
};

pub const TOP: StageSource = StageSource {
    name: "top",
    wgsl: wgsl!("top"),
    bindings: &[
        (Resource::Launch, Access::Uniform),
        (Resource::Verdicts, Access::Read),
        (Resource::Offsets, Access::Read),
        (Resource::Listed, Access::Read),
        (Resource::Best, Access::Write),
    ],
};

/// A stage ready to be dispatched.
pub struct Stage {
    pub name: &'static str,
    pub bindings: &'static [(Resource, Access)],
    pub layout: wgpu::BindGroupLayout,
    pub pipeline: wgpu::ComputePipeline,
}

/// All stages. Compiled once a device, whatever tables come and go.
pub struct Stages {
    pub seed: Stage,
    pub plan: Stage,
    pub descend: Stage,
    pub verify: Stage,
    pub settle: Stage,
    pub brute: Stage,
    pub reduce: Stage,
    pub scan: Stage,
    pub scatter: Stage,
    pub order: Stage,
    pub top: Stage,
}

/// Changes a stage's source, given its name, before it is compiled. Tests plant faults with it.
pub type Edit<'a> = &'a dyn Fn(&str, &str) -> String;

impl Stages {
    /// Compiles the stages. Errors go to the device's error scope.
    pub fn compile(device: &Device, edit: Option<Edit<'_>>) -> Self {
        let stage = |source: &StageSource| compile(device, source, edit);
        Self {
            seed: stage(&SEED),
            plan: stage(&PLAN),
            descend: stage(&DESCEND),
            verify: stage(&VERIFY),
            settle: stage(&SETTLE),
            brute: stage(&BRUTE),
            reduce: stage(&REDUCE),
            scan: stage(&SCAN),
            scatter: stage(&SCATTER),
            order: stage(&ORDER),
            top: stage(&TOP),
        }
    }
}

fn compile(device: &Device, source: &StageSource, edit: Option<Edit<'_>>) -> Stage {
    let label = Some(source.name);
    let wgsl = edit.map_or_else(|| source.wgsl.to_owned(), |edit| edit(source.name, source.wgsl));
    let module = device.create_shader_module(ShaderModuleDescriptor { label, source: ShaderSource::Wgsl(wgsl.into()) });
    let entries: Vec<BindGroupLayoutEntry> = source
        .bindings
        .iter()
        .zip(0..)
        .map(|(&(_, access), binding)| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer {
                ty: match access {
                    Access::Uniform => BufferBindingType::Uniform,
                    Access::Read => BufferBindingType::Storage { read_only: true },
                    Access::Write => BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: access == Access::Uniform,
                min_binding_size: if access == Access::Uniform { BufferSize::new(size_of::<Launch>() as u64) } else { None },
            },
            count: None,
        })
        .collect();
    let layout = device.create_bind_group_layout(&BindGroupLayoutDescriptor { label, entries: &entries });
    let pipeline_layout =
        device.create_pipeline_layout(&PipelineLayoutDescriptor { label, bind_group_layouts: &[Some(&layout)], immediate_size: 0 });
    let pipeline = device.create_compute_pipeline(&ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: label,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    Stage { name: source.name, bindings: source.bindings, layout, pipeline }
}
