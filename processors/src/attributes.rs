//! Editing and redaction of attributes, as bytes.
//!
//! What is not changed is not copied: a request in which nothing is found comes back as it is.

mod config;
mod edit;
mod redact;
mod step;
#[cfg(test)]
mod tests;

use afflux_runtime::Signal;
use afflux_schemas::otlp::common::ResourceView;
use afflux_schemas::otlp::rewrite::{self, Rewrite};
use bytes::Bytes;

pub use config::{
    Action, AttributesConfig, DeleteAttribute, InvalidAttributes, PatternConfig, Place, RedactConfig, RenameAttribute,
    SetAttribute,
};

pub use step::{Attributes, NAME};

use edit::{Rules, log_record, resource, span};
use redact::Redactor;

/// What a configuration says, ready to be done.
#[derive(Debug, Default)]
pub struct Editor {
    resource: Rules,
    items: Rules,
    events: Rules,
    redactor: Redactor,
}

impl Editor {
    /// An editor that does what the configuration says.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn new(config: &AttributesConfig) -> Result<Self, InvalidAttributes> {
        Ok(Self {
            resource: Rules::new(config, Place::Resource)?,
            items: Rules::new(config, Place::Items)?,
            events: Rules::new(config, Place::Events)?,
            redactor: Redactor::new(&config.redact)?,
        })
    }

    /// Edits a valid, canonical request.
    ///
    /// The same [`Bytes`] come back where nothing changes. Editing the result again changes nothing, unless a rule or
    /// expression matches what another one has written.
    pub fn edit(&mut self, signal: Signal, request: &Bytes) -> Bytes {
        let items = !self.items.is_empty() || !self.events.is_empty() || !self.redactor.is_empty();
        match (items, signal) {
            (false, _) if self.resource.is_empty() => request.clone(),
            (false, _) => rewrite::resources(request, |view, out| put(resource(self, view.raw()), out)),
            (true, Signal::Spans) => rewrite::rewrite(request, &mut Editing { editor: self, item: span }),
            (true, Signal::Logs | Signal::Events) => {
                rewrite::rewrite(request, &mut Editing { editor: self, item: log_record })
            }
        }
    }

    /// Patterns by name with the number of texts or parts of texts that they have made unreadable so far.
    pub fn redacted(&self) -> impl Iterator<Item = (&str, u64)> {
        self.redactor.matches()
    }
}

/// Changes a message's bytes; none if they stay.
type Edit = fn(&mut Editor, &[u8]) -> Option<Vec<u8>>;

struct Editing<'e> {
    editor: &'e mut Editor,
    item: Edit,
}

impl Rewrite for Editing<'_> {
    fn resource(&mut self, view: ResourceView<'_>, out: &mut Vec<u8>) -> bool {
        put(resource(self.editor, view.raw()), out)
    }

    fn item(&mut self, item: &[u8], out: &mut Vec<u8>) -> bool {
        put((self.item)(self.editor, item), out)
    }
}

fn put(edited: Option<Vec<u8>>, out: &mut Vec<u8>) -> bool {
    edited.iter().for_each(|bytes| out.extend_from_slice(bytes));
    edited.is_some()
}
