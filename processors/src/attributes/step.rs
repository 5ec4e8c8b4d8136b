//! Editing and redaction as a step of the chain.

use super::{AttributesConfig, Editor, InvalidAttributes};
use crate::chain::{At, Envelope, Next, Step};

/// The step's name.
pub const NAME: &str = "attributes";

/// The step that edits attributes.
pub struct Attributes {
    editor: Editor,
    /// Matches of all patterns that have been counted.
    redacted: u64,
}

impl Attributes {
    /// A step so configured.
    ///
    /// # Errors
    /// [`InvalidAttributes`] names the key at fault.
    pub fn new(config: &AttributesConfig) -> Result<Self, InvalidAttributes> {
        Ok(Self { editor: Editor::new(config)?, redacted: 0 })
    }
}

impl Step for Attributes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, mut envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
        envelope.value = self.editor.edit(envelope.signal, &envelope.value);
        let redacted = self.editor.redacted().map(|(_, count)| count).sum();
        next.note("redacted", redacted - std::mem::replace(&mut self.redacted, redacted));
        next.pass(envelope);
    }
}
