//! `afflux dead-letters`: what could not be delivered.

mod desk;
mod text;

use std::io::{self, BufRead, IsTerminal, Write};

use afflux_runtime::dead_letter::{Act, Entry, Letter, Selection, Shown, Summary};
use anyhow::bail;

use self::desk::Desk;
use crate::cli::dead_letters::{DeadLettersCommand, ListArgs, ResolveArgs, ShowArgs};
use crate::output::{Misuse, print};

/// Rows that a terminal shows unless told otherwise.
const ROWS: u64 = 100;

pub(crate) async fn dead_letters(command: DeadLettersCommand) -> anyhow::Result<()> {
    match command {
        DeadLettersCommand::List(args) => list(args).await,
        DeadLettersCommand::Show(args) => show(args).await,
        DeadLettersCommand::Replay(args) => resolve(Act::Replay, args).await,
        DeadLettersCommand::Drop(args) => resolve(Act::Drop, args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let selection = Selection { all: args.all, ..args.filter.selection() };
    let desk = Desk::open(&args.place).await?;
    let result = shown_list(&desk, selection).await;
    desk.close().await;
    result.map(drop)
}

/// Lists on standard output, and answers what was selected.
async fn shown_list(desk: &Desk, selection: Selection) -> anyhow::Result<Summary> {
    if !io::stdout().is_terminal() {
        return each(desk, None, selection, |letter| json(&letter), |_, _| Ok(())).await;
    }
    let selection = Selection { limit: Some(selection.limit.unwrap_or(ROWS)), ..selection };
    let mut letters = Vec::new();
    let keep = |letter| {
        letters.push(letter);
        Ok(())
    };
    let summary = each(desk, None, selection, keep, |_, _| Ok(())).await?;
    print(&text::table(&letters, &summary))?;
    Ok(summary)
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let desk = Desk::open(&args.place).await?;
    let shown = desk.show(args.id).await;
    desk.close().await;
    let Some(shown) = shown? else {
        bail!("there is no dead letter {}; see `afflux dead-letters list --all`", args.id)
    };
    if !args.raw {
        return Ok(print(&text::shown(&shown))?);
    }
    if shown.letter.left_out {
        let Letter { topic, partition, offset, bytes, .. } = shown.letter;
        bail!("its {bytes} bytes were too large to be kept; they were read from {topic}/{partition} at {offset}");
    }
    let mut out = io::stdout().lock();
    out.write_all(&shown.value.as_deref().and_then(Shown::bytes).unwrap_or_default())?;
    Ok(out.flush()?)
}

async fn resolve(act: Act, args: ResolveArgs) -> anyhow::Result<()> {
    let (verb, done) = match act {
        Act::Replay => ("replay", "replayed"),
        Act::Drop => ("drop", "dropped"),
    };
    let selection = args.filter.selection();
    if selection.is_everything() && !args.everything {
        let text = format!("say which dead letters to {verb}: ids, a filter such as --reason, or --everything");
        return Err(Misuse(text).into());
    }
    let ask = !args.yes && !args.dry_run;
    if ask && !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Misuse(format!("nobody can be asked here; say --yes to {verb}, or --dry-run")).into());
    }
    let desk = Desk::open(&args.place).await?;
    let result = async {
        if args.dry_run {
            return shown_list(&desk, selection).await.map(|summary| (summary, "selected"));
        }
        if ask {
            let summary = each(&desk, None, selection.clone(), |_| Ok(()), |_, _| Ok(())).await?;
            if summary.selected > 0 && !confirmed(verb, &summary)? {
                return Ok((Summary::default(), done));
            }
        }
        Ok((carried_out(&desk, act, selection, done).await?, done))
    }
    .await;
    desk.close().await;
    let (summary, done) = result?;
    let mut said = io::stderr();
    // Nothing is left to tell where standard error is closed.
    let _ = writeln!(said, "{} {done}, {} left open", summary.done, summary.left);
    if summary.selected == 0 && summary.missing.is_empty() {
        let _ = writeln!(said, "nothing open is selected; see `afflux dead-letters list`");
    }
    if !summary.missing.is_empty() {
        let missing: Vec<_> = summary.missing.iter().map(ToString::to_string).collect();
        bail!("no open dead letter has the id {}; see `afflux dead-letters list --all`", missing.join(", "));
    }
    if summary.left > 0 {
        bail!("{} dead letters stay open, for the reasons above", summary.left);
    }
    Ok(())
}

async fn carried_out(desk: &Desk, act: Act, selection: Selection, done: &str) -> anyhow::Result<Summary> {
    let terminal = io::stdout().is_terminal();
    let say = |letter: Letter| match terminal {
        true => Ok(print(&format!("{} {done}\n", letter.id))?),
        false => json(&letter),
    };
    let left = |letter: Letter, error: String| {
        let _ = writeln!(io::stderr(), "{} stays open: {error}", letter.id);
        Ok(())
    };
    each(desk, Some(act), selection, say, left).await
}

/// Passes on what the desk says, up to its summary.
async fn each(
    desk: &Desk,
    act: Option<Act>,
    selection: Selection,
    mut take: impl FnMut(Letter) -> anyhow::Result<()>,
    mut leave: impl FnMut(Letter, String) -> anyhow::Result<()>,
) -> anyhow::Result<Summary> {
    let mut entries = desk.start(act, selection).await?;
    loop {
        match entries.next().await? {
            Some(Entry::Letter(letter)) => take(letter)?,
            Some(Entry::Left { letter, error }) => leave(letter, error)?,
            Some(Entry::Summary(summary)) => return Ok(summary),
            Some(Entry::Failed(error)) => bail!(error),
            None => bail!("the answer broke off; run it again, what was done is not done twice"),
        }
    }
}

fn json(letter: &Letter) -> anyhow::Result<()> {
    Ok(print(&(serde_json::to_string(letter)? + "\n"))?)
}

fn confirmed(verb: &str, summary: &Summary) -> anyhow::Result<bool> {
    let mut said = io::stderr().lock();
    for (reason, count) in &summary.reasons {
        writeln!(said, "{count:>8}  {reason}")?;
    }
    write!(said, "{verb} {} dead letters? [y/N] ", summary.done)?;
    said.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
