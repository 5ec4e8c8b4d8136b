//! Names in lists of a configuration, whole or by their beginning.

/// Names, of which those that end in `*` stand for all that begin so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    whole: Vec<String>,
    beginnings: Vec<String>,
}

impl Names {
    /// Those names; otherwise the position of the first that is empty or has a `*` elsewhere than at its end.
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Result<Self, usize> {
        let mut all = Self::default();
        for (at, name) in names.enumerate() {
            let beginning = name.strip_suffix('*');
            if name.is_empty() || beginning.unwrap_or(name).contains('*') {
                return Err(at);
            }
            match beginning {
                Some(beginning) => all.beginnings.push(beginning.into()),
                None => all.whole.push(name.into()),
            }
        }
        Ok(all)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.beginnings.is_empty()
    }

    /// Whether a name is one of them.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        let whole = || self.whole.iter().any(|whole| whole.as_bytes() == name);
        whole() || self.beginnings.iter().any(|part| name.starts_with(part.as_bytes()))
    }
}
