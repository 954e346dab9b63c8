//! Settings as a whole: from words to meaning, and every sentence about a wrong one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use crate::listen::access_log::Target;
use crate::node::settings::Settings;
use crate::node::settings::durable::Database;
use crate::node::settings::listen::Host;
use crate::node::settings::said::Sources;

fn load_bytes(file: &[u8], environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    Settings::load(&Sources {
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        file: Some(PathBuf::from("a.conf")),
        prefix: None,
        read_file: &|path: &Path| match path.to_str() {
            Some("a.conf") => Ok(file.to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
    })
}

fn load(file: &str) -> Settings {
    load_bytes(file.as_bytes(), &[]).unwrap()
}

fn check_problems(file: &str, expected: &[&str]) {
    assert_eq!(load_bytes(file.as_bytes(), &[]).unwrap_err(), expected, "{file}");
}

#[test]
fn defaults_are_those_of_a_first_start() {
    let settings = load("");
    assert!(matches!(settings.database, Database::Embedded));
    assert_eq!(settings.node.prefix, Path::new("tidegate-data"));
    assert_eq!(
        (settings.proxy.listen.len(), settings.admin.listen.len(), settings.admin.status_listen.len()),
        (2, 2, 1)
    );
    assert_eq!(settings.logs.proxy_access, Target::Stdout);
    assert_eq!(settings.logs.error, Target::Stderr);
    assert_eq!(settings.logs.status_access, Target::Off);
    assert!(settings.proxy.response_headers.server && settings.proxy.response_headers.admin_latency);
    assert!(!settings.proxy.response_headers.upstream_status);
    assert_eq!(settings.node.drain.delay, Duration::ZERO);
    assert_eq!(settings.node.limit_counters_max, 1_048_576);
    assert!(settings.cluster.listen.is_none());
    assert!(settings.warnings().is_empty());
}

#[test]
fn the_environment_of_the_tutorial_is_understood() {
    let settings = load_bytes(
        b"",
        &[
            ("KONG_DATABASE", "postgres"),
            ("KONG_PG_HOST", "db.internal"),
            ("KONG_PG_USER", "kong"),
            ("KONG_PG_PASSWORD", "{vault://env/db-pass}"),
            ("DB_PASS", "hush"),
            ("KONG_PG_SSL", "on"),
            ("KONG_ADMIN_LISTEN", "0.0.0.0:8001"),
            ("KONG_TRUSTED_IPS", "0.0.0.0/0,::/0"),
            ("KONG_REAL_IP_HEADER", "Fly-Client-IP"),
            ("KONG_PROXY_ACCESS_LOG", "/dev/stdout"),
            ("KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "10m"),
            ("FLY_MACHINE_ID", "3d8d9fe0c60189"),
            ("FLY_REGION", "fra"),
        ],
    )
    .unwrap();
    let Database::Postgres(postgres) = &settings.database else { panic!("{:?}", settings.database) };
    assert_eq!(
        (postgres.host.as_str(), postgres.password.as_deref(), postgres.ssl),
        ("db.internal", Some("hush"), true)
    );
    assert_eq!(settings.proxy.trusted_ips.len(), 2);
    assert_eq!(settings.proxy.real_ip_header, "fly-client-ip");
    assert_eq!(settings.proxy.client_max_body_size, 10 << 20);
    assert_eq!((settings.node.id.as_deref(), settings.node.region.as_str()), (Some("3d8d9fe0c60189"), "fra"));
    assert_eq!(settings.node.drain.delay, Duration::from_secs(5));
    assert_eq!(settings.warnings().len(), 1, "the Admin API is open");
}

#[test]
fn every_wrong_value_is_named_at_once() {
    check_problems(
        "database = foo\nlog_level = x\npg_port = many\nproxy_listen = 8000\ntrusted_ips = 10.0.0.0/8, here\n",
        &[
            "log_level has an invalid value: 'x' (debug, info, notice, warn, error, crit, alert, emerg)",
            "database has an invalid value: 'foo' (embedded, postgres, off)",
            "pg_port is not a number: 'many'",
            "proxy_listen must be of form: [off] | <ip>:<port> [ssl] [http2] [proxy_protocol] [deferred] [bind] \
             [reuseport] [backlog=N] [ipv6only=on|off] [so_keepalive=on|off|IDLE:INTERVAL:COUNT], \
             [... next entry ...], got '8000'",
            "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address or CIDR block or 'unix:', \
             got 'here'",
        ],
    );
}

#[test]
fn each_mistake_has_its_sentence() {
    check_problems("headers = server_tokens, x-nonsense", &["headers: invalid entry 'x-nonsense'"]);
    check_problems("port_maps = 80", &["invalid port mapping (`port_maps`): 80"]);
    check_problems("ssl_cert = a.pem", &["ssl_cert_key must be specified"]);
    check_problems(
        "ssl_cert = a.pem, b.pem\nssl_cert_key = a.key",
        &["ssl_cert was specified 2 times while ssl_cert_key was specified 1 times"],
    );
    check_problems(
        "dns_resolver = here",
        &["dns_resolver must be a comma separated list in the form of IPv4/6 or IPv4/6:port, got 'here'"],
    );
    check_problems("pg_ssl = yes", &["pg_ssl has an invalid value: 'yes' (on, off)"]);
    check_problems("role = data_plane", &["role has an invalid value: 'data_plane' (traditional)"]);
    check_problems(
        "database = postgres\npg_port = 70000",
        &["pg_port has an invalid value: '70000' (a whole number from 1 to 65535)"],
    );
    check_problems(
        "nginx_worker_processes = 0",
        &["nginx_worker_processes has an invalid value: '0' (auto, or a whole number from 1 to 256)"],
    );
    check_problems(
        "client_max_body_size = 10q",
        &["client_max_body_size has an invalid value: '10q' (bytes, as in 10m; 0: no limit)"],
    );
    check_problems(
        "cluster_listen = [::]:8005",
        &["cluster_listen needs cluster_secret, or cluster_cert with its key and authority"],
    );
}

#[test]
fn cassandra_gets_kongs_sentence_first() {
    let problems = load_bytes(b"database = cassandra", &[]).unwrap_err();
    assert!(problems[0].starts_with("Cassandra as a datastore"), "{problems:?}");
}

#[test]
fn the_document_masks_secrets_and_types_the_rest() {
    let settings = load("pg_password = hush\nadmin_token = t\nproxy_listen = 127.0.0.1:8000\n");
    let document = &settings.document;
    assert_eq!(document["pg_password"], "******");
    assert_eq!(document["admin_token"], "******");
    assert_eq!(document["admin_token_readonly"], serde_json::Value::Null);
    assert_eq!(document["proxy_listen"], serde_json::json!(["127.0.0.1:8000"]));
    assert_eq!(document["pg_port"], 5432);
    assert_eq!(document["pg_ssl"], false);
    assert!(!document.to_string().contains("hush"));
}

#[test]
fn fly_and_a_secret_make_a_cluster() {
    let settings = load_bytes(
        b"cluster_secret = 0123456789abcdef",
        &[("FLY_APP_NAME", "gate"), ("FLY_PRIVATE_IP", "fdaa::3"), ("FLY_MACHINE_ID", "e2")],
    )
    .unwrap();
    assert_eq!(settings.cluster.advertise, Some((Host::Ip("fdaa::3".parse().unwrap()), 8005)));
    assert!(settings.cluster.on_fly);
    assert_eq!(settings.cluster.listen, Some("[::]:8005".parse().unwrap()));
    assert_eq!(settings.cluster.seeds.len(), 1);
}

#[test]
fn clients_get_the_time_that_nginx_directives_give() {
    let settings = load("nginx_http_keepalive_timeout = 5s\nnginx_http_client_body_timeout = 2m");
    let patience = settings.proxy.patience;
    assert_eq!((patience.head, patience.body), (Duration::from_secs(5), Duration::from_secs(120)));
    check_problems(
        "nginx_http_send_timeout = 0",
        &["nginx_http_send_timeout has an invalid value: '0' (a time above 0, as in 60s)"],
    );
}

#[test]
fn a_token_closes_the_admin_api() {
    assert_eq!(load("admin_listen = 0.0.0.0:8001").warnings().len(), 1);
    assert_eq!(load("admin_listen = 0.0.0.0:8001\nadmin_token = t").warnings().len(), 0);
    assert_eq!(load("admin_listen = off").warnings().len(), 0);
}

#[test]
fn a_database_that_kong_would_use_and_we_do_not_is_mentioned() {
    assert_eq!(load("pg_host = db").warnings().len(), 1);
    assert_eq!(load("pg_host = db\ndatabase = postgres").warnings().len(), 0);
    assert_eq!(load("pg_host = db\ndatabase = embedded").warnings().len(), 0);
}

proptest! {
    #[test]
    fn any_bytes_load_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = load_bytes(&bytes, &[]).map_err(|problems| assert!(!problems.is_empty()));
    }

    #[test]
    fn any_value_of_any_property_loads_or_is_refused(
        at in 0..crate::node::settings::table::PROPERTIES.len(),
        value in "[ -~éß\\t]{1,40}",
    ) {
        let name = crate::node::settings::table::PROPERTIES[at].name;
        let variable = format!("TIDEGATE_{}", name.to_uppercase());
        let _ = load_bytes(b"", &[(&variable, &value)]).map_err(|problems| {
            assert!(problems.iter().all(|problem| !problem.is_empty()));
        });
    }
}
