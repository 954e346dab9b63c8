//! Fields that many kinds share.

use crate::entity::declare::{Auto, Check, Field, Literal};
use crate::entity::format;

pub const ID: Field = Field::string("id").auto(Auto::Uuid).checks(&[Check::Uuid]);
pub const CREATED_AT: Field = Field::integer("created_at").auto(Auto::Created).checks(&[Check::Timestamp]);
pub const UPDATED_AT: Field = Field::integer("updated_at").auto(Auto::Updated).checks(&[Check::Timestamp]);
/// Optional and unique.
pub const NAME: Field = Field::string("name").unique().checks(UTF8_NAME);
pub const TAGS: Field = Field::set("tags", &TAG);

/// A name of every protocol, in Kong's order.
pub const PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];
/// An element of a set of protocols.
pub static PROTOCOL: Field = Field::string("").checks(&[Check::OneOf(PROTOCOLS)]);

const UTF8_NAME: &[Check] = &[Check::Format(&format::UTF8_NAME)];
static TAG: Field = Field::string("").required().checks(&[Check::Format(&format::TAG)]);

/// Milliseconds, optional, a minute when not given.
pub const fn timeout(name: &'static str) -> Field {
    Field::integer(name).default(Literal::Int(60_000)).checks(&[Check::Between(1, 2_147_483_646)])
}
