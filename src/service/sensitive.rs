//! Fields whose values are told to nobody: in answers a keyed hash stands for each, the same for equal values, so that one may still see what belongs together.

use crate::event::Schema;
use crate::id::FieldId;
use serde_json::Value;

/// What hashes begin with.
const PREFIX: &str = "hash:";

/// Digits of a hash that are told: 128 bits.
const DIGITS: usize = 32;

/// The fields, and the key that their hashes are made with.
#[derive(Clone, Debug, Default)]
pub struct Sensitive {
    fields: Vec<FieldId>,
    key: [u8; 32],
}

impl Sensitive {
    /// The sensitive fields of a schema; `key` is secret: with it all card numbers could be tried.
    #[must_use]
    pub fn new(schema: &Schema, key: [u8; 32]) -> Self {
        Self { fields: schema.sensitive.clone(), key }
    }

    /// The schema of compiled rules, which does not say which of its fields are sensitive, with that.
    #[must_use]
    pub fn marked(&self, schema: &Schema) -> Schema {
        let mut schema = schema.clone();
        schema.sensitive.clone_from(&self.fields);
        schema
    }

    #[must_use]
    pub fn has(&self, field: FieldId) -> bool {
        self.fields.contains(&field)
    }

    /// What is told of a value of a field.
    #[must_use]
    pub fn told(&self, field: FieldId, value: Value) -> Value {
        if self.has(field) { self.hashed(value) } else { value }
    }

    /// The hash of a value; NULL stays.
    #[must_use]
    pub fn hashed(&self, value: Value) -> Value {
        let text = match value {
            Value::Null => return Value::Null,
            Value::String(text) => text,
            other => other.to_string(),
        };
        let hash = blake3::keyed_hash(&self.key, text.as_bytes()).to_hex();
        format!("{PREFIX}{}", &hash[..DIGITS]).into()
    }
}

/// A new key, as text.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_key() -> Result<String, String> {
    let mut key = [0_u8; 32];
    getrandom::fill(&mut key).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    // A hash is written as 64 digits of base 16, and read back.
    Ok(blake3::Hash::from_bytes(key).to_hex().to_string())
}

/// A key of its text.
///
/// # Errors
/// A text that is none.
pub fn key(text: &str) -> Result<[u8; 32], String> {
    blake3::Hash::from_hex(text).map(Into::into).map_err(|error| format!("the key of hashes in the registry: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_values_have_equal_hashes_that_depend_on_the_key() {
        let schema = Schema::parse("schema.yaml", b"fields: {card: utf8, amount: int64}\nsensitive: [card]\n").unwrap();
        let keys = [0, 1].map(|_| key(&new_key().unwrap()).unwrap());
        let [one, two] = keys.map(|key| Sensitive::new(&schema, key));
        let (card, amount) = (schema.find("card").unwrap(), schema.find("amount").unwrap());
        let told = |sensitive: &Sensitive, value: Value| sensitive.told(card, value);
        let hash = told(&one, json!("4111"));
        assert!(
            hash.as_str().is_some_and(|hash| hash.starts_with(PREFIX) && hash.len() == PREFIX.len() + DIGITS && !hash.contains("4111"))
        );
        assert_eq!((&hash, &hash), (&told(&one, json!("4111")), &told(&one, json!(4111))));
        assert!(hash != told(&one, json!("4112")) && hash != told(&two, json!("4111")));
        assert_eq!((told(&one, Value::Null), one.told(amount, json!(5))), (Value::Null, json!(5)));
        assert!(key("xyz").is_err());
    }
}
