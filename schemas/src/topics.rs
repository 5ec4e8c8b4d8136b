//! Topic names and headers.

/// Name of the cluster that a record comes from.
pub const HEADER_CLUSTER: &str = "afflux-cluster";
/// Tenant that a record belongs to.
pub const HEADER_TENANT: &str = "afflux-tenant";
/// Number of spans or log records in the value, in decimal digits.
pub const HEADER_ITEMS: &str = "afflux-items";
/// `topic/partition/first-last`: the input offsets that an output was made of.
pub const HEADER_SOURCE: &str = "afflux-source";

/// Prefix of every topic unless configured.
pub const DEFAULT_PREFIX: &str = "afflux";
