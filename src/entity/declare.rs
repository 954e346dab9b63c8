//! The words a kind is declared in. All of it is `const`, so a declaration is a static table.
//!
//! A table is read by everybody (checks, forms, `/schemas/*`, the catalog); builders or derive macros on structs lost,
//! because only one of these readers could have lived in them. What no table can say is a function pointer in it.

use serde_json::Value;

use crate::entity::Doc;
use crate::entity::catalog::Draft;
use crate::entity::check;
use crate::entity::problem::Violations;
use crate::entity::rules;

/// A kind of entity, declared once.
#[derive(Debug)]
pub struct Declaration {
    /// Internal plural name: `services`, `keyauth_credentials`.
    pub name: &'static str,
    /// Segment of the top-level collection: `services`, `key-auths`. `None`: reachable below a parent only.
    pub path: Option<&'static str>,
    /// Segment below a parent: `routes`, `key-auth`.
    pub nested_path: &'static str,
    /// The field that addresses an entity beside `id`: `name`, `username`, `key`.
    pub endpoint_key: Option<&'static str>,
    /// Fields by which a list can be filtered for equality: `custom_id` of consumers.
    pub lookup: &'static [&'static str],
    /// The plugin that owns the kind, if one does.
    pub plugin: Option<&'static str>,
    pub fields: &'static [Field],
    /// Accepted on input, expanded into other fields, never returned: `url` of a service.
    pub shorthands: &'static [Shorthand],
    /// Rules over several fields, in the order their errors are listed.
    pub rules: &'static [Rule],
    /// Fields that are unique together (null counts as a value): plugins' name, route, service, consumer.
    pub unique_together: &'static [&'static str],
    /// The fields from which the declarative format derives an absent id; empty: the endpoint key.
    pub cache_key: &'static [&'static str],
    /// Whether the kind accepts `ttl` (seconds).
    pub ttl: bool,
    /// What the value of one field changes about the others.
    pub variants: Variants,
    /// What becomes of the sent members before they are checked: a hash for a password, a full address for a short one.
    pub rewrite: Option<Rewrite>,
    /// Rules that need other rows.
    pub row_check: Option<RowCheck>,
}

impl Declaration {
    /// A declaration with every optional part empty, for struct update syntax.
    pub const EMPTY: Declaration = Declaration {
        name: "",
        path: None,
        nested_path: "",
        endpoint_key: None,
        lookup: &[],
        plugin: None,
        fields: &[],
        shorthands: &[],
        rules: &[],
        unique_together: &[],
        cache_key: &[],
        ttl: false,
        variants: Variants::None,
        rewrite: None,
        row_check: None,
    };

    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// Changes what was sent; the second document is the stored one that a PATCH changes. What is of the wrong type is left
/// alone: the checks that follow will say so.
pub type Rewrite = fn(&mut Doc, Option<&Doc>) -> Result<(), Violations>;

/// A rule that needs other rows.
pub type RowCheck = fn(&Written<'_>, &Draft<'_>) -> Result<(), Violations>;

/// What a write said and what comes of it, for rules that need other rows.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// As the client sent it, shorthands expanded; foreign keys may still be names.
    pub sent: &'a Doc,
    /// The checked document that will stand.
    pub doc: &'a Doc,
    pub updating: bool,
}

/// What the value of one field changes about the others.
#[derive(Clone, Copy, Debug)]
pub enum Variants {
    None,
    /// The first known name in the set `field` selects; no known name is an error at `field`.
    BySet {
        field: &'static str,
        variants: &'static [Variant],
    },
    /// The plugin that `name` names gives `config` its shape, and more.
    ByPlugin,
}

#[derive(Debug)]
pub struct Variant {
    pub names: &'static [&'static str],
    pub overrides: &'static [Override],
    /// Checked after the kind's own.
    pub rules: &'static [Rule],
}

/// What a variant changes about one field.
#[derive(Debug)]
pub struct Override {
    pub field: &'static str,
    /// Instead of the field's own.
    pub default: Option<Literal>,
    pub refused: Refused,
    /// Error text of a refused value.
    pub message: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Everything but null.
    NotNull,
    True,
}

/// A member of a document or of a record inside one; also the type of array elements and map values, unnamed.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Type,
    pub required: bool,
    pub default: Option<Literal>,
    pub auto: Option<Auto>,
    pub unique: bool,
    /// In order: each field reports the first that fails.
    pub checks: &'static [Check],
    /// Accepts `{vault://…}` in place of a value.
    pub referenceable: bool,
    /// Kong has no such field: a document that does not set it is without it, where others have null. Whoever compares
    /// documents with Kong's finds no difference. It has no default.
    pub ours: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Array(&'static Field),
    /// An array whose repetitions are dropped, order kept.
    Set(&'static Field),
    Map {
        keys: &'static Field,
        values: &'static Field,
    },
    Record(&'static Record),
    Foreign {
        kind: &'static str,
        on_delete: OnDelete,
    },
}

#[derive(Debug)]
pub struct Record {
    pub fields: &'static [Field],
    pub shorthands: &'static [Shorthand],
    pub rules: &'static [Rule],
}

/// What the end of the referenced entity does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// This entity goes too.
    Cascade,
    /// The delete is refused.
    Restrict,
}

/// What the server fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto {
    Uuid,
    /// Unix seconds, unless the client sent some.
    Created,
    /// Unix seconds, always.
    Updated,
    /// 32 random alphanumerics.
    Secret,
}

/// A JSON value in a static.
#[derive(Clone, Copy, Debug)]
pub enum Literal {
    Str(&'static str),
    Int(i64),
    Float(f64),
    Bool(bool),
    Strs(&'static [&'static str]),
    Ints(&'static [i64]),
}

/// A rule about one value. `check.rs` has the meaning and the message of each. Null passes all of them.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    Uuid,
    Timestamp,
    Between(i64, i64),
    GreaterThan(i64),
    OneOf(&'static [&'static str]),
    OneOfInt(&'static [i64]),
    NotOneOf(&'static [&'static str]),
    /// Minimal length of a string, array, set or map. Strings have 1 unless this says 0.
    LenMin(usize),
    LenEq(usize),
    /// An array or set that has to hold this.
    Contains(&'static str),
    MutuallyExclusiveSubsets(&'static [&'static [&'static str]]),
    /// A named format: host, path, utf8_name, tag, … (`format.rs` has them)
    Format(&'static Format),
    /// Anything else about one value, records included; the error is the field's text.
    Custom(fn(&Value) -> Result<(), String>),
}

/// A named format of strings: the `typedefs` of Kong's facts.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    /// The error text when the value is refused.
    pub check: fn(&str) -> Result<(), String>,
}

/// Accepted on input and rewritten into other members before validation.
#[derive(Debug)]
pub struct Shorthand {
    pub name: &'static str,
    pub kind: Type,
    pub meaning: Meaning,
}

#[derive(Debug)]
pub enum Meaning {
    /// Write-only. Takes the shorthand's value (its type is checked, it is not null) and the document it stood in
    /// (already without it).
    Expand(fn(&Value, &mut Doc)),
    /// The old name of the field at this path, echoed in responses.
    Alias { path: &'static [&'static str], deprecation: &'static str, removal: &'static str },
}

/// A rule over several fields of one document. Paths are dotted and start at the document the rule is declared for:
/// `config.redis.host` in a plugin's `rules`, `ip` in the rules of a record.
/// A rule is skipped while a field it reads has an error of its own, except the first two.
#[derive(Debug)]
pub enum Rule {
    AtLeastOneOf(&'static [&'static str]),
    OnlyOneOf(&'static [&'static str]),
    MutuallyRequired(&'static [&'static str]),
    MutuallyExclusive(&'static [&'static str]),
    Distinct(&'static [&'static str]),
    /// When `if_field` matches, `then_field` has to. Errors: one for the entity, one for `then_field`.
    Conditional {
        if_field: &'static str,
        matches: Match,
        then_field: &'static str,
        then: Match,
        /// Instead of the usual text for the entity.
        message: Option<&'static str>,
    },
    /// Anything else.
    Custom {
        /// As `/schemas/*` names it; empty: not shown there.
        name: &'static str,
        /// What it reads: it does not run while one of these has an error.
        fields: &'static [&'static str],
        check: fn(&Doc) -> Vec<Complaint>,
    },
}

/// What a conditional rule compares.
#[derive(Clone, Copy, Debug)]
pub enum Match {
    /// Present and not null.
    Required,
    /// Null or absent.
    Null,
    Eq(&'static str),
    Is(Check),
    /// Each element of an array or set.
    Each(Check),
}

/// What a custom rule complains about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Goes into `@entity`.
    Entity(String),
    /// Goes to a field, by dotted path.
    Field(&'static str, String),
}

impl Shorthand {
    /// The old name of the field at `path`, to be removed in 4.0.
    pub const fn alias(
        name: &'static str,
        kind: Type,
        path: &'static [&'static str],
        deprecation: &'static str,
    ) -> Self {
        Self { name, kind, meaning: Meaning::Alias { path, deprecation, removal: "4.0" } }
    }
}

impl Literal {
    pub fn value(&self) -> Value {
        match *self {
            Self::Str(text) => text.into(),
            Self::Int(number) => number.into(),
            Self::Float(number) => number.into(),
            Self::Bool(flag) => flag.into(),
            Self::Strs(texts) => texts.into(),
            Self::Ints(numbers) => numbers.into(),
        }
    }
}

impl Rule {
    /// When `if_field` matches, `then_field` has to; with the usual text.
    pub const fn when(if_field: &'static str, matches: Match, then_field: &'static str, then: Match) -> Self {
        Self::Conditional { if_field, matches, then_field, then, message: None }
    }
}

impl Field {
    const fn of(name: &'static str, kind: Type) -> Self {
        Self {
            name,
            kind,
            required: false,
            default: None,
            auto: None,
            unique: false,
            checks: &[],
            referenceable: false,
            ours: false,
        }
    }

    pub const fn string(name: &'static str) -> Self {
        Self::of(name, Type::String)
    }

    pub const fn integer(name: &'static str) -> Self {
        Self::of(name, Type::Integer)
    }

    pub const fn number(name: &'static str) -> Self {
        Self::of(name, Type::Number)
    }

    pub const fn boolean(name: &'static str) -> Self {
        Self::of(name, Type::Boolean)
    }

    pub const fn array(name: &'static str, elements: &'static Field) -> Self {
        Self::of(name, Type::Array(elements))
    }

    pub const fn set(name: &'static str, elements: &'static Field) -> Self {
        Self::of(name, Type::Set(elements))
    }

    pub const fn map(name: &'static str, keys: &'static Field, values: &'static Field) -> Self {
        Self::of(name, Type::Map { keys, values })
    }

    pub const fn record(name: &'static str, record: &'static Record) -> Self {
        Self::of(name, Type::Record(record))
    }

    pub const fn foreign(name: &'static str, kind: &'static str, on_delete: OnDelete) -> Self {
        Self::of(name, Type::Foreign { kind, on_delete })
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub const fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    pub const fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }

    pub const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    pub const fn auto(mut self, auto: Auto) -> Self {
        self.auto = Some(auto);
        self
    }

    pub const fn default(mut self, default: Literal) -> Self {
        self.default = Some(default);
        self
    }

    pub const fn checks(mut self, checks: &'static [Check]) -> Self {
        self.checks = checks;
        self
    }
}

/// A plugin as the Admin API knows it: its name, its place in the order, and the shape of its config.
#[derive(Debug)]
pub struct PluginDeclaration {
    pub name: &'static str,
    pub priority: i32,
    pub config: Record,
    /// Rules whose paths begin with `config.`, checked on the whole plugin document.
    pub rules: &'static [Rule],
    /// Whether an instance may be scoped to a consumer.
    pub consumer_scope: bool,
    /// Elements that `protocols` may have.
    pub protocols: &'static [&'static str],
    /// What whoever configures it should know about what was accepted.
    pub notices: &'static [Notice],
}

/// A word about a config that is accepted: it stands in the answer to the write, and in the log of nodes that run it.
#[derive(Debug)]
pub struct Notice {
    /// By its dotted path in the config.
    pub field: &'static str,
    pub when: Match,
    /// Printable ASCII without quotes: it becomes a header.
    pub text: &'static str,
}

impl PluginDeclaration {
    /// The notices for a config.
    pub fn notices(&self, config: &Doc) -> impl Iterator<Item = &'static str> {
        let holds = |notice: &&Notice| check::matches(&notice.when, rules::at(config, notice.field)).is_ok();
        self.notices.iter().filter(holds).map(|notice| notice.text)
    }
}

/// The plugins this node has, by which `config` of the kind `plugins` is checked.
#[derive(Clone, Debug, Default)]
pub struct Plugins(Vec<&'static PluginDeclaration>);

impl Plugins {
    pub fn new(declarations: impl IntoIterator<Item = &'static PluginDeclaration>) -> Self {
        Self(declarations.into_iter().collect())
    }

    pub fn named(&self, name: &str) -> Option<&'static PluginDeclaration> {
        self.0.iter().copied().find(|plugin| plugin.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &'static PluginDeclaration> + '_ {
        self.0.iter().copied()
    }
}
