//! The audit log: every change with who made it and when, each entry sealed with a hash of itself and the one before. Nothing can be changed, left out or put in between without
//! the rest no longer fitting.

use super::registry::Actor;
use serde::Serialize;

/// The hash before the first entry.
const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An entry. Numbers follow each other from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub number: i64,
    /// Milliseconds since 1970.
    pub time: i64,
    pub actor: String,
    pub action: String,
    pub tenant: String,
    /// JSON.
    pub detail: String,
    pub previous: String,
    pub hash: String,
}

impl Entry {
    fn seal(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let numbers = [self.number.to_le_bytes(), self.time.to_le_bytes()];
        let texts = [&self.actor, &self.action, &self.tenant, &self.detail, &self.previous].map(|text| text.as_bytes());
        for part in numbers.iter().map(<[u8; 8]>::as_slice).chain(texts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The entry after `last`.
#[must_use]
pub fn next(last: Option<&Entry>, actor: &Actor, action: &str, tenant: &str, detail: &serde_json::Value) -> Entry {
    let mut entry = Entry {
        number: last.map_or(1, |last| last.number + 1),
        time: actor.now,
        actor: actor.name.clone(),
        action: action.to_owned(),
        tenant: tenant.to_owned(),
        detail: detail.to_string(),
        previous: last.map_or_else(|| BEGINNING.to_owned(), |last| last.hash.clone()),
        hash: String::new(),
    };
    entry.hash = entry.seal();
    entry
}

/// Whether `entries` follow `last` without a gap and unchanged.
///
/// # Errors
/// The first entry that does not.
pub fn verify(last: Option<&Entry>, entries: &[Entry]) -> Result<(), String> {
    let (mut number, mut hash) = last.map_or((0, BEGINNING), |last| (last.number, &last.hash));
    for entry in entries {
        if entry.number != number + 1 {
            return Err(format!("after entry {number} comes entry {}: something was left out", entry.number));
        }
        if entry.previous != hash {
            return Err(format!("entry {} does not follow the one before it: something was changed or put in between", entry.number));
        }
        if entry.hash != entry.seal() {
            return Err(format!("entry {} was changed", entry.number));
        }
        (number, hash) = (entry.number, &entry.hash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log() -> Vec<Entry> {
        let actor = |now| Actor { name: "someone".to_owned(), now };
        let mut log: Vec<Entry> = Vec::new();
        for now in 0..5 {
            let entry = next(log.last(), &actor(now), "activate", "acme", &json!({"version": now}));
            log.push(entry);
        }
        log
    }

    #[test]
    fn what_is_changed_left_out_or_put_in_between_is_noticed() {
        let log = log();
        assert_eq!(verify(None, &log), Ok(()));
        assert_eq!(verify(log.get(2), &log[3..]), Ok(()), "in parts");
        let mut faults: Vec<Vec<Entry>> = Vec::new();
        let faulty = |fault: &dyn Fn(&mut Vec<Entry>)| {
            let mut log = log.clone();
            fault(&mut log);
            log
        };
        faults.push(faulty(&|log| drop(log.remove(2))));
        faults.push(faulty(&|log| log.swap(1, 2)));
        faults.push(faulty(&|log| log[3].detail = json!({"version": 9}).to_string()));
        faults.push(faulty(&|log| log[0].time += 1));
        faults.push(faulty(&|log| log[4].actor = "someone else".to_owned()));
        faults.push(faulty(&|log| {
            log[2].tenant = "other".to_owned();
            log[2].hash = log[2].seal();
        }));
        faults.push(faulty(&|log| drop(log.remove(0))));
        for fault in faults {
            assert!(verify(None, &fault).is_err(), "{fault:?}");
        }
    }
}
