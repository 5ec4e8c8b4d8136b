//! How fast spans become Parquet, and how small: one core, records in memory, files in memory.

#![allow(clippy::print_stdout, unreachable_pub)]

mod corpus;

use std::hint::black_box;
use std::time::{Duration, Instant};

use afflux_sinks::parquet::{ParquetConfig, Table, to_parquet};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPANS: usize = 200_000;

fn encode(criterion: &mut Criterion) {
    let records = corpus::spans(SPANS);
    let input: usize = records.iter().map(|record| record.size()).sum();
    let spans = records.len() * 512;
    let config = ParquetConfig::default();
    let file = to_parquet(Table::Spans, &config, &records).expect("a valid corpus");
    println!(
        "parquet/encode: {} B/span of OTLP, {:.1} B/span of Parquet",
        input / spans,
        file.len() as f64 / spans as f64
    );
    let mut group = criterion.benchmark_group("parquet");
    group.sample_size(10).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(spans as u64));
    group.bench_function("encode spans", |bencher| {
        bencher.iter(|| to_parquet(Table::Spans, &config, black_box(&records)));
    });
    group.finish();
    let began = Instant::now();
    let _ = black_box(to_parquet(Table::Spans, &config, &records));
    println!("parquet/encode: {:.2} M spans/s", spans as f64 / began.elapsed().as_secs_f64() / 1e6);
}

criterion_group!(benches, encode);
criterion_main!(benches);
