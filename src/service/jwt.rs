//! Callers that show a signed token (JWT) in the place of a key: who signed it is known by a set of public keys (JWKS), a file or what an HTTPS address answers.

use super::auth::{Key, Role};
use super::config;
use super::registry::ALL;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How far the clocks of others may be off.
const LEEWAY_SECONDS: u64 = 60;

/// The keys are read again when one is not known, but not more often than that.
const AGAIN: Duration = Duration::from_secs(30);

/// And when a token comes after that time, so that keys that were taken back are forgotten.
const OLD: Duration = Duration::from_secs(600);

/// Bytes of an answer that may be keys.
const JWKS_BYTES: u64 = 1 << 20;

/// Public keys by their ids, each with the one algorithm that it is for: a token does not choose.
type Signers = HashMap<String, (Algorithm, DecodingKey)>;

/// Who may sign, and what is asked of tokens.
pub struct Jwt {
    config: config::Jwt,
    signers: RwLock<Signers>,
    /// When they were last read.
    read: RwLock<Instant>,
    reading: tokio::sync::Mutex<()>,
}

impl Jwt {
    /// Reads the keys; `None` where no tokens are to be taken. An address that does not answer is asked again when a token comes.
    ///
    /// # Errors
    /// A file that cannot be read, or is no set of keys.
    pub async fn open(config: &config::Jwt) -> Result<Option<Self>, String> {
        if config.jwks.is_empty() {
            return Ok(None);
        }
        let now = Instant::now();
        let jwt =
            Self { config: config.clone(), signers: RwLock::default(), read: RwLock::new(now), reading: tokio::sync::Mutex::default() };
        match jwt.read(now).await {
            Err(error) if is_address(&config.jwks) => tracing::warn!(error, "tokens cannot be checked yet"),
            read => read?,
        }
        Ok(Some(jwt))
    }

    async fn read(&self, now: Instant) -> Result<(), String> {
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = now;
        let place = self.config.jwks.clone();
        let text = tokio::task::spawn_blocking(move || text(&place)).await.map_err(|error| error.to_string())??;
        let signers = signers(&text).map_err(|error| format!("{}: {error}", self.config.jwks))?;
        *self.signers.write().unwrap_or_else(PoisonError::into_inner) = signers;
        Ok(())
    }

    /// Whether the keys should be read again before this token is looked at.
    #[must_use]
    pub fn is_stale(&self, token: &str, now: Instant) -> bool {
        let Some(kid) = decode_header(token).ok().and_then(|header| header.kid) else { return false };
        let age = now.saturating_duration_since(*self.read.read().unwrap_or_else(PoisonError::into_inner));
        age >= OLD || age >= AGAIN && !self.signers.read().unwrap_or_else(PoisonError::into_inner).contains_key(&kid)
    }

    /// Reads the keys again if that is needed for this token. Where they cannot be read those that are known stay.
    pub async fn refresh(&self, token: &str, now: Instant) {
        if !self.is_stale(token, now) {
            return;
        }
        let _reading = self.reading.lock().await;
        if self.is_stale(token, now)
            && let Err(error) = self.read(now).await
        {
            tracing::warn!(error, "the keys for tokens cannot be read again");
        }
    }

    /// Who shows a token, as if by a key.
    ///
    /// # Errors
    /// Why the token is not taken.
    pub fn caller(&self, token: &str) -> Result<Key, String> {
        let header = decode_header(token).map_err(|_| "it is neither a key nor a token with a header that can be read")?;
        let kid = header.kid.ok_or("the token does not name its key (`kid`)")?;
        let signers = self.signers.read().unwrap_or_else(PoisonError::into_inner);
        let (algorithm, key) = signers.get(&kid).ok_or("the token is signed with a key that is not known")?;
        let mut validation = Validation::new(*algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Map<String, Value>>(token, key, &validation);
        let claims = claims.map_err(|error| format!("the token is not taken: {error}"))?.claims;
        let claim =
            |name: &str| claims.get(name).and_then(Value::as_str).ok_or_else(|| format!("the token has no text in its claim `{name}`"));
        let subject = claim("sub")?;
        let role = claim(&self.config.role_claim)?;
        let tenant = claim(&self.config.tenant_claim)?;
        super::api::named("a tenant", tenant)
            .map_err(|problem| format!("the token's claim `{}`: {}", self.config.tenant_claim, problem.detail))?;
        let role = Role::parse(role).ok_or_else(|| format!("the token's claim `{}`: there is no role `{role}`", self.config.role_claim))?;
        Ok(Key {
            id: format!("jwt:{subject}"),
            hash: String::new(),
            name: subject.to_owned(),
            role,
            tenant: (tenant != ALL).then(|| tenant.to_owned()),
            created: 0,
        })
    }
}

fn is_address(place: &str) -> bool {
    place.starts_with("https://")
}

fn text(place: &str) -> Result<String, String> {
    let about = |error: &dyn std::fmt::Display| format!("{place}: {error}");
    if !is_address(place) {
        return std::fs::read_to_string(place).map_err(|error| about(&error));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder().https_only(true).timeout_global(Some(Duration::from_secs(5))).build().into();
    let mut response = agent.get(place).call().map_err(|error| about(&error))?;
    response.body_mut().with_config().limit(JWKS_BYTES).read_to_string().map_err(|error| about(&error))
}

/// The keys of a set that can be used. Others, for other algorithms or for encryption, are none of ours.
fn signers(text: &str) -> Result<Signers, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("not a set of keys (JWKS): {error}"))?;
    let signer = |jwk: &Jwk| {
        let algorithm = algorithm(jwk)?;
        Some((jwk.common.key_id.clone()?, (algorithm, DecodingKey::from_jwk(jwk).ok()?)))
    };
    Ok(set.keys.iter().filter_map(signer).collect())
}

/// The algorithm of a public key that signs: RS256, ES256 or EdDSA.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return None;
    }
    // Of a wrong length the verifier would make no key, or panic.
    let is_long = |part: &str, bytes: usize| URL_SAFE_NO_PAD.decode(part).is_ok_and(|part| part.len() == bytes);
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) => {
            (key.curve == EllipticCurve::P256 && is_long(&key.x, 32) && is_long(&key.y, 32)).then_some(Algorithm::ES256)?
        }
        AlgorithmParameters::OctetKeyPair(key) => {
            (key.curve == EllipticCurve::Ed25519 && is_long(&key.x, 32)).then_some(Algorithm::EdDSA)?
        }
        _ => return None,
    };
    jwk.common.key_algorithm.is_none_or(|named| named == algorithm.into()).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;
    use std::time::SystemTime;

    fn now() -> i64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
    }

    fn rsa() -> EncodingKey {
        let text: String = include_str!("../../tests/keys/rsa.pem").lines().filter(|line| !line.starts_with('-')).collect();
        EncodingKey::from_rsa_der(&STANDARD.decode(text).unwrap())
    }

    /// A key pair, and its public part under a name.
    fn pair(algorithm: Algorithm, kid: &str) -> (EncodingKey, Value) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match algorithm {
            Algorithm::RS256 => {
                let jwk = serde_json::to_value(Jwk::from_encoding_key(&rsa(), algorithm).unwrap()).unwrap();
                (rsa(), json!({"kty": "RSA", "n": jwk["n"], "e": jwk["e"], "kid": kid, "use": "sig"}))
            }
            Algorithm::ES256 => {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
                let point = pair.public_key_raw();
                let jwk =
                    json!({"kty": "EC", "crv": "P-256", "x": part(&point[1..33]), "y": part(&point[33..]), "kid": kid, "alg": "ES256"});
                (EncodingKey::from_ec_der(&pair.serialize_der()), jwk)
            }
            _ => {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": part(pair.public_key_raw()), "kid": kid});
                (EncodingKey::from_ed_der(&pair.serialize_der()), jwk)
            }
        }
    }

    async fn open(keys: &[Value]) -> (tempfile::TempDir, Jwt) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
        let config = config::Jwt {
            issuer: "https://issuer".to_owned(),
            audience: "dynamic-cep".to_owned(),
            jwks: path.to_str().unwrap().to_owned(),
            ..config::Jwt::default()
        };
        (folder, Jwt::open(&config).await.unwrap().unwrap())
    }

    fn token(algorithm: Algorithm, kid: &str, key: &EncodingKey, changed: &Value) -> String {
        let mut claims =
            json!({"iss": "https://issuer", "aud": "dynamic-cep", "sub": "ada", "exp": now() + 600, "role": "viewer", "tenant": "acme"});
        for (name, value) in changed.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        encode(&Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }, &claims, key).unwrap()
    }

    #[tokio::test]
    async fn tokens_of_all_kinds_name_role_and_tenant() {
        let kinds = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
        let pairs = kinds.map(|algorithm| pair(algorithm, &format!("{algorithm:?}")));
        let (_folder, jwt) = open(&pairs.each_ref().map(|(_, jwk)| jwk.clone())).await;
        for (algorithm, (key, _)) in kinds.iter().zip(&pairs) {
            for (role, tenant) in Role::ALL.into_iter().flat_map(|role| [(role, "acme"), (role, ALL)]) {
                let shown = token(*algorithm, &format!("{algorithm:?}"), key, &json!({"role": role.name(), "tenant": tenant}));
                let caller = jwt.caller(&shown).unwrap();
                assert_eq!((caller.role, caller.tenant.as_deref()), (role, (tenant != ALL).then_some(tenant)));
                assert_eq!((&*caller.name, &*caller.id), ("ada", "jwt:ada"));
            }
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_tokens_is_noticed() {
        let ((key, jwk), (stranger, _)) = (pair(Algorithm::EdDSA, "ed"), pair(Algorithm::EdDSA, "ed"));
        let ((rsa, rsa_jwk), (_, wide)) = (pair(Algorithm::RS256, "rsa"), pair(Algorithm::RS256, "wide"));
        let mut wide = wide;
        wide["alg"] = "RS512".into();
        let short = json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "short"});
        let secret = json!({"kty": "oct", "k": "AAAA", "kid": "secret"});
        let (_folder, jwt) = open(&[jwk.clone(), rsa_jwk.clone(), short, secret, wide]).await;
        let with = |changed: Value| token(Algorithm::EdDSA, "ed", &key, &changed);
        assert!(
            jwt.caller(&with(json!({"exp": now() - 30, "nbf": now() + 30, "aud": ["other", "dynamic-cep"]}))).is_ok(),
            "clocks may differ"
        );
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = with(json!({}));
        let parts: Vec<&str> = signed.split('.').collect();
        let none = |alg: &str| format!("{}.{}.", part(json!({"alg": alg, "typ": "JWT", "kid": "ed"})), parts[1]);
        let forged = format!("{}.{}.{}", parts[0], part(json!({"role": "admin", "tenant": "all"})), parts[2]);
        // What is public about a key as if it was a secret that both sides know.
        let modulus = URL_SAFE_NO_PAD.decode(rsa_jwk["n"].as_str().unwrap()).unwrap();
        let confused = [modulus, rsa_jwk.to_string().into_bytes(), include_bytes!("../../tests/keys/rsa.pem").to_vec()];
        let confused = confused.map(|secret| token(Algorithm::HS256, "rsa", &EncodingKey::from_secret(&secret), &json!({})));
        let wrong = [
            (with(json!({"exp": now() - 90})), "ExpiredSignature"),
            (with(json!({"exp": null})), "exp"),
            (with(json!({"nbf": now() + 90})), "ImmatureSignature"),
            (with(json!({"iss": "https://other"})), "InvalidIssuer"),
            (with(json!({"iss": null})), "iss"),
            (with(json!({"aud": "other"})), "InvalidAudience"),
            (with(json!({"aud": null})), "aud"),
            (with(json!({"sub": null})), "sub"),
            (with(json!({"role": "root"})), "no role `root`"),
            (with(json!({"role": null})), "`role`"),
            (with(json!({"tenant": null})), "`tenant`"),
            (with(json!({"tenant": "a/b"})), "`tenant`"),
            (with(json!({"tenant": ["acme"]})), "`tenant`"),
            (token(Algorithm::EdDSA, "ed", &stranger, &json!({})), "InvalidSignature"),
            (token(Algorithm::EdDSA, "nobody", &key, &json!({})), "not known"),
            (token(Algorithm::EdDSA, "rsa", &key, &json!({})), "InvalidAlgorithm"),
            (token(Algorithm::RS512, "rsa", &rsa, &json!({})), "InvalidAlgorithm"),
            (token(Algorithm::EdDSA, "short", &key, &json!({})), "not known"),
            (token(Algorithm::RS256, "wide", &rsa, &json!({})), "not known"),
            (token(Algorithm::HS256, "secret", &EncodingKey::from_secret(&[0, 0, 0]), &json!({})), "not known"),
            (forged, "InvalidSignature"),
            (none("none"), "header"),
            (none("None"), "header"),
            (none("HS256"), "InvalidAlgorithm"),
            (none("EdDSA"), "InvalidSignature"),
            (String::new(), "header"),
            ("a.b.c".to_owned(), "header"),
        ];
        for (shown, why) in wrong.into_iter().chain(confused.map(|shown| (shown, "InvalidAlgorithm"))) {
            let told = jwt.caller(&shown).map(|caller| caller.id).expect_err(why);
            assert!(told.contains(why), "{told}, not {why}");
        }
    }

    #[tokio::test]
    async fn keys_are_read_again_when_one_is_not_known() {
        let ((old, old_jwk), (new, new_jwk)) = (pair(Algorithm::EdDSA, "old"), pair(Algorithm::EdDSA, "new"));
        let (folder, jwt) = open(&[old_jwk]).await;
        let begun = Instant::now();
        let (by_old, by_new) = (token(Algorithm::EdDSA, "old", &old, &json!({})), token(Algorithm::EdDSA, "new", &new, &json!({})));
        std::fs::write(folder.path().join("jwks.json"), json!({"keys": [new_jwk]}).to_string()).unwrap();
        jwt.refresh(&by_new, begun + AGAIN / 2).await;
        assert!(jwt.caller(&by_new).is_err(), "too soon");
        jwt.refresh(&by_old, begun + AGAIN).await;
        assert!(jwt.caller(&by_old).is_ok(), "a key that is known is no cause");
        jwt.refresh(&by_new, begun + AGAIN).await;
        assert!(jwt.caller(&by_new).is_ok() && jwt.caller(&by_old).is_err());
        std::fs::write(folder.path().join("jwks.json"), "{").unwrap();
        jwt.refresh(&by_old, begun + AGAIN * 3).await;
        assert!(jwt.caller(&by_new).is_ok(), "what cannot be read takes nothing away");
        std::fs::write(folder.path().join("jwks.json"), json!({"keys": []}).to_string()).unwrap();
        jwt.refresh(&by_new, begun + AGAIN * 3 + OLD).await;
        assert!(jwt.caller(&by_new).is_err(), "what was taken back is forgotten after a while");
    }
}
