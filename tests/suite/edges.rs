//! The edges of the process that serves: limits of callers and tenants, what is counted, tokens, encrypted connections, fields that are told to nobody.

use super::service::{BINARY, Process, SCHEMA, folder, large};
use super::support::project;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn with(process: &Process, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    process.send(method, path, key, "application/json", body.to_string().as_bytes())
}

/// Who asks for more than is allowed is told so, and when to come again; others go on.
#[test]
fn callers_and_tenants_have_limits() {
    let folder = folder();
    let variables = [
        ("DYNAMIC_CEP_LIMITS_EVENTS_PER_SECOND", "1000000"),
        ("DYNAMIC_CEP_LIMITS_REQUESTS_PER_SECOND", "40"),
        ("DYNAMIC_CEP_LIMITS_RULES_MAX", "9"),
    ];
    let process = Process::start_with(folder.path(), None, &variables);
    assert_eq!(process.send("PUT", "/v1/schema", &process.key, "application/yaml", SCHEMA.as_bytes()).0, 200);
    let keys = ["acme", "zeta"].map(|tenant| process.add_key("scorer", Some(tenant)));
    for tenant in ["acme", "zeta"] {
        process.done("PUT", &format!("/v1/tenants/{tenant}"), &json!({}));
    }
    let limited = process.done("PATCH", "/v1/tenants/acme", &json!({"events_per_second": 1, "rules_max": 2, "list_entries_max": 1}));
    let limits = json!({"events_per_second": 1, "rules_max": 2, "list_entries_max": 1});
    assert_eq!(limited["limits"], limits);
    assert_eq!(process.call("PATCH", "/v1/tenants/nobody", &json!({})).0, 404);
    assert_eq!(process.call("PATCH", "/v1/tenants/acme", &json!({"events_per_second": -1})).0, 400);
    let tenants = process.done("GET", "/v1/tenants", &Value::Null)["tenants"].clone();
    assert_eq!((&tenants[0]["limits"], &tenants[1]["limits"]["rules_max"]), (&limits, &json!(9)));

    // Events: a debt of an hour, and another tenant that has none.
    let many = Value::Array(vec![json!({"amount": 1}); 3600]);
    assert_eq!(with(&process, &keys[0], "POST", "/v1/score", &many).0, 200);
    let refused = with(&process, &keys[0], "POST", "/v1/score", &json!({"amount": 1}));
    assert!(refused.0 == 429 && refused.1["detail"].as_str().unwrap().contains("`acme` may bring 1 events a second"), "{refused:?}");
    assert_eq!(with(&process, &keys[1], "POST", "/v1/score", &many).0, 200);
    // The same of events that a key of every tenant brings.
    let mixed = process.done("POST", "/v1/score", &json!([{"tenant": "acme"}, {"tenant": "zeta"}, {}]));
    assert!(mixed["results"][0]["error"].as_str().unwrap().contains("may bring 1 events"), "{mixed}");
    assert!(mixed["results"][1]["action"] == "allow" && mixed["results"][2]["action"] == "allow", "{mixed}");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.post(format!("{}/v1/score", process.url)).header("authorization", format!("Bearer {}", process.key));
    let response = request.send(r#"{"tenant": "acme"}"#).expect("an answer");
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(response.status() == 429 && (3000..3700).contains(&wait), "{response:?}");

    // Rules: of a version, and of all that are in service.
    let path = "/v1/tenants/acme/rule-sets/main/versions";
    let push = |rules: &str| process.call("POST", path, &json!({"files": [{"name": "rules.yaml", "text": rules}]}));
    let rule = |id: usize| format!("- {{id: r{id}, when: amount > {id}}}\n");
    let three = push(&format!("rules:\n{}{}{}", rule(1), rule(2), rule(3)));
    assert!(three.0 == 422 && three.1["detail"].as_str().unwrap().contains("would have 3 rules in a version, and may have 2"), "{three:?}");
    let listed = push("lists: {l: ['a', 'b']}\nrules: [{id: a, when: card IN LIST l}]");
    assert!(listed.0 == 422 && listed.1["detail"].as_str().unwrap().contains("2 entries of lists"), "{listed:?}");
    let two = push(&format!("rules:\n{}{}", rule(1), rule(2))).1["version"].as_i64().unwrap();
    let one = process.push("acme", &large(5, "review"));
    process.activate("acme", two);
    let shadow = format!("/v1/tenants/acme/rule-sets/main/shadows/{one}");
    let refused = process.call("PUT", &shadow, &Value::Null);
    assert!(refused.0 == 422 && refused.1["detail"].as_str().unwrap().contains("3 rules in service"), "{refused:?}");
    process.done("PATCH", "/v1/tenants/acme/rule-sets/main/rules/r1", &json!({"status": "off"}));
    process.done("PUT", &shadow, &Value::Null);
    assert_eq!(process.call("PATCH", "/v1/tenants/acme/rule-sets/main/rules/r1", &json!({"status": "live"})).0, 422);
    process.done("PATCH", "/v1/tenants/acme", &json!({"rules_max": null}));
    process.done("PATCH", "/v1/tenants/acme/rule-sets/main/rules/r1", &json!({"status": "live"}));
    let log = process.done("GET", "/v1/audit?limit=1000", &Value::Null);
    assert_eq!(log["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "tenant.limits").count(), 2);

    // Limits outlast the process. Requests: of each key.
    let key = process.key.clone();
    process.kill();
    let process = Process::start_with(folder.path(), Some(&key), &variables);
    assert_eq!(process.done("GET", "/v1/tenants", &Value::Null)["tenants"][0]["limits"]["list_entries_max"], 1);
    let statuses: Vec<u16> = (0..200).map(|_| with(&process, &keys[0], "GET", "/v1/status", &Value::Null).0).collect();
    assert!(statuses.contains(&429) && statuses[0] == 403, "{statuses:?}");
    assert_eq!(with(&process, &keys[1], "POST", "/v1/score", &json!({"amount": 1})).0, 200, "another key");
}

/// Begins a request whose body does not come yet.
fn begun(process: &Process, key: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(process.url.strip_prefix("http://").expect("an address")).expect("a connection");
    let head = format!(
        "POST /v1/score HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is taken");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    stream
}

/// Strangers are refused before their bodies are read; those who are known have a place each, and who watches the process needs none.
#[test]
fn requests_have_places() {
    let folder = folder();
    let process = Process::start_with(folder.path(), None, &[("DYNAMIC_CEP_LIMITS_REQUESTS_IN_FLIGHT", "1")]);
    let version = process.push("all", &large(10, "review"));
    process.activate("all", version);
    let answer = |mut stream: TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in time");
        answer
    };
    let refused = answer(begun(&process, "dcep_00_00", 900_000));
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let mut slow = begun(&process, &process.key, 14);
    let since = Instant::now();
    loop {
        let (status, told) = process.call("GET", "/v1/status", &Value::Null);
        if status == 429 {
            assert!(told["detail"].as_str().unwrap().contains("1 requests are being answered"), "{told}");
            break;
        }
        assert!(status == 200 && since.elapsed() < Duration::from_secs(30), "{status} {told}");
    }
    assert_eq!(process.call("GET", "/healthz", &Value::Null).0, 200);
    slow.write_all(b"{\"amount\": 11}").expect("the rest");
    let judged = answer(slow);
    assert!(judged.starts_with("HTTP/1.1 200") && judged.contains("all/main/large"), "{judged}");
    assert_eq!(process.call("GET", "/v1/status", &Value::Null).0, 200, "the place is free again");
}

/// Windows of a tenant whose state is more than it may have are not known, and those of others are.
#[test]
fn state_of_tenants_is_bounded() {
    let rules = "windows:\n  seen: COUNT(*) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)\n\
        rules:\n- {id: often, when: seen > 2}\n";
    let often = |most: &str| {
        let folder = folder();
        let process = Process::start_with(folder.path(), None, &[("DYNAMIC_CEP_LIMITS_STATE_BYTES_MAX", most)]);
        let version = process.push("all", rules);
        process.activate("all", version);
        let event = |row: usize| json!({"tenant": if row < 300 { "much" } else { "little" }, "card": (row % 100).to_string(), "at": "2026-01-01T00:00:00Z"});
        let few = (0..3).map(|_| json!({"tenant": "little", "card": "a", "at": "2026-01-01T00:00:00Z"}));
        let events: Vec<Value> = (0..300).map(event).chain(few).collect();
        let results = process.done("POST", "/v1/score", &Value::Array(events))["results"].clone();
        let count = |range: std::ops::Range<usize>| range.filter(|row| results[*row]["rules"] == json!(["all/main/often"])).count();
        (count(0..300), count(300..303))
    };
    assert_eq!(often("0"), (100, 1));
    let (much, little) = often("4000");
    assert!(much < 50 && little == 1, "{much} and {little}");
}

/// What is counted: of single tenants and rules as far as there is room, and for a key of one tenant its own alone.
#[test]
fn metrics_are_of_tenants_and_rules() {
    let folder = folder();
    let process =
        Process::start_with(folder.path(), None, &[("DYNAMIC_CEP_METRICS_TENANTS_MAX", "2"), ("DYNAMIC_CEP_METRICS_RULES_MAX", "2")]);
    for tenant in ["all", "acme"] {
        let version = process.push(tenant, &large(10, "review"));
        process.activate(tenant, version);
    }
    let version = process.push("zeta", &large(10, "block"));
    process.activate("zeta", version);
    for (tenant, amount) in [("acme", 20), ("acme", 5), ("zeta", 20), ("late", 20), ("later", 5)] {
        process.score(&json!({"tenant": tenant, "amount": amount, "card": "c"}));
    }
    assert_eq!(process.call("POST", "/v1/score", &json!({"tenant": "acme", "amount": "much"})).0, 422);
    let (scorer, viewer) = (process.add_key("scorer", Some("acme")), process.add_key("viewer", Some("acme")));
    assert_eq!(with(&process, &scorer, "POST", "/v1/score", &json!({"amount": "much"})).0, 422);
    let metrics = |key: &str| with(&process, key, "GET", "/metrics", &Value::Null).1.as_str().expect("text").to_owned();
    let (all, own) = (metrics(&process.key), metrics(&viewer));
    let tenant_series = [
        "dynamic_cep_tenant_decisions_total{tenant=\"acme\",action=\"review\"} 1",
        "dynamic_cep_tenant_decisions_total{tenant=\"acme\",action=\"allow\"} 1",
        "dynamic_cep_tenant_hits_total{tenant=\"acme\"} 2",
        "dynamic_cep_tenant_rejected_events_total{tenant=\"acme\"} 1",
        "dynamic_cep_rule_hits_total{rule=\"acme/main/large\"} 1",
    ];
    let process_series = [
        "dynamic_cep_tenant_decisions_total{tenant=\"zeta\",action=\"block\"} 1",
        "dynamic_cep_tenant_decisions_total{tenant=\"other\",action=\"review\"} 1",
        "dynamic_cep_tenant_decisions_total{tenant=\"other\",action=\"allow\"} 1",
        "dynamic_cep_rule_hits_total{rule=\"all/main/large\"} 3",
        "dynamic_cep_rule_hits_total{rule=\"other\"} 1",
        "dynamic_cep_rejected_events_total 2",
        "dynamic_cep_waiting_requests 0",
        "dynamic_cep_state_bytes{source=\"requests\",of=\"windows\"} 0",
    ];
    let has = |text: &str, line: &str| text.lines().any(|known| known == line);
    for line in tenant_series {
        assert!(has(&all, line) && has(&own, line), "{line}\n{all}\n{own}");
    }
    for line in process_series {
        assert!(has(&all, line) && !has(&own, line), "{line}\n{all}\n{own}");
    }
    assert!(!own.contains("zeta") && !own.contains("all/main"), "{own}");
    for stage in ["decode", "journal", "judge", "answer"] {
        assert!(all.contains(&format!("dynamic_cep_stage_seconds_count{{stage=\"{stage}\"}} ")), "{stage}\n{all}");
    }
    let bytes = all.lines().find_map(|line| line.strip_prefix("dynamic_cep_journal_bytes ")).expect("a gauge");
    assert!(bytes.parse::<u64>().unwrap() > 100, "{bytes}");
}

/// A token in the place of a key: its role and tenant are what it may.
#[test]
fn tokens_stand_for_keys() {
    let folder = folder();
    let jwks = folder.path().join("jwks.json");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
    std::fs::write(&jwks, json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one"}]}).to_string()).expect("a file");
    let variables = [
        ("DYNAMIC_CEP_AUTH_JWT_JWKS", jwks.to_str().unwrap()),
        ("DYNAMIC_CEP_AUTH_JWT_ISSUER", "https://issuer"),
        ("DYNAMIC_CEP_AUTH_JWT_AUDIENCE", "dynamic-cep"),
        ("DYNAMIC_CEP_AUTH_JWT_ROLE_CLAIM", "cep_role"),
    ];
    let process = Process::start_with(folder.path(), None, &variables);
    let token = |role: &str, tenant: &str, audience: &str, seconds: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let claims =
            json!({"iss": "https://issuer", "aud": audience, "sub": "ada", "exp": now + seconds, "cep_role": role, "tenant": tenant});
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(&pair.serialize_der())).unwrap()
    };
    let of = |role: &str, tenant: &str| token(role, tenant, "dynamic-cep", 60);
    let rules = json!({"files": [{"name": "schema.yaml", "text": SCHEMA}, {"name": "rules.yaml", "text": large(10, "review")}]});
    let versions = "/v1/tenants/acme/rule-sets/main/versions";
    assert_eq!(with(&process, &of("admin", "all"), "POST", "/v1/tenants/all/rule-sets/main/versions", &rules).0, 201);
    for (token, method, path, body, expected) in [
        (of("author", "acme"), "POST", versions, &rules, 201),
        (of("author", "zeta"), "POST", versions, &rules, 403),
        (of("viewer", "acme"), "POST", versions, &rules, 403),
        (of("author", "acme"), "PUT", "/v1/tenants/acme/rule-sets/main/live", &json!({"version": 1}), 403),
        (of("operator", "acme"), "PUT", "/v1/tenants/acme/rule-sets/main/live", &json!({"version": 1}), 200),
        (of("scorer", "acme"), "POST", "/v1/score", &json!({"amount": 20}), 200),
        (of("scorer", "acme"), "POST", "/v1/score", &json!({"amount": 20, "tenant": "zeta"}), 422),
        (of("viewer", "all"), "GET", "/v1/status", &Value::Null, 200),
        (of("admin", "acme"), "POST", "/v1/keys", &json!({"name": "k", "role": "viewer"}), 403),
        (token("viewer", "all", "other", 60), "GET", "/v1/status", &Value::Null, 401),
        (token("viewer", "all", "dynamic-cep", -90), "GET", "/v1/status", &Value::Null, 401),
        (format!("{}x", of("viewer", "all")), "GET", "/v1/status", &Value::Null, 401),
    ] {
        let answer = with(&process, &token, method, path, body);
        assert_eq!(answer.0, expected, "{method} {path}: {}", answer.1);
    }
    let log = process.done("GET", "/v1/audit", &Value::Null).to_string();
    assert!(log.contains("ada (jwt:ada)"), "{log}");
}

/// A certificate for this machine that nobody has signed, and its key.
fn certified(folder: &Path) -> (PathBuf, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (path, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&path, made.cert.pem()).expect("a file");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("a file");
    (path, made.cert.der().to_vec())
}

/// What a client that trusts these certificates comes to: the protocol that both sides agree on, and the answer to a request for `/healthz`.
fn over_tls(address: &str, trusted: &[u8], protocol: &str) -> Result<(Option<Vec<u8>>, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.to_vec().into()).map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let mut config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(client, stream);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // HTTP/2 answers what it does not understand by closing.
    let _ = stream.read_to_end(&mut answer);
    Ok((stream.conn.alpn_protocol().map(<[u8]>::to_vec), String::from_utf8_lossy(&answer).into_owned()))
}

/// Encrypted connections: who trusts the certificate is answered, who does not leaves; a new certificate is shown without a restart.
#[test]
fn connections_are_encrypted() {
    let (folder, certificates) = (folder(), folder());
    let (certificate, trusted) = certified(certificates.path());
    let key = certificates.path().join("key.pem");
    let variables =
        [("DYNAMIC_CEP_HTTP_TLS_CERTIFICATE", certificate.to_str().unwrap()), ("DYNAMIC_CEP_HTTP_TLS_KEY", key.to_str().unwrap())];
    let process = Process::start_with(folder.path(), None, &variables);
    let address = process.url.strip_prefix("https://").expect("an encrypted address").to_owned();
    // Someone who says nothing holds up nobody.
    let _silent = TcpStream::connect(&address).expect("a connection");
    let (protocol, answer) = over_tls(&address, &trusted, "http/1.1").expect("an answer");
    assert!(protocol.as_deref() == Some(b"http/1.1") && answer.contains("200 OK") && answer.ends_with("ok\n"), "{answer}");
    assert_eq!(over_tls(&address, &trusted, "h2").expect("agreed").0.as_deref(), Some(&b"h2"[..]));
    assert!(over_tls(&address, &trusted, "smtp").is_err(), "a protocol that is not spoken");

    let pack = project("rules/fraud");
    let push = |more: &[&str]| {
        let command = Command::new(BINARY).arg("push").arg(&pack).args(["--url", &process.url, "--key", &process.key]).args(more).output();
        command.expect("the command runs")
    };
    let trusting = push(&["--ca", certificate.to_str().unwrap()]);
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stderr));
    let doubting = push(&[]);
    let told = String::from_utf8_lossy(&doubting.stderr).into_owned();
    assert!(!doubting.status.success() && told.contains("certificate"), "{told}");
    let wrong = push(&["--ca", pack.join("schema.yaml").to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no certificate in it"));

    let (_, renewed) = certified(certificates.path());
    assert!(over_tls(&address, &renewed, "http/1.1").is_err(), "the old one is still shown");
    let told = Command::new("kill").args(["-HUP", &process.id().to_string()]).status().expect("the command runs");
    assert!(told.success());
    let begun = Instant::now();
    while over_tls(&address, &renewed, "http/1.1").is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new certificate is never shown");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(over_tls(&address, &trusted, "http/1.1").is_err(), "the old one is gone");
    // What cannot be read changes nothing.
    std::fs::write(&certificate, "nothing").expect("a file");
    Command::new("kill").args(["-HUP", &process.id().to_string()]).status().expect("the command runs");
    std::thread::sleep(Duration::from_millis(200));
    assert!(over_tls(&address, &renewed, "http/1.1").is_ok());
    process.kill();
    let refused = Command::new(BINARY)
        .arg("serve")
        .env("DYNAMIC_CEP_DATA_DIR", folder.path())
        .env("DYNAMIC_CEP_HTTP_LISTEN", "127.0.0.1:0")
        .envs(variables)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("certificate.pem: there is no certificate in it"), "{told}");
}

const CARD: &str = "4111111111111111";

/// All that a process says of events with a card number, as text; and what stands for the card in a finding.
fn said_of_a_card(sensitive: &str) -> (String, Value) {
    let folder = folder();
    let process = Process::start_with(folder.path(), None, &[("DYNAMIC_CEP_LOG", "trace")]);
    let schema = format!(
        "fields: {{id: int64, tenant: utf8, card: int64, amount: int64, at: timestamp(ms)}}\nid: id\ntenant: tenant\ntime: at\n{sensitive}"
    );
    let rules = "windows:\n  spent: SUM(amount) OVER (PARTITION BY card ORDER BY at RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)\n\
        rules:\n- {id: often, when: spent > 1}\n- id: rises\n  match_recognize: |\n    PARTITION BY card ORDER BY at\n    \
        MEASURES a.card AS of, CAST(LAST(b.card) AS text) || '!' AS told, COUNT(b.card) AS times, b.amount AS amount\n    \
        PATTERN (a b) DEFINE b AS amount > a.amount\n";
    let files = json!({"files": [{"name": "schema.yaml", "text": schema}, {"name": "rules.yaml", "text": rules}]});
    let mut said: Vec<String> = Vec::new();
    let mut send = |method: &str, path: &str, body: &str| {
        let kind = if body.starts_with('"') { "application/x-ndjson" } else { "application/json" };
        let answer = process.send(method, path, &process.key, kind, body.as_bytes());
        said.push(answer.1.to_string());
        answer
    };
    assert_eq!(send("POST", "/v1/tenants/all/rule-sets/main/versions", &files.to_string()).0, 201);
    assert_eq!(send("PUT", "/v1/tenants/all/rule-sets/main/live", "{\"version\": 1}").0, 200);
    let event = |amount: i64| json!({"id": amount, "card": CARD.parse::<i64>().unwrap(), "amount": amount, "at": format!("2026-01-01T00:00:0{amount}Z")});
    let scored = send("POST", "/v1/score", &json!([event(1), event(2)]).to_string()).1;
    // What is wrong with an event is told, and may not quote it.
    for wrong in [
        format!("{{\"card\": \"{CARD} \\u0061\"}}"),
        format!("{{\"card\": {CARD}.5}}"),
        format!("{{\"card\": [{CARD}]}}"),
        format!("{{\"card\": {CARD}{CARD}}}"),
        format!("{{\"card\": {CARD}, \"amount\": \"much\"}}"),
        format!("{{\"card\": {CARD}"),
        format!("[{{\"card\": {CARD}}}, {CARD}]"),
        format!("\"{CARD}\""),
    ] {
        send("POST", "/v1/score", &wrong);
    }
    for path in ["/v1/findings", "/v1/audit", "/metrics", "/v1/status", "/v1/schema", "/v1/tenants", "/v1/keys"] {
        assert_eq!(send("GET", path, "").0, 200, "{path}");
    }
    let finding = scored["results"][1]["findings"][0].clone();
    assert_eq!((&finding["measures"]["times"], &finding["measures"]["amount"]), (&json!(1), &json!(2)), "{scored}");
    said.push(process.log());
    process.kill();
    let registry = std::fs::read(folder.path().join("registry.db")).expect("a registry");
    said.push(String::from_utf8_lossy(&registry).into_owned());
    (said.join("\n"), finding)
}

/// Fields marked as sensitive are told to nobody, in whatever a process says; where they are not marked the same look finds them.
#[test]
fn sensitive_fields_are_told_to_nobody() {
    let (said, finding) = said_of_a_card("sensitive: [card]\n");
    let quoted: Vec<&str> = said.lines().filter(|line| line.contains(CARD)).collect();
    assert!(quoted.is_empty(), "{quoted:#?}");
    let hash = finding["partition"]["card"].as_str().expect("a hash");
    assert!(hash.starts_with("hash:") && finding["measures"]["of"] == hash, "{finding}");
    assert!(finding["measures"]["told"].as_str().is_some_and(|told| told.starts_with("hash:") && told != hash), "{finding}");
    assert!(said.contains("the field is sensitive"), "{said}");
    let (said, other) = said_of_a_card("sensitive: [card, id]\n");
    assert!(said.contains("\"id\":\"hash:") && !said.contains("\"id\":1"), "{said}");
    assert!(other["partition"]["card"].is_string() && other["partition"]["card"] != hash, "each process has a key of its own");

    let (open, finding) = said_of_a_card("");
    assert_eq!(finding["partition"]["card"].to_string(), CARD);
    assert!(open.matches(CARD).count() > 6, "{open}");
}
