//! Every property, declared once: name, form, default, whether it is secret and what it does here.
//!
//! Loading, validation, the `configuration` of `GET /` and the note about properties without effect all read this
//! table. Kong's names are all known, so that an environment made for Kong is understood whole. The alternative, a
//! struct with a field per property and derived parsing, would state each name four times.

use crate::node::settings::property::{Effect, Property};
use crate::node::settings::value::Form;

const LEVELS: Form = Form::OneOf(&["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"]);
const MEDIA_TYPES: Form = Form::OneOf(&["text/plain", "application/json", "text/html", "application/xml"]);
const FLAVORS: Form = Form::OneOf(&["traditional_compatible", "traditional"]);

const fn here(name: &'static str, form: Form, default: &'static str) -> Property {
    Property { name, form, default, secret: false, effect: Effect::Here }
}

const fn unused(name: &'static str, form: Form, default: &'static str) -> Property {
    Property { name, form, default, secret: false, effect: Effect::None }
}

const fn secret(property: Property) -> Property {
    Property { secret: true, ..property }
}

/// A property by its name.
pub fn property(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.name == name)
}

pub static PROPERTIES: &[Property] = &[
    // The node.
    here("prefix", Form::Text, "tidegate-data"),
    here("node_id", Form::Text, ""),
    here("region", Form::Text, ""),
    here("plugins", Form::List, "bundled"),
    here("vault_env_prefix", Form::Text, ""),
    here("nginx_worker_processes", Form::Text, "auto"),
    here("drain_delay", Form::Number, ""),
    here("drain_timeout", Form::Number, "30"),
    here("limit_counters_max", Form::Number, "1048576"),
    here("role", Form::OneOf(&["traditional"]), "traditional"),
    // Logs.
    here("log_level", LEVELS, "notice"),
    here("log_format", Form::OneOf(&["text", "json"]), "text"),
    here("proxy_access_log", Form::Text, "/dev/stdout"),
    here("proxy_error_log", Form::Text, "/dev/stderr"),
    here("admin_access_log", Form::Text, "/dev/stdout"),
    here("status_access_log", Form::Text, "off"),
    // Listeners and their certificates.
    here(
        "proxy_listen",
        Form::List,
        "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
    ),
    here(
        "admin_listen",
        Form::List,
        "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 http2 ssl reuseport backlog=16384",
    ),
    here("status_listen", Form::List, "127.0.0.1:8007 reuseport backlog=16384"),
    here("port_maps", Form::List, ""),
    here("ssl_cert", Form::List, ""),
    secret(here("ssl_cert_key", Form::List, "")),
    here("admin_ssl_cert", Form::List, ""),
    secret(here("admin_ssl_cert_key", Form::List, "")),
    here("status_ssl_cert", Form::List, ""),
    secret(here("status_ssl_cert_key", Form::List, "")),
    // Clients: their address, what they may send, what they are told.
    here("trusted_ips", Form::List, ""),
    here("real_ip_header", Form::Text, "X-Real-IP"),
    here("real_ip_recursive", Form::Flag, "off"),
    here("headers", Form::List, "server_tokens, latency_tokens, X-Kong-Request-Id"),
    here("headers_upstream", Form::List, "X-Kong-Request-Id"),
    here("client_max_body_size", Form::Text, ""),
    here("nginx_http_client_max_body_size", Form::Text, "0"),
    here("nginx_http_keepalive_requests", Form::Number, "10000"),
    here("nginx_http_client_header_timeout", Form::Text, ""),
    here("nginx_http_keepalive_timeout", Form::Text, ""),
    here("nginx_http_client_body_timeout", Form::Text, ""),
    here("nginx_http_send_timeout", Form::Text, ""),
    here("nginx_http_large_client_header_buffers", Form::Text, ""),
    here("error_default_type", MEDIA_TYPES, "text/plain"),
    here("allow_debug_header", Form::Flag, "off"),
    here("allow_fly_replay", Form::Flag, "off"),
    // Upstreams.
    here("upstream_keepalive_pool_size", Form::Number, "512"),
    here("upstream_keepalive_max_requests", Form::Number, "10000"),
    here("upstream_keepalive_idle_timeout", Form::Number, "60"),
    here("lua_ssl_trusted_certificate", Form::List, "system"),
    here("dns_resolver", Form::List, ""),
    here("dns_valid_ttl", Form::Number, ""),
    here("dns_stale_ttl", Form::Number, "3600"),
    here("resolver_address", Form::List, ""),
    here("resolver_valid_ttl", Form::Number, ""),
    here("resolver_stale_ttl", Form::Number, ""),
    // Admin API.
    secret(here("admin_token", Form::Text, "")),
    secret(here("admin_token_readonly", Form::Text, "")),
    here("admin_gui_url", Form::List, ""),
    here("nginx_admin_client_max_body_size", Form::Text, "10m"),
    // Where entities rest.
    here("database", Form::OneOf(&["embedded", "postgres", "off"]), "embedded"),
    here("pg_host", Form::Text, "127.0.0.1"),
    here("pg_port", Form::Number, "5432"),
    here("pg_user", Form::Text, "kong"),
    secret(here("pg_password", Form::Text, "")),
    here("pg_database", Form::Text, "kong"),
    here("pg_schema", Form::Text, ""),
    here("pg_timeout", Form::Number, "5000"),
    here("pg_ssl", Form::Flag, "off"),
    here("pg_ssl_verify", Form::Flag, "off"),
    here("db_update_frequency", Form::Number, "1"),
    here("declarative_config", Form::Text, ""),
    secret(here("declarative_config_string", Form::Text, "")),
    here("router_flavor", FLAVORS, "traditional_compatible"),
    // The cluster.
    here("cluster_listen", Form::Text, ""),
    here("cluster_advertise", Form::Text, ""),
    here("cluster_seeds", Form::List, ""),
    secret(here("cluster_secret", Form::Text, "")),
    secret(here("cluster_secret_previous", Form::Text, "")),
    here("cluster_cert", Form::Text, ""),
    secret(here("cluster_cert_key", Form::Text, "")),
    here("cluster_ca_cert", Form::Text, ""),
    // Kong's, without a meaning here.
    unused("nginx_daemon", Form::Flag, "off"),
    unused("nginx_user", Form::Text, ""),
    unused("anonymous_reports", Form::Flag, "off"),
    unused("vaults", Form::List, "bundled"),
    unused("stream_listen", Form::List, "off"),
    unused("proxy_stream_access_log", Form::Text, ""),
    unused("proxy_stream_error_log", Form::Text, ""),
    unused("admin_error_log", Form::Text, "/dev/stderr"),
    unused("status_error_log", Form::Text, "/dev/stderr"),
    unused("admin_gui_listen", Form::List, "off"),
    unused("admin_gui_access_log", Form::Text, ""),
    unused("admin_gui_error_log", Form::Text, ""),
    unused("admin_gui_path", Form::Text, ""),
    unused("admin_gui_api_url", Form::Text, ""),
    unused("admin_gui_ssl_cert", Form::List, ""),
    secret(unused("admin_gui_ssl_cert_key", Form::List, "")),
    secret(unused("proxy_server", Form::Text, "")),
    unused("proxy_server_ssl_verify", Form::Flag, ""),
    unused("error_template_html", Form::Text, ""),
    unused("error_template_json", Form::Text, ""),
    unused("error_template_xml", Form::Text, ""),
    unused("error_template_plain", Form::Text, ""),
    unused("request_debug", Form::Flag, "off"),
    secret(unused("request_debug_token", Form::Text, "")),
    unused("tracing_instrumentations", Form::List, "off"),
    unused("tracing_sampling_rate", Form::Number, ""),
    unused("opentelemetry_tracing", Form::List, "off"),
    unused("opentelemetry_tracing_sampling_rate", Form::Number, ""),
    unused("client_ssl", Form::Flag, "off"),
    unused("client_ssl_cert", Form::Text, ""),
    secret(unused("client_ssl_cert_key", Form::Text, "")),
    unused("ssl_cipher_suite", Form::Text, "intermediate"),
    unused("ssl_ciphers", Form::Text, ""),
    unused("ssl_protocols", Form::Text, "TLSv1.2 TLSv1.3"),
    unused("ssl_prefer_server_ciphers", Form::Flag, ""),
    unused("ssl_dhparam", Form::Text, ""),
    unused("ssl_session_tickets", Form::Flag, ""),
    unused("ssl_session_timeout", Form::Text, ""),
    unused("ssl_session_cache_size", Form::Text, ""),
    unused("lua_ssl_verify_depth", Form::Number, ""),
    unused("lua_ssl_protocols", Form::Text, ""),
    unused("lua_package_path", Form::Text, ""),
    unused("lua_package_cpath", Form::Text, ""),
    unused("lua_socket_pool_size", Form::Number, ""),
    unused("lua_max_req_headers", Form::Number, ""),
    unused("lua_max_resp_headers", Form::Number, ""),
    unused("lua_max_uri_args", Form::Number, ""),
    unused("lua_max_post_args", Form::Number, ""),
    unused("untrusted_lua", Form::Text, ""),
    unused("untrusted_lua_sandbox_requires", Form::List, ""),
    unused("untrusted_lua_sandbox_environment", Form::List, ""),
    unused("pluginserver_names", Form::List, ""),
    unused("nginx_http_client_body_buffer_size", Form::Text, ""),
    unused("nginx_admin_client_body_buffer_size", Form::Text, ""),
    unused("nginx_http_client_header_buffer_size", Form::Text, ""),
    unused("nginx_http_charset", Form::Text, ""),
    unused("nginx_main_worker_rlimit_nofile", Form::Text, ""),
    unused("nginx_events_worker_connections", Form::Text, ""),
    unused("nginx_events_multi_accept", Form::Text, ""),
    unused("mem_cache_size", Form::Text, ""),
    unused("worker_consistency", Form::Text, ""),
    unused("worker_state_update_frequency", Form::Number, ""),
    unused("pg_max_concurrent_queries", Form::Number, ""),
    unused("pg_semaphore_timeout", Form::Number, ""),
    unused("pg_keepalive_timeout", Form::Number, ""),
    unused("pg_pool_size", Form::Number, ""),
    unused("pg_backlog", Form::Number, ""),
    unused("pg_ssl_version", Form::Text, ""),
    unused("pg_ssl_required", Form::Flag, ""),
    unused("pg_ssl_cert", Form::Text, ""),
    secret(unused("pg_ssl_cert_key", Form::Text, "")),
    unused("pg_ro_host", Form::Text, ""),
    unused("pg_ro_port", Form::Number, ""),
    unused("pg_ro_user", Form::Text, ""),
    secret(unused("pg_ro_password", Form::Text, "")),
    unused("pg_ro_database", Form::Text, ""),
    unused("pg_ro_schema", Form::Text, ""),
    unused("pg_ro_timeout", Form::Number, ""),
    unused("pg_ro_ssl", Form::Flag, ""),
    unused("pg_ro_ssl_verify", Form::Flag, ""),
    unused("pg_ro_ssl_version", Form::Text, ""),
    unused("pg_ro_ssl_required", Form::Flag, ""),
    unused("pg_ro_max_concurrent_queries", Form::Number, ""),
    unused("pg_ro_semaphore_timeout", Form::Number, ""),
    unused("pg_ro_keepalive_timeout", Form::Number, ""),
    unused("pg_ro_pool_size", Form::Number, ""),
    unused("pg_ro_backlog", Form::Number, ""),
    unused("lmdb_environment_path", Form::Text, ""),
    unused("lmdb_map_size", Form::Text, ""),
    unused("db_update_propagation", Form::Number, ""),
    unused("db_cache_ttl", Form::Number, ""),
    unused("db_cache_neg_ttl", Form::Number, ""),
    unused("db_resurrect_ttl", Form::Number, ""),
    unused("db_cache_warmup_entities", Form::List, ""),
    unused("dns_hostsfile", Form::Text, ""),
    unused("dns_order", Form::List, ""),
    unused("dns_cache_size", Form::Number, ""),
    unused("dns_not_found_ttl", Form::Number, ""),
    unused("dns_error_ttl", Form::Number, ""),
    unused("dns_no_sync", Form::Flag, "off"),
    unused("new_dns_client", Form::Flag, ""),
    unused("resolver_hosts_file", Form::Text, ""),
    unused("resolver_family", Form::List, ""),
    unused("resolver_error_ttl", Form::Number, ""),
    unused("resolver_lru_cache_size", Form::Number, ""),
    unused("resolver_mem_cache_size", Form::Text, ""),
    unused("cluster_mtls", Form::Text, "shared"),
    unused("cluster_server_name", Form::Text, ""),
    unused("cluster_control_plane", Form::Text, ""),
    unused("cluster_ocsp", Form::Text, "off"),
    unused("cluster_data_plane_purge_delay", Form::Number, ""),
    unused("cluster_max_payload", Form::Number, ""),
    unused("cluster_use_proxy", Form::Flag, "off"),
    unused("cluster_dp_labels", Form::List, ""),
    unused("cluster_rpc", Form::Flag, "off"),
    unused("cluster_incremental_sync", Form::Flag, "off"),
    unused("wasm", Form::Flag, "off"),
    unused("wasm_filters_path", Form::Text, ""),
    unused("wasm_filters", Form::List, ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::settings::value::Value;

    #[test]
    fn names_are_declared_once() {
        let mut names: Vec<_> = PROPERTIES.iter().map(|property| property.name).collect();
        names.sort_unstable();
        let declared = names.len();
        names.dedup();
        assert_eq!(names.len(), declared);
    }

    #[test]
    fn every_default_is_of_its_form() {
        for property in PROPERTIES {
            assert!(property.read(property.default).is_ok(), "{}", property.name);
        }
    }

    #[test]
    fn what_has_no_effect_is_never_refused() {
        for property in PROPERTIES.iter().filter(|property| property.effect == Effect::None) {
            assert_ne!(property.read("?"), Ok(Value::Unset), "{}", property.name);
        }
    }
}
