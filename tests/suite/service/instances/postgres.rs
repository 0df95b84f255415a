//! The same over PostgreSQL: `tests/services/postgres.sh` starts one, and DYNAMIC_CEP_POSTGRES is its URL.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Does something with a database of its own, which is dropped afterwards.
fn with_database(url: &str, then: impl FnOnce(&str)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = format!("dynamic_cep_{}", std::process::id());
    let run = |sql: String| {
        runtime.block_on(async {
            let mut connection = PgConnection::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("it may make databases");
        });
    };
    run(format!("CREATE DATABASE {name}"));
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    then(&format!("{server}/{name}"));
    run(format!("DROP DATABASE {name} WITH (FORCE)"));
}

#[test]
fn processes_share_a_registry_in_postgresql() {
    let Some(url) = crate::support::service_at("DYNAMIC_CEP_POSTGRES", "processes_share_a_registry_in_postgresql") else { return };
    with_database(&url, |registry| super::story(registry, 200));
}
