//! What a user says of an object store.

use serde::{Deserialize, Serialize};

/// How an object store is reached. Where no key is given, object_store takes what the environment has: variables `AWS_…`, the token of a service account (web identity), or what
/// the machine's metadata say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub region: String,
    /// `https://host:port`, buckets below it; empty: that of Amazon for the region.
    pub endpoint: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Whether the endpoint may be `http://…`, where everybody on the way can read and change what is kept.
    pub allow_http: bool,
}

impl Default for Config {
    fn default() -> Self {
        let [endpoint, access_key_id, secret_access_key] = [const { String::new() }; 3];
        Self { region: "us-east-1".to_owned(), endpoint, access_key_id, secret_access_key, allow_http: false }
    }
}

impl Config {
    /// Whether it can be meant so.
    ///
    /// # Errors
    /// Which key is wrong, and why.
    pub fn check(&self) -> Result<(), String> {
        if self.access_key_id.is_empty() != self.secret_access_key.is_empty() {
            return Err(
                "s3 has one of access_key_id and secret_access_key; give both, or none and the environment says who you are".to_owned()
            );
        }
        let endpoint = &self.endpoint;
        if endpoint.starts_with("http://") && !self.allow_http {
            return Err(format!("s3.endpoint is `{endpoint}`, where nothing is encrypted; give `https://…`, or say s3.allow_http = true"));
        }
        if !endpoint.is_empty() && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(format!("s3.endpoint is `{endpoint}`; it begins with `https://`"));
        }
        Ok(())
    }
}

/// Whether `place` names a bucket, and perhaps what names in it begin with.
///
/// # Errors
/// What it is instead; a program that was built without object stores.
pub fn check_place(place: &str) -> Result<(), String> {
    if !cfg!(feature = "s3") {
        return Err(without_feature(place));
    }
    let bucket = place.strip_prefix(super::S3_SCHEME).unwrap_or_default().split('/').next().unwrap_or_default();
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if bucket.is_empty() || !bucket.bytes().all(sound) {
        return Err(format!("`{place}` names no bucket; give `s3://bucket/prefix`"));
    }
    Ok(())
}

pub(super) fn without_feature(place: &str) -> String {
    format!("`{place}` is in an object store, and this program was built without the feature `s3`")
}
