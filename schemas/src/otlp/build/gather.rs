//! Spans on their way into one request.

use std::collections::HashMap;

use bytes::Bytes;

use super::nested;
use crate::wire::put_len_field;

/// Spans, those of one resource and scope together, in the order in which these first came.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    resources: Vec<(Vec<u8>, Vec<usize>)>,
    /// A scope's message, and its spans as fields.
    scopes: Vec<(Vec<u8>, Vec<u8>)>,
    resource_index: HashMap<Vec<u8>, usize>,
    scope_index: HashMap<(usize, Vec<u8>), usize>,
}

impl Gather {
    /// Adds a span, given the bytes of the three messages.
    pub(crate) fn add(&mut self, resource: Vec<u8>, scope: Vec<u8>, span: &[u8]) {
        let resource = match self.resource_index.get(&resource) {
            Some(&at) => at,
            None => {
                self.resources.push((resource.clone(), Vec::new()));
                self.resource_index.insert(resource, self.resources.len() - 1);
                self.resources.len() - 1
            }
        };
        let scope = match self.scope_index.get(&(resource, scope.clone())) {
            Some(&at) => at,
            None => {
                self.scopes.push((scope.clone(), Vec::new()));
                let at = self.scopes.len() - 1;
                self.scope_index.insert((resource, scope), at);
                self.resources[resource].1.push(at);
                at
            }
        };
        put_len_field(&mut self.scopes[scope].1, 2, span);
    }

    /// The request.
    pub(crate) fn finish(self) -> Bytes {
        let mut out = Vec::new();
        for (resource, scopes) in &self.resources {
            nested(&mut out, 1, |out| {
                put_len_field(out, 1, resource);
                for (scope, spans) in scopes.iter().map(|&at| &self.scopes[at]) {
                    nested(out, 2, |out| {
                        put_len_field(out, 1, scope);
                        out.extend_from_slice(spans);
                    });
                }
            });
        }
        out.into()
    }
}
