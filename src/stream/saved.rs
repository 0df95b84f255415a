//! The state of a stream in a snapshot: copied in steps between batches, and gone on from.

use super::{Broken, Followed, Settings, Stream, definitions, pattern_rules, seen};
use crate::live::Snapshot as Rules;
use crate::snapshot::{Manifest, Part};
use crate::stream::conditions::RowConditions;
use crate::temporal::capture::{ReadChunk, SavedPatterns};
use crate::temporal::patterns::{PatternRule, Patterns};
use crate::temporal::windows::Windows;
use crate::temporal::windows::group::SavedGroup;
use crate::window::Window;
use std::sync::Arc;

/// The names of the parts.
const WINDOWS: &str = "windows/";
const PATTERNS: &str = "patterns";

/// A copy that is being made.
pub struct Copy {
    /// What is said of the parts; their chunks come as they are copied.
    pub parts: Vec<Part>,
    /// The chunks of each part.
    pub chunks: Vec<usize>,
    windows_are_copied: bool,
}

/// A chunk that was copied.
pub struct Copied {
    pub part: String,
    pub number: usize,
    /// Words that were copied for it.
    pub words: usize,
    encode: Box<dyn FnOnce() -> Vec<u8> + Send>,
}

impl Copied {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        (self.encode)()
    }
}

impl Stream {
    /// Begins a copy of the state as it is now. What has not changed since the last one is not copied again. Rules must not change before it is complete.
    pub fn begin_copy(&mut self) -> Copy {
        let mut copy = Copy { parts: Vec::new(), chunks: Vec::new(), windows_are_copied: false };
        let mut add = |name: String, head: serde_json::Value, chunks: usize| {
            copy.parts.push(Part { name, head, chunks: Vec::new() });
            copy.chunks.push(chunks);
        };
        if let Some(windows) = &mut self.windows {
            for (number, group) in windows.begin_capture(&self.definitions).into_iter().enumerate() {
                add(format!("{WINDOWS}{number}"), serde_json::to_value(&group).expect("plain data"), group.chunks());
            }
        }
        if let Some((patterns, _)) = &mut self.patterns {
            let head = patterns.begin_capture();
            head.parts().into_iter().for_each(|(name, chunks)| add(name, serde_json::Value::Null, chunks));
            add(PATTERNS.to_owned(), serde_json::to_value(&head).expect("plain data"), 0);
        }
        copy
    }

    /// Copies the next chunk; `None`: the copy is complete.
    ///
    /// # Errors
    /// State on disk that cannot be read.
    pub fn copy(&mut self, copy: &mut Copy) -> Result<Option<Copied>, String> {
        if !copy.windows_are_copied {
            if let Some((group, number, chunk)) = self.windows.as_mut().map_or(Ok(None), Windows::capture)? {
                let (part, words) = (format!("{WINDOWS}{group}"), chunk.words());
                return Ok(Some(Copied { part, number, words, encode: Box::new(move || chunk.encode()) }));
            }
            copy.windows_are_copied = true;
        }
        let chunk = self.patterns.as_mut().map_or(Ok(None), |(patterns, _)| patterns.capture())?;
        Ok(chunk.map(|chunk| Copied {
            part: chunk.part.clone(),
            number: chunk.number,
            words: chunk.words(),
            encode: Box::new(move || chunk.encode()),
        }))
    }

    /// Has the next copy be one of everything: what was copied of late has not been kept.
    pub fn copy_all_again(&mut self) {
        self.windows.iter_mut().for_each(Windows::copy_all_again);
        self.patterns.iter_mut().for_each(|(patterns, _)| patterns.copy_all_again());
    }

    /// A stream that goes on from a snapshot, as far as the rules are the same. `read` gives the bytes of a chunk by its part and number.
    ///
    /// # Errors
    /// A snapshot that cannot be read, or was not made of a stream.
    pub fn restored(settings: Settings, rules: &Arc<Rules>, manifest: &Manifest, read: &mut ReadChunk) -> Result<(Self, Followed), Broken> {
        let mut stream = Self::new(settings);
        let mut followed = Followed::default();
        stream.restore_windows(rules, manifest, read, &mut followed)?;
        stream.restore_patterns(rules, manifest, read, &mut followed)?;
        stream.snapshot = Some(Arc::clone(rules));
        Ok((stream, followed))
    }

    fn restore_windows(&mut self, rules: &Rules, manifest: &Manifest, read: &mut ReadChunk, followed: &mut Followed) -> Result<(), String> {
        let parts: Vec<&Part> = manifest.parts.iter().filter(|part| part.name.starts_with(WINDOWS)).collect();
        let groups = parts.iter().map(|part| serde_json::from_value::<SavedGroup>(part.head.clone()).map_err(|error| error.to_string()));
        let groups: Vec<SavedGroup> = groups.collect::<Result<_, String>>()?;
        if parts.iter().zip(&groups).any(|(part, group)| part.chunks.len() != group.chunks()) {
            return Err("it names more or fewer chunks than it has".to_owned());
        }
        let artifact = rules.base();
        self.definitions = definitions(artifact);
        let saved = groups.iter().flat_map(|group| &group.windows);
        followed.dropped += saved.filter(|saved| !self.definitions.contains(&saved.definition)).count();
        let windows: Vec<Window> = artifact.windows().iter().map(|column| column.window.clone()).collect();
        if windows.is_empty() {
            return Ok(());
        }
        let mut chunk = |group: usize, chunk: usize| read(&parts[group].name, chunk);
        let settings = &self.settings.windows;
        let restored = Windows::restored(artifact.event_schema(), &windows, &self.definitions, settings, &groups, &mut chunk)?;
        let kept = restored.kept.iter().filter(|kept| **kept).count();
        followed.kept += kept;
        followed.begun += windows.len() - kept;
        self.windows = Some(restored.windows);
        Ok(())
    }

    fn restore_patterns(
        &mut self,
        rules: &Rules,
        manifest: &Manifest,
        read: &mut ReadChunk,
        followed: &mut Followed,
    ) -> Result<(), Broken> {
        let wanted: Vec<PatternRule> = pattern_rules(rules);
        let Some(part) = manifest.part(PATTERNS) else { return self.follow_patterns(rules, wanted, followed) };
        let head: SavedPatterns = serde_json::from_value(part.head.clone()).map_err(|error| error.to_string())?;
        self.rules.clone_from(&wanted);
        let (schema, count) = (seen(rules), wanted.len());
        let settings = &self.settings;
        let (lateness, spill) = (settings.windows.lateness, settings.windows.spill.as_ref());
        let restored = Patterns::restored(schema.clone(), wanted, lateness, settings.patterns, spill, &head, read)?;
        followed.kept += restored.kept.len();
        followed.begun += count - restored.kept.len();
        followed.dropped += restored.dropped.len();
        if count > 0 {
            let conditions = RowConditions::new(&restored.patterns, schema, Some(settings.choice)).map_err(Broken::Conditions)?;
            self.patterns = Some((restored.patterns, conditions));
        }
        Ok(())
    }
}
