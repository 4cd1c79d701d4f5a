//! The size of a program as RE2 counts it: branches are gone, and each list of instructions that is reached from
//! several places stands once, with a jump at each of them.

use super::{
    Flaw,
    compile::{Instruction, Kind, Program},
};

const NONE: u32 = u32::MAX;

/// The number of instructions after flattening.
pub(super) fn size(mut program: Program) -> Result<usize, Flaw> {
    if program.start == 0 {
        // nothing matches: only the failing instruction is left
        return Ok(1);
    }
    skip_nothings(&mut program);
    mark_branches_to_match(&mut program);
    let count = program.code.len();
    let mut flattening = Flattening {
        seen: vec![NONE; count],
        walk: 0,
        reached: Vec::new(),
        stack: Vec::new(),
        is_root: vec![false; count],
        roots: Vec::new(),
        before: vec![Vec::new(); count],
        work: 100_000 + 100 * count,
        program,
    };
    flattening.find_roots();
    flattening.find_dominators()?;
    flattening.lists()
}

/// Follows `Nothing` to what comes behind it. RE2 does so from the start of a match, not from that of a search.
fn skip_nothings(program: &mut Program) {
    let code = &mut program.code;
    for id in reachable(code, program.start, |code, id| {
        let Instruction { kind, out, other } = code[id as usize];
        code[id as usize].out = behind_nothings(code, out);
        if kind == Kind::Branch {
            code[id as usize].other = behind_nothings(code, other);
        }
    }) {
        debug_assert!((id as usize) < code.len());
    }
}

/// Visits what is reachable, in the order in which it is found; a visit may change where an instruction goes.
fn reachable(
    code: &mut Vec<Instruction>,
    start: u32,
    mut visit: impl FnMut(&mut Vec<Instruction>, u32),
) -> Vec<u32> {
    let mut seen = vec![false; code.len()];
    let mut queue = vec![start];
    seen[start as usize] = true;
    let mut next = 0;
    while let Some(id) = queue.get(next).copied() {
        next += 1;
        visit(code, id);
        let Instruction { kind, out, other } = code[id as usize];
        let other = if kind == Kind::Branch { other } else { 0 };
        for id in [out, other] {
            if id != 0 && !std::mem::replace(&mut seen[id as usize], true) {
                queue.push(id);
            }
        }
    }
    queue
}

/// Where a chain of `Nothing` leads. The chain is shortened, so that the next one to follow it is there at once.
fn behind_nothings(code: &mut [Instruction], from: u32) -> u32 {
    let is_nothing = |code: &[Instruction], id: u32| code[id as usize].kind == Kind::Nothing;
    let mut end = from;
    while is_nothing(code, end) {
        end = code[end as usize].out;
    }
    let mut next = from;
    while is_nothing(code, next) {
        next = std::mem::replace(&mut code[next as usize].out, end);
    }
    end
}

fn mark_branches_to_match(program: &mut Program) {
    let start = program.start;
    reachable(&mut program.code, start, |code, id| {
        let Instruction { kind, out, other } = code[id as usize];
        let comes_back = |to: u32| {
            let to = code[to as usize];
            to.kind == Kind::AnyByte && to.out == id
        };
        if kind == Kind::Branch
            && (comes_back(out) && is_match(code, other)
                || is_match(code, out) && comes_back(other))
        {
            code[id as usize].kind = Kind::BranchToMatch;
        }
    });
}

fn is_match(code: &[Instruction], mut id: u32) -> bool {
    while matches!(code[id as usize].kind, Kind::Capture | Kind::Nothing) {
        id = code[id as usize].out;
    }
    code[id as usize].kind == Kind::Match
}

struct Flattening {
    program: Program,
    /// The last walk that came by each instruction.
    seen: Vec<u32>,
    walk: u32,
    /// The instructions that this walk came by, in order.
    reached: Vec<u32>,
    stack: Vec<u32>,
    /// Where lists begin, and these in the order of their lists.
    is_root: Vec<bool>,
    roots: Vec<u32>,
    /// The branches that lead to an instruction.
    before: Vec<Vec<u32>>,
    /// What may still be visited. Each walk ends at other roots, so that only nests of thousands of empty parts need
    /// more.
    work: usize,
}

impl Flattening {
    fn root(&mut self, id: u32) {
        if !std::mem::replace(&mut self.is_root[id as usize], true) {
            self.roots.push(id);
        }
    }

    fn begin(&mut self, id: u32) {
        self.walk += 1;
        self.reached.clear();
        self.stack.clear();
        self.stack.push(id);
    }

    /// The next instruction that this walk has not come by.
    fn next(&mut self) -> Option<u32> {
        while let Some(id) = self.stack.pop() {
            if std::mem::replace(&mut self.seen[id as usize], self.walk) != self.walk {
                self.reached.push(id);
                return Some(id);
            }
        }
        None
    }

    fn push_branches(&mut self, id: u32) {
        let Instruction { kind, out, other } = self.program.code[id as usize];
        match kind {
            Kind::Branch | Kind::BranchToMatch => self.stack.extend([other, out]),
            Kind::Nothing => self.stack.push(out),
            Kind::Fail | Kind::Bytes | Kind::AnyByte | Kind::Capture | Kind::Look | Kind::Match => {
            }
        }
    }

    /// What follows an instruction that stays begins a list.
    fn find_roots(&mut self) {
        self.root(0);
        self.root(self.program.start_anywhere);
        self.root(self.program.start);
        self.begin(self.program.start_anywhere);
        while let Some(id) = self.next() {
            let Instruction { kind, out, other } = self.program.code[id as usize];
            match kind {
                Kind::Branch | Kind::BranchToMatch => {
                    self.before[out as usize].push(id);
                    self.before[other as usize].push(id);
                }
                Kind::Bytes | Kind::AnyByte | Kind::Capture | Kind::Look => {
                    self.root(out);
                    self.stack.push(out);
                }
                Kind::Fail | Kind::Match | Kind::Nothing => {}
            }
            self.push_branches(id);
        }
    }

    /// What is reached from within a list and from elsewhere begins a list, too.
    fn find_dominators(&mut self) -> Result<(), Flaw> {
        let Program {
            start,
            start_anywhere,
            ..
        } = self.program;
        let mut roots = self.roots.clone();
        roots.sort_unstable();
        for root in roots.into_iter().skip(1).rev() {
            if root == start || root == start_anywhere {
                continue;
            }
            self.begin(root);
            while let Some(id) = self.next() {
                if id == root || !self.is_root[id as usize] {
                    self.push_branches(id);
                }
            }
            for place in 0..self.reached.len() {
                let id = self.reached[place];
                let before = match self.is_root[id as usize] {
                    true => &[][..],
                    false => &self.before[id as usize],
                };
                let walk = self.walk;
                let inside = before
                    .iter()
                    .take_while(|id| self.seen[**id as usize] == walk)
                    .count();
                let is_dominator = inside < before.len();
                self.work = self.work.checked_sub(1 + inside).ok_or(Flaw::TooComplex)?;
                if is_dominator {
                    self.root(id);
                }
            }
        }
        Ok(())
    }

    /// The length of all lists.
    fn lists(&mut self) -> Result<usize, Flaw> {
        let mut size = 0;
        for place in 0..self.roots.len() {
            let root = self.roots[place];
            self.begin(root);
            while let Some(id) = self.next() {
                self.work = self.work.checked_sub(1).ok_or(Flaw::TooComplex)?;
                if id != root && self.is_root[id as usize] {
                    size += 1;
                    continue;
                }
                size += match self.program.code[id as usize].kind {
                    Kind::Branch | Kind::Nothing => 0,
                    Kind::BranchToMatch
                    | Kind::Fail
                    | Kind::Bytes
                    | Kind::AnyByte
                    | Kind::Capture
                    | Kind::Look
                    | Kind::Match => 1,
                };
                self.push_branches(id);
            }
        }
        Ok(size)
    }
}
