//! Applications with OpenTelemetry's own SDKs: what an SDK handed to its exporter is what SQL, DuckDB and pyarrow
//! find in the lake, every column of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use afflux_tests::afflux::{Afflux, Options, query};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::{node, python};
use anyhow::Context as _;
use serde_json::{Map, Value, json};

type Row = Map<String, Value>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flask_over_grpc_is_stored_as_its_sdk_saw_it() -> anyhow::Result<()> {
    flask("grpc").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flask_over_http_is_stored_as_its_sdk_saw_it() -> anyhow::Result<()> {
    flask("http").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_over_http_as_json_is_stored_as_its_sdk_saw_it() -> anyhow::Result<()> {
    let (Some(python), Some(app)) = (python::interpreter()?, node::app()?) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let afflux = Afflux::start(dir.path(), &Options::up(&dir.path().join("data"))).await?;
    let (endpoint, expectation) = (format!("http://127.0.0.1:{}", afflux.http), dir.path().join("expectation.json"));
    node::run(app, &[&endpoint, &expectation.display().to_string()])?;
    afflux.stop().await?;
    Story::read(&expectation, &dir.path().join("data/lake"), python)?.holds(6, 0)
}

async fn flask(protocol: &str) -> anyhow::Result<()> {
    let Some(python) = python::interpreter()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let afflux = Afflux::start(dir.path(), &Options::up(&dir.path().join("data"))).await?;
    let port = if protocol == "grpc" { afflux.grpc } else { afflux.http };
    let (endpoint, expectation) = (format!("http://127.0.0.1:{port}"), dir.path().join("expectation.json"));
    python::run(python, "flask_app.py", &[protocol, &endpoint, &expectation.display().to_string()])?;
    afflux.stop().await?;
    // Logs: four in spans and one outside by the application, four by its web server.
    Story::read(&expectation, &dir.path().join("data/lake"), python)?.holds(10, 9)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flask_through_kafka_is_stored_as_its_sdk_saw_it() -> anyhow::Result<()> {
    let (Some(kafka), Some(python)) = (KafkaServer::shared(), python::interpreter()?) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let lake = dir.path().join("lake");
    let options = |role: &str| {
        Options::run(role)
            .config("bus: {kind: kafka}")
            .env("AFFLUX__BUS__KAFKA__BROKERS", kafka.brokers())
            .env("AFFLUX__TOPICS__PREFIX", "flask")
            .env("AFFLUX__SINKS__PARQUET__URL", lake.display().to_string())
            .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "500ms")
    };
    let producers = Afflux::start(dir.path(), &options("producers")).await?;
    let processors = Afflux::start(dir.path(), &options("processors")).await?;
    let sinks = Afflux::start(dir.path(), &options("sinks")).await?;
    let (endpoint, expectation) = (format!("http://127.0.0.1:{}", producers.grpc), dir.path().join("expectation.json"));
    python::run(python, "flask_app.py", &["grpc", &endpoint, &expectation.display().to_string()])?;
    for (signal, count) in [("spans", 10), ("logs", 9)] {
        sinks.settles("sinks.parquet", signal, count).await?;
    }
    for process in [producers, processors, sinks] {
        process.stop().await?;
    }
    Story::read(&expectation, &lake, python)?.holds(10, 9)
}

/// What was sent, and what each reader finds, by table.
struct Story {
    expected: HashMap<String, Vec<Row>>,
    /// By reader: types of the columns, and rows.
    readers: HashMap<String, HashMap<String, Seen>>,
    sql: HashMap<String, Vec<Row>>,
    orphans: Vec<Value>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    types: Row,
    rows: Vec<Row>,
}

impl Story {
    fn read(expectation: &Path, lake: &Path, python: &Path) -> anyhow::Result<Self> {
        let expected = serde_json::from_slice::<HashMap<String, Vec<Row>>>(&fs::read(expectation)?)?;
        let printed = python::run(python, "read_lake.py", &[&lake.display().to_string()])?;
        let mut readers = HashMap::new();
        for (reader, tables) in serde_json::from_str::<HashMap<String, HashMap<String, Value>>>(&printed)? {
            let seen =
                |table: Value| anyhow::Ok(Seen { types: object(&table["types"])?, rows: objects(&table["rows"])? });
            let tables = tables.into_iter().map(|(name, table)| Ok((name, seen(table)?)));
            readers.insert(reader, tables.collect::<anyhow::Result<_>>()?);
        }
        let mut sql = HashMap::new();
        for (table, times) in [("spans", ["start_time", "end_time"]), ("logs", ["time", "observed_time"])] {
            if expected[table].is_empty() {
                continue;
            }
            let [a, b] = times.map(|time| format!("CAST(CAST({time} AS BIGINT) AS VARCHAR) AS {time}"));
            let rows = query(lake, &format!("SELECT * EXCEPT ({}), {a}, {b} FROM {table}", times.join(", ")))?;
            sql.insert(table.to_owned(), rows.iter().map(object).collect::<anyhow::Result<_>>()?);
        }
        let orphans = query(
            lake,
            "SELECT child.name FROM spans child LEFT JOIN spans parent \
             ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id \
             WHERE child.parent_span_id IS NOT NULL AND parent.span_id IS NULL",
        )?;
        Ok(Self { expected, readers, sql, orphans })
    }

    fn holds(&self, spans: usize, logs: usize) -> anyhow::Result<()> {
        assert_eq!((self.expected["spans"].len(), self.expected["logs"].len()), (spans, logs), "what the SDK saw");
        for (reader, seen) in &self.readers {
            assert_eq!(seen, &self.readers["duckdb"], "{reader} and DuckDB read the same files");
        }
        assert_eq!(self.readers.len(), 5);
        assert_eq!(self.orphans, [] as [Value; 0], "spans whose parent is missing");
        assert_eq!(self.readers["duckdb"]["spans"].types["start_time"], "timestamp[ns, tz=UTC]");
        assert_eq!(self.readers["duckdb"]["spans"].types["attributes"], "map<string, string>");
        for (table, expected) in &self.expected {
            let found = &self.readers["duckdb"][table].rows;
            assert_same(&format!("{table} as DuckDB reads them"), expected, found, true)?;
            let none = Vec::new();
            assert_same(&format!("{table} as SQL answers"), expected, self.sql.get(table).unwrap_or(&none), false)?;
        }
        self.exceptions()
    }

    /// Somebody who looks for what went wrong finds it.
    fn exceptions(&self) -> anyhow::Result<()> {
        let made_by_hand = self.sql["spans"].iter().find(|row| row["name"] == "price cart").context("price cart")?;
        assert_eq!(
            (&made_by_hand["status"], &made_by_hand["status_message"]),
            (&json!("error"), &json!("price was guessed"))
        );
        let events = made_by_hand["events"].as_array().context("events")?;
        let exception = events.iter().find(|event| event["name"] == "exception").context("an exception")?;
        assert_eq!(exception["attributes"]["exception.message"], "no price for telescope");
        for log in self.expected["logs"].iter().filter(|log| log["body"] == "price was guessed") {
            assert_eq!((&log["trace_id"], &log["span_id"]), (&made_by_hand["trace_id"], &made_by_hand["span_id"]));
        }
        Ok(())
    }
}

/// Every expected row is there with all its columns, and no other row.
fn assert_same(what: &str, expected: &[Row], found: &[Row], event_times: bool) -> anyhow::Result<()> {
    assert_eq!(found.len(), expected.len(), "number of {what}");
    for wanted in expected {
        let identity = |row: &Row| ["trace_id", "span_id", "time", "body"].map(|key| row.get(key).cloned());
        let row = found.iter().find(|row| identity(row) == identity(wanted));
        let row = row.with_context(|| format!("missing among the {what}: {wanted:#?}"))?;
        for (column, value) in wanted {
            let stored = row.get(column).with_context(|| format!("no column {column} in the {what}"))?;
            let stored = comparable(stored, value, event_times);
            let value = comparable(value, value, event_times);
            assert_eq!(stored, value, "{column} of {} among the {what}", wanted.get("name").unwrap_or(&Value::Null));
        }
    }
    Ok(())
}

/// A stored value reduced to the fields that the expectation names, within events and links too.
///
/// SQL writes the times of events in its own way; they are left to the other readers.
fn comparable(value: &Value, wanted: &Value, event_times: bool) -> Value {
    match (value, wanted) {
        (Value::Array(values), Value::Array(wanted)) if values.len() == wanted.len() => {
            let pairs = values.iter().zip(wanted);
            pairs.map(|(value, wanted)| element(value, wanted, event_times)).collect()
        }
        _ => value.clone(),
    }
}

fn element(value: &Value, wanted: &Value, event_times: bool) -> Value {
    let (Value::Object(fields), Value::Object(wanted)) = (value, wanted) else { return value.clone() };
    let named = fields.iter().filter(|(name, _)| wanted.contains_key(*name) && (event_times || *name != "time"));
    Value::Object(named.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn object(value: &Value) -> anyhow::Result<Row> {
    value.as_object().cloned().with_context(|| format!("{value} is no object"))
}

fn objects(values: &Value) -> anyhow::Result<Vec<Row>> {
    values.as_array().with_context(|| format!("{values} is no list"))?.iter().map(object).collect()
}
