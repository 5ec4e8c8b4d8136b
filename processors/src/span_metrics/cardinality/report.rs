//! What there is and what the limits do, to be shown.

use serde::{Deserialize, Serialize};

/// All tenants with series, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether the limits only tell what they would do.
    pub dry_run: bool,
    /// The tenants.
    pub tenants: Vec<TenantReport>,
}

/// What a tenant has. Counts begin when it has its first series, and anew when it has had none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantReport {
    /// Name of the tenant.
    pub tenant: String,
    /// Label sets that there are, the overflow series left out.
    pub series: u64,
    /// Label sets that there are within the limits: with `dry_run`, those that there would be.
    pub limited_series: u64,
    /// Most label sets that there may be; 0: any number.
    pub max_series: u64,
    /// Items counted.
    pub items: u64,
    /// Distinct label sets that went to the overflow series; an estimate, within some 3 %.
    pub overflow_sets: u64,
    /// Items counted in the overflow series.
    pub overflow_items: u64,
    /// The labels, in their order.
    pub labels: Vec<LabelReport>,
    /// Templates that stand for the most names, the most first.
    pub folded: Vec<FoldedName>,
}

/// What values a label has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelReport {
    /// Name of the label.
    pub label: String,
    /// Distinct values that there are.
    pub values: u64,
    /// Most that there may be; 0: any number.
    pub max_values: u64,
    /// Distinct values that became `__cardinality_overflow__`; an estimate, within some 3 %.
    pub capped_values: u64,
}

/// A template of span names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldedName {
    /// The template.
    pub template: String,
    /// Distinct names that it stands for; an estimate, within some 3 %.
    pub names: u64,
    /// The first of them.
    pub example: String,
}
