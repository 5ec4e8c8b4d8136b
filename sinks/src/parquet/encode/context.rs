//! What rows of one resource and scope share, rendered once per row group.

use std::collections::HashMap;

use afflux_schemas::identity::Identity;
use afflux_schemas::otlp::common::{Attributes, ResourceView, ScopeView};
use arrow_array::{ArrayRef, Int32Array};
use arrow_schema::ArrowError;

use super::attributes::{map, push_value};
use super::text::{Dictionary, TextColumn, keyed};
use crate::parquet::rows::Rows;

/// The shared parts of the rows of a row group: for every context, keys into common texts.
#[derive(Debug)]
pub(super) struct Contexts {
    contexts: Vec<Context>,
    resources: Vec<Resource>,
    scopes: Vec<Scope>,
    texts: ArrayRef,
    cluster: i32,
    attribute_keys: ArrayRef,
    attribute_values: ArrayRef,
}

#[derive(Clone, Copy, Debug)]
struct Context {
    resource: usize,
    scope: usize,
    tenant: Option<i32>,
    resource_schema_url: Option<i32>,
    scope_schema_url: Option<i32>,
}

#[derive(Debug)]
struct Resource {
    service: Option<i32>,
    namespace: Option<i32>,
    pod: Option<i32>,
    node: Option<i32>,
    attributes: Keys,
}

#[derive(Debug)]
struct Scope {
    name: Option<i32>,
    version: Option<i32>,
    attributes: Keys,
}

/// Attributes as keys of names and values.
#[derive(Debug, Default)]
struct Keys {
    keys: Vec<i32>,
    values: Vec<Option<i32>>,
}

/// Renders each distinct resource and scope once.
struct Renderer {
    texts: Dictionary,
    attribute_keys: Dictionary,
    attribute_values: Dictionary,
    scratch: String,
    text: TextColumn,
}

impl Contexts {
    /// Renders the contexts of rows that belong to one cluster.
    pub(super) fn new(rows: &Rows, cluster: &str) -> Result<Self, ArrowError> {
        let mut renderer = Renderer::new();
        let mut seen_resources = HashMap::<&[u8], usize>::new();
        let mut seen_scopes = HashMap::<&[u8], usize>::new();
        let (mut resources, mut scopes, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
        for shared in rows.contexts() {
            let resource = *seen_resources.entry(shared.resource).or_insert_with(|| {
                resources.push(renderer.resource(ResourceView::new(shared.resource)));
                resources.len() - 1
            });
            let scope = *seen_scopes.entry(shared.scope).or_insert_with(|| {
                scopes.push(renderer.scope(ScopeView::new(shared.scope)));
                scopes.len() - 1
            });
            contexts.push(Context {
                resource,
                scope,
                tenant: renderer.texts.optional_key(shared.tenant),
                resource_schema_url: renderer.texts.optional_key(shared.resource_schema_url),
                scope_schema_url: renderer.texts.optional_key(shared.scope_schema_url),
            });
        }
        Ok(Self {
            contexts,
            resources,
            scopes,
            cluster: renderer.texts.key(cluster.as_bytes()),
            texts: renderer.texts.finish()?,
            attribute_keys: renderer.attribute_keys.finish()?,
            attribute_values: renderer.attribute_values.finish()?,
        })
    }

    /// Attributes that a row of a context repeats.
    pub(super) fn attributes_of(&self, context: usize) -> usize {
        let Context { resource, scope, .. } = self.contexts[context];
        self.resources[resource].attributes.keys.len() + self.scopes[scope].attributes.keys.len()
    }

    /// The columns of rows, given the context of each.
    pub(super) fn columns(&self, rows: &[usize]) -> Result<SharedColumns, ArrowError> {
        let text = |pick: &dyn Fn(&Context, &Resource, &Scope) -> Option<i32>| {
            let keys = rows.iter().map(|&row| {
                let context = &self.contexts[row];
                pick(context, &self.resources[context.resource], &self.scopes[context.scope])
            });
            keyed(Int32Array::from_iter(keys), &self.texts)
        };
        Ok(SharedColumns {
            service: text(&|_, resource, _| resource.service)?,
            cluster: keyed(Int32Array::from_value(self.cluster, rows.len()), &self.texts)?,
            namespace: text(&|_, resource, _| resource.namespace)?,
            pod: text(&|_, resource, _| resource.pod)?,
            node: text(&|_, resource, _| resource.node)?,
            scope_name: text(&|_, _, scope| scope.name)?,
            scope_version: text(&|_, _, scope| scope.version)?,
            resource_attributes: self
                .attributes(rows.iter().map(|&row| &self.resources[self.contexts[row].resource].attributes))?,
            scope_attributes: self
                .attributes(rows.iter().map(|&row| &self.scopes[self.contexts[row].scope].attributes))?,
            tenant: text(&|context, _, _| context.tenant)?,
            resource_schema_url: text(&|context, _, _| context.resource_schema_url)?,
            scope_schema_url: text(&|context, _, _| context.scope_schema_url)?,
        })
    }

    fn attributes<'a>(&self, rows: impl ExactSizeIterator<Item = &'a Keys>) -> Result<ArrayRef, ArrowError> {
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        offsets.push(0);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for row in rows {
            keys.extend_from_slice(&row.keys);
            values.extend_from_slice(&row.values);
            offsets.push(i32::try_from(keys.len()).unwrap_or(i32::MAX));
        }
        let keys = keyed(Int32Array::from(keys), &self.attribute_keys)?;
        let values = keyed(Int32Array::from(values), &self.attribute_values)?;
        map(offsets, keys, values)
    }
}

/// Columns that both tables have, for the rows of a batch.
pub(super) struct SharedColumns {
    pub(super) service: ArrayRef,
    pub(super) cluster: ArrayRef,
    pub(super) namespace: ArrayRef,
    pub(super) pod: ArrayRef,
    pub(super) node: ArrayRef,
    pub(super) scope_name: ArrayRef,
    pub(super) scope_version: ArrayRef,
    pub(super) resource_attributes: ArrayRef,
    pub(super) scope_attributes: ArrayRef,
    pub(super) tenant: ArrayRef,
    pub(super) resource_schema_url: ArrayRef,
    pub(super) scope_schema_url: ArrayRef,
}

impl Renderer {
    fn new() -> Self {
        Self {
            texts: Dictionary::new(),
            attribute_keys: Dictionary::new(),
            attribute_values: Dictionary::new(),
            scratch: String::new(),
            text: TextColumn::new(0, 0),
        }
    }

    fn resource(&mut self, resource: ResourceView<'_>) -> Resource {
        let identity = Identity::of(resource);
        let mut key = |text: Option<&str>| text.map(|text| self.texts.key(text.as_bytes()));
        Resource {
            service: key(identity.service),
            namespace: key(identity.namespace),
            pod: key(identity.pod),
            node: key(identity.node),
            attributes: self.attributes(resource.attributes()),
        }
    }

    fn scope(&mut self, scope: ScopeView<'_>) -> Scope {
        Scope {
            name: self.texts.optional_key(scope.name().as_bytes()),
            version: self.texts.optional_key(scope.version().as_bytes()),
            attributes: self.attributes(scope.attributes()),
        }
    }

    fn attributes(&mut self, attributes: Attributes<'_>) -> Keys {
        let mut rendered = Keys::default();
        for attribute in attributes.unique() {
            rendered.keys.push(self.attribute_keys.key(attribute.key_bytes()));
            push_value(&mut self.text, &attribute.value(), &mut self.scratch);
            let last = self.text.len() - 1;
            let value = (!self.text.is_null(last)).then(|| self.attribute_values.key(self.text.get(last)));
            rendered.values.push(value);
            self.text.clear();
        }
        rendered
    }
}
