//! Embedded bus.
