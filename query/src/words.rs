//! Columns whose names are words of SQL.

use std::borrow::Cow;
use std::collections::HashSet;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// A column's name that begins a clause in some dialects. The parser takes the comma before it for a trailing one.
const CLAUSE: &str = "cluster";

/// The text with that name in quotes wherever it follows a comma; after a comma no clause begins.
pub(crate) fn quoted(sql: &str) -> Cow<'_, str> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        // The parser says what is wrong.
        return sql.into();
    };
    let mut after_comma = false;
    let mut places = HashSet::new();
    for TokenWithSpan { token, span } in tokens {
        match &token {
            Token::Whitespace(_) => continue,
            Token::Word(word)
                if after_comma && word.quote_style.is_none() && word.value.eq_ignore_ascii_case(CLAUSE) =>
            {
                places.insert((span.start.line, span.start.column));
            }
            _ => {}
        }
        after_comma = token == Token::Comma;
    }
    if places.is_empty() { sql.into() } else { replaced(sql, &places).into() }
}

/// The text with the name in quotes in the place of the words that begin at those lines and columns.
fn replaced(sql: &str, places: &HashSet<(u64, u64)>) -> String {
    let mut out = String::with_capacity(sql.len() + 2 * places.len());
    let (mut line, mut column, mut skip) = (1, 1, 0);
    for letter in sql.chars() {
        if places.contains(&(line, column)) {
            out.push('"');
            out.push_str(CLAUSE);
            out.push('"');
            skip = CLAUSE.len();
        }
        if skip == 0 {
            out.push(letter);
        } else {
            skip -= 1;
        }
        (line, column) = if letter == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_a_word_of_sql_is_quoted_after_a_comma_only() {
        for (sql, expected) in [
            ("SELECT service, cluster FROM spans", "SELECT service, \"cluster\" FROM spans"),
            ("SELECT a,\n -- why\n CLUSTER, 'x, cluster' t", "SELECT a,\n -- why\n \"cluster\", 'x, cluster' t"),
            ("SELECT 'ü''s', cluster, e'\\n'", "SELECT 'ü''s', \"cluster\", e'\\n'"),
        ] {
            assert_eq!(quoted(sql), expected);
        }
        for same in
            ["SELECT cluster FROM spans", "SELECT a, \"cluster\"", "SELECT a, s.cluster", "SELECT ', cluster", "x"]
        {
            assert_eq!(quoted(same), same);
        }
    }
}
