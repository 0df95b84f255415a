//! Adapters, the device, and how its errors are caught.

use super::error::GpuError;
use super::launch::WORKGROUP;
use super::stages::{Edit, STORAGE_BUFFERS_MAX, Stages};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wgpu::{Adapter, Device, DeviceType, DownlevelFlags, ErrorFilter, Features, Instance, PollError, PollType, Queue, SubmissionIndex};

/// What is known of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    pub name: String,
    /// "vulkan", "metal".
    pub backend: String,
    /// The driver's name and version.
    pub driver: String,
    /// "discrete", "integrated", "virtual", "software" or "other".
    pub kind: &'static str,
    /// Bytes that one storage binding holds; larger tables are paged.
    pub binding_max: u64,
    /// Bytes that one buffer holds.
    pub buffer_max: u64,
    /// Workgroups in one dimension of a dispatch.
    pub workgroups_max: u32,
    /// Whether kernels can be timed.
    pub timestamps: bool,
    /// Why the kernels cannot run on it, if so.
    pub unusable: Option<&'static str>,
}

impl AdapterInfo {
    /// Whether it is a CPU in disguise: exact, but slower than matching on the CPU directly.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }

    fn new(adapter: &Adapter) -> Self {
        let info = adapter.get_info();
        let limits = adapter.limits();
        let flags = adapter.get_downlevel_capabilities().flags;
        let unusable = if !flags.contains(DownlevelFlags::COMPUTE_SHADERS) {
            Some("it has no compute shaders")
        } else if !flags.contains(DownlevelFlags::INDIRECT_EXECUTION) {
            Some("it has no indirect dispatch")
        } else if limits.max_storage_buffers_per_shader_stage < STORAGE_BUFFERS_MAX {
            Some("it binds too few storage buffers")
        } else if limits.max_compute_invocations_per_workgroup < WORKGROUP || limits.max_compute_workgroup_size_x < WORKGROUP {
            Some("its workgroups are too small")
        } else {
            None
        };
        Self {
            name: info.name,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind: match info.device_type {
                DeviceType::DiscreteGpu => "discrete",
                DeviceType::IntegratedGpu => "integrated",
                DeviceType::VirtualGpu => "virtual",
                DeviceType::Cpu => "software",
                DeviceType::Other => "other",
            },
            binding_max: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            buffer_max: limits.max_buffer_size,
            workgroups_max: limits.max_compute_workgroups_per_dimension,
            timestamps: adapter.features().contains(Features::TIMESTAMP_QUERY),
            unusable,
        }
    }

    /// Lower is better.
    fn rank(&self) -> usize {
        let rank = ["discrete", "integrated", "virtual", "other", "software"].iter().position(|kind| *kind == self.kind);
        rank.unwrap_or(usize::MAX)
    }
}

/// The adapters of this machine, the preferred one first. `WGPU_BACKEND` narrows the search.
#[must_use]
pub fn adapters() -> Vec<AdapterInfo> {
    enumerate().into_iter().map(|(_, summary)| summary).collect()
}

fn enumerate() -> Vec<(Adapter, AdapterInfo)> {
    if Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    // The dispatches that `plan` computes stay within the limits by construction, so they need no check of their own on the device.
    let descriptor =
        wgpu::InstanceDescriptor { flags: wgpu::InstanceFlags::empty(), ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let instance = Instance::new(descriptor.with_env());
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut found: Vec<_> = found
        .into_iter()
        .map(|adapter| {
            let summary = AdapterInfo::new(&adapter);
            (adapter, summary)
        })
        .collect();
    found.sort_by_key(|(_, summary)| (summary.unusable.is_some(), summary.rank()));
    found
}

/// A device with the kernels compiled for it. Matchers share it.
pub struct Gpu {
    pub(super) device: Device,
    pub(super) queue: Queue,
    pub(super) stages: Stages,
    summary: AdapterInfo,
    /// Why the device is lost, once it is; or an error that came outside all scopes.
    broken: Arc<Mutex<Option<GpuError>>>,
}

impl Gpu {
    /// The preferred adapter's device, with the adapter's real limits.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] where there is none, or whatever the device says.
    pub fn request() -> Result<Self, GpuError> {
        Self::open(None)
    }

    /// As [`Gpu::request`], with sources changed before they are compiled: `edit` gets a stage's name and source.
    ///
    /// # Errors
    /// As [`Gpu::request`].
    #[doc(hidden)]
    pub fn with_edited_shaders(edit: &dyn Fn(&str, &str) -> String) -> Result<Self, GpuError> {
        Self::open(Some(edit))
    }

    fn open(edit: Option<Edit<'_>>) -> Result<Self, GpuError> {
        let Some((adapter, summary)) = enumerate().into_iter().next() else {
            return Err(GpuError::NoAdapter("the system offers none".to_owned()));
        };
        if let Some(why) = summary.unusable {
            return Err(GpuError::NoAdapter(format!("{}: {why}", summary.name)));
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("dynamic-cep"),
            required_features: adapter.features() & Features::TIMESTAMP_QUERY,
            required_limits: adapter.limits(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| GpuError::NoAdapter(format!("{}: {error}", summary.name)))?;

        let broken = Arc::new(Mutex::new(None));
        let note = |broken: &Arc<Mutex<Option<GpuError>>>, error| {
            broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        };
        let lost = Arc::clone(&broken);
        device.set_device_lost_callback(move |reason, message| {
            note(&lost, GpuError::Lost(if message.is_empty() { format!("{reason:?}").to_lowercase() } else { message }));
        });
        let uncaptured = Arc::clone(&broken);
        device.on_uncaptured_error(Arc::new(move |error| note(&uncaptured, from_wgpu(&error))));

        let stages = guard(&device, || Ok(Stages::compile(&device, edit)))?;
        Ok(Self { device, queue, stages, summary, broken })
    }

    /// The adapter behind the device.
    #[must_use]
    pub fn info(&self) -> &AdapterInfo {
        &self.summary
    }

    /// Whether the device answers no more, and why.
    #[must_use]
    pub fn broken(&self) -> Option<GpuError> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loses the device on purpose.
    #[doc(hidden)]
    pub fn destroy(&self) {
        self.device.destroy();
        // The loss is reported when the queue is next found empty.
        let _ = self.poll(PollType::Poll);
    }

    /// Runs `commands` and returns the first error that the device has raised meanwhile. Errors of other threads stay theirs.
    pub(super) fn guard<T>(&self, commands: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
        if let Some(error) = self.broken() {
            return Err(error);
        }
        let result = guard(&self.device, commands);
        match self.broken() {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Waits until the device has done a submission.
    pub(super) fn wait(&self, submission: SubmissionIndex, timeout: Duration) -> Result<(), GpuError> {
        let waited = self.poll(PollType::Wait { submission_index: Some(submission), timeout: Some(timeout) });
        match self.broken() {
            Some(error) => Err(error),
            None => waited.map_err(|error| match error {
                Some(PollError::Timeout) => GpuError::TimedOut(timeout.as_secs()),
                Some(error) => GpuError::Refused(error.to_string()),
                None => GpuError::Lost("the device failed while it was waited for".to_owned()),
            }),
        }
    }

    /// Lets finished work be cleaned up.
    pub(super) fn poll(&self, poll: PollType) -> Result<(), Option<PollError>> {
        // wgpu 30 panics where the driver reports a loss while it is being waited for; to us that is a lost device like any other.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(result) => result.map(|_| ()).map_err(Some),
            Err(_) => {
                let error = GpuError::Lost("the driver failed".to_owned());
                self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                Err(None)
            }
        }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("summary", &self.summary).finish_non_exhaustive()
    }
}

fn guard<T>(device: &Device, commands: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    let scopes = [ErrorFilter::Internal, ErrorFilter::OutOfMemory, ErrorFilter::Validation].map(|filter| device.push_error_scope(filter));
    let result = commands();
    // Scopes are popped in the reverse order. What went wrong on the device is the cause of what `commands` may complain of.
    let mut raised = None;
    for scope in scopes.into_iter().rev() {
        raised = pollster::block_on(scope.pop()).or(raised);
    }
    match raised {
        Some(error) => Err(from_wgpu(&error)),
        None => result,
    }
}

fn from_wgpu(error: &wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { source } => GpuError::OutOfMemory(source.to_string()),
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => GpuError::Refused(description.clone()),
    }
}
