//! Texts that many spans share, kept once.

use std::sync::Arc;

use hashbrown::HashSet;

/// Texts below which looking for unused ones is not worth it.
const FEW: usize = 1024;

/// Texts kept once each. Those that nobody else holds any longer are forgotten in time: there are at most [`FEW`], or
/// twice as many as were in use when it last looked.
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    look_at: usize,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { known: HashSet::new(), look_at: FEW }
    }

    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.look_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.look_at = FEW.max(2 * self.known.len());
        }
        let text = Arc::<str>::from(text);
        self.known.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_forgotten_when_nobody_holds_it() {
        let mut names = Names::new();
        let held: Vec<_> = (0..FEW + 500).map(|n| names.get(&n.to_string())).collect();
        assert!(Arc::ptr_eq(&held[7], &names.get("7")));
        assert_eq!(names.known.len(), held.len());
        drop(held);
        let last = names.get("last");
        (0..5 * FEW).for_each(|n| drop(names.get(&format!("other {n}"))));
        assert!(names.known.len() <= 2 * FEW, "{}", names.known.len());
        assert!(Arc::ptr_eq(&last, &names.get("last")));
    }
}
