//! The numbers of all changes, as a table in Markdown.

use std::{collections::BTreeMap, fmt};

use super::{
    Allocated, SIZES,
    world::{Change, Layout},
};

const TITLE: &str = "\
# What one change costs

Allocations / allocated bytes of each stage in a development build, and the resources and bytes that every Envoy is sent. Written by
`UPDATE_COST=1 cargo test -p nuncio-core --test cost`, which fails without `UPDATE_COST` when a number has grown by more than 10 %.
";
const COLUMNS: [&str; 8] = [
    "layout",
    "change",
    "Mappings",
    "reconcile",
    "link",
    "render",
    "difference",
    "to Envoy",
];
/// Names of the numbers in a row.
const NUMBERS: [(&str, &str); 5] = [
    ("allocations to reconcile", "bytes to reconcile"),
    ("allocations to link", "bytes to link"),
    ("allocations to render", "bytes to render"),
    ("allocations for the difference", "bytes for the difference"),
    ("resources to Envoy", "bytes to Envoy"),
];
/// Numbers may differ by this much without being another cost: nodes of trees are split now and then.
const SLACK: usize = 3;

/// What a change costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) reconcile: Allocated,
    pub(crate) link: Allocated,
    pub(crate) render: Allocated,
    pub(crate) difference: Allocated,
    pub(crate) resources: usize,
    pub(crate) bytes: usize,
}

impl Numbers {
    /// In the order of [`NUMBERS`].
    fn pairs(&self) -> [(usize, usize); 5] {
        let pair = |allocated: Allocated| (allocated.allocations, allocated.bytes);
        [
            pair(self.reconcile),
            pair(self.link),
            pair(self.render),
            pair(self.difference),
            (self.resources, self.bytes),
        ]
    }

    fn of(pairs: [(usize, usize); 5]) -> Self {
        let allocated = |(allocations, bytes)| Allocated { allocations, bytes };
        let [reconcile, link, render, difference, (resources, bytes)] = pairs;
        Self {
            reconcile: allocated(reconcile),
            link: allocated(link),
            render: allocated(render),
            difference: allocated(difference),
            resources,
            bytes,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut sum = self.pairs();
        for (sum, other) in sum.iter_mut().zip(other.pairs()) {
            *sum = (sum.0 + other.0, sum.1 + other.1);
        }
        *self = Self::of(sum);
    }

    pub(crate) fn mean(&self, count: usize) -> Self {
        let mean = |(one, other): (usize, usize)| (one.div_ceil(count), other.div_ceil(count));
        Self::of(self.pairs().map(mean))
    }

    /// Names of numbers that are larger than allowed by these, with both.
    fn beyond<'a>(
        &'a self,
        base: &'a Self,
        most: impl Fn(usize) -> usize + 'a,
    ) -> impl Iterator<Item = (&'static str, usize, usize)> + 'a {
        let pairs = self.pairs().into_iter().zip(base.pairs()).zip(NUMBERS);
        let each = pairs
            .flat_map(|((now, base), names)| [(names.0, now.0, base.0), (names.1, now.1, base.1)]);
        each.filter(move |(_, now, base)| *now > most(*base))
    }
}

type Key = (Layout, Change, usize);

#[derive(Debug, Default)]
pub(crate) struct Record(BTreeMap<Key, Numbers>);

impl Record {
    pub(crate) fn insert(&mut self, layout: Layout, change: Change, size: usize, found: Numbers) {
        self.0.insert((layout, change, size), found);
    }

    /// What [`Record::fmt`] has written; lines that are no rows are left out.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(row).collect())
    }

    /// Which numbers are larger than recorded.
    pub(crate) fn growth_since(&self, recorded: &Self) -> Vec<String> {
        let mut growth = Vec::new();
        for (key, now) in &self.0 {
            let Some(base) = recorded.0.get(key) else {
                growth.push(format!("{}: nothing is recorded", text(key)));
                continue;
            };
            let most = |base: usize| base + (base / 10).max(SLACK);
            for (what, now, base) in now.beyond(base, most) {
                growth.push(format!("{}: {now} {what}, recorded are {base}", text(key)));
            }
        }
        let stale = recorded.0.keys().filter(|key| !self.0.contains_key(key));
        growth.extend(stale.map(|key| format!("{}: recorded, but not measured", text(key))));
        growth
    }

    /// Which numbers grow with the number of Mappings, of changes where they must not.
    pub(crate) fn dependent_on_size(&self) -> Vec<String> {
        let [.., smaller, largest] = SIZES;
        let mut found = Vec::new();
        for (key, now) in &self.0 {
            let (layout, change, size) = *key;
            let base = self.0.get(&(layout, change, smaller));
            let (true, true, Some(base)) = (size == largest, change.is_flat(layout), base) else {
                continue;
            };
            // trees are deeper, and names longer
            let most = |base: usize| base + base / 2 + SLACK;
            for (what, now, base) in now.beyond(base, most) {
                found.push(format!(
                    "{}: {now} {what}, among {smaller} Mappings {base}",
                    text(key)
                ));
            }
        }
        found
    }
}

fn text((layout, change, size): &Key) -> String {
    format!("{}, {}, {size} Mappings", layout.name(), change.name())
}

fn row(line: &str) -> Option<(Key, Numbers)> {
    let mut cells = line.trim().trim_matches('|').split('|').map(str::trim);
    let mut next = || cells.next();
    let (layout, change, size) = (next()?, next()?, next()?);
    let layout = Layout::ALL.into_iter().find(|one| one.name() == layout)?;
    let change = Change::ALL.into_iter().find(|one| one.name() == change)?;
    let size = size.parse().ok()?;
    let mut pairs = [(0, 0); 5];
    for pair in &mut pairs {
        let (one, other) = next()?.split_once(" / ")?;
        *pair = (one.parse().ok()?, other.parse().ok()?);
    }
    Some(((layout, change, size), Numbers::of(pairs)))
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}\n| {} |", COLUMNS.join(" | "))?;
        writeln!(f, "| --- | --- |{}", " ---: |".repeat(COLUMNS.len() - 2))?;
        for ((layout, change, size), numbers) in &self.0 {
            write!(f, "| {} | {} | {size} |", layout.name(), change.name())?;
            for (one, other) in numbers.pairs() {
                write!(f, " {one} / {other} |")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
