//! Views, validation and splitting against `prost` as the judge.

mod agree;
mod bytes;
mod decode;
mod depth;
mod generate;
mod rewrite;
mod split;
mod text;
