//! Results that are to be put out together.

use crate::connector::kafka::config::Config;
use crate::connector::kafka::sink::Transaction;

/// What a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Decision,
    Finding,
    Match,
    Reject,
    Late,
    /// An event on its way to the partition of its key.
    Event,
}

impl Kind {
    /// The topic of such results; `None`: they are not wanted.
    #[must_use]
    pub fn topic(self, config: &Config) -> Option<&str> {
        let output = &config.output;
        let name = match self {
            Self::Decision => &output.decisions,
            Self::Finding => &output.findings,
            Self::Match => &output.matches,
            Self::Reject => &output.rejects,
            Self::Late => &output.late,
            Self::Event => &config.repartition,
        };
        (!name.is_empty()).then_some(name)
    }
}

type Headers = Vec<(String, String)>;

/// Results in the order in which they came.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// What it is, where its key ends, where it ends, and its headers.
    results: Vec<(Kind, usize, usize, Headers)>,
}

impl Outbox {
    /// Adds a result; `payload` writes it behind what is there.
    pub fn add(&mut self, kind: Kind, key: &[u8], headers: Headers, payload: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend(key);
        let key = self.bytes.len();
        payload(&mut self.bytes);
        self.results.push((kind, key, self.bytes.len(), headers));
    }

    /// Puts everything out.
    ///
    /// # Errors
    /// As [`Transaction::send`].
    pub fn send(&self, transaction: &Transaction, config: &Config) -> Result<(), String> {
        let mut begin = 0;
        for (kind, key, end, headers) in &self.results {
            if let Some(topic) = kind.topic(config) {
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                transaction.send(topic, &self.bytes[begin..*key], &self.bytes[*key..*end], &headers)?;
            }
            begin = *end;
        }
        Ok(())
    }
}
