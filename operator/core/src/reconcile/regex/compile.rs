//! From a simplified tree to instructions, in the order in which RE2 makes them: flattening depends on it.

use std::collections::VecDeque;

use super::{
    Flaw, MAX_PROGRAM_SIZE,
    ast::{Ast, Flags, Id, Look, Op, Times},
    class::Class,
};

/// RE2 looks for anchors to drop only so deep.
const ANCHOR_DEPTH: usize = 4;

/// An instruction, as far as the size depends on it. Each has `out`, branches have `other`, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fail,
    Branch,
    /// A branch of which one side reads any byte and comes back, and the other one matches.
    BranchToMatch,
    Bytes,
    AnyByte,
    Capture,
    Look,
    Match,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    pub(super) kind: Kind,
    pub(super) out: u32,
    pub(super) other: u32,
}

/// Instructions and where they begin. The first is `Fail`: 0 is nowhere.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) code: Vec<Instruction>,
    pub(super) start: u32,
    /// The start of a search that may begin anywhere.
    pub(super) start_anywhere: u32,
}

/// The tree without the anchors around it, and whether there is one at its beginning.
pub(super) fn without_anchors(ast: &mut Ast, root: Id) -> Result<(Id, bool), Flaw> {
    let begin = without_anchor(ast, root, 0, true)?;
    let root = begin.unwrap_or(root);
    let end = without_anchor(ast, root, 0, false)?;
    Ok((end.unwrap_or(root), begin.is_some()))
}

/// Compiles a tree whose cost has been checked.
pub(super) fn compile(ast: &Ast, root: Id, is_anchored: bool) -> Program {
    let mut compiler = Compiler { code: Vec::new() };
    compiler.add(Kind::Fail, 0, 0);
    let body = compiler.tree(ast, root);
    let end = compiler.add(Kind::Match, 0, 0);
    let program = compiler.concat(
        body,
        Fragment {
            begin: end,
            exits: Exits::default(),
            is_nullable: false,
        },
    );
    let mut anywhere = program;
    if !is_anchored {
        let any = compiler.leaf(Kind::AnyByte);
        let any = compiler.repeat(any, Times::Any, true);
        anywhere = compiler.concat(any, program);
    }
    Program {
        code: compiler.code,
        start: program.begin,
        start_anywhere: anywhere.begin,
    }
}

/// The tree without the anchor that it must begin or end with.
fn without_anchor(ast: &mut Ast, id: Id, depth: usize, is_begin: bool) -> Result<Option<Id>, Flaw> {
    if depth >= ANCHOR_DEPTH {
        return Ok(None);
    }
    let flags = ast[id].flags;
    let op = match &ast[id].op {
        Op::Look(Look::BeginText) if is_begin => Op::Empty,
        Op::Look(Look::EndText | Look::Dollar) if !is_begin => Op::Empty,
        Op::Capture(sub) => match without_anchor(ast, *sub, depth + 1, is_begin)? {
            Some(sub) => Op::Capture(sub),
            None => return Ok(None),
        },
        Op::Concat(list) => {
            let place = if is_begin {
                0
            } else {
                list.len().saturating_sub(1)
            };
            let Some(at) = list.get(place).copied() else {
                return Ok(None);
            };
            let Some(sub) = without_anchor(ast, at, depth + 1, is_begin)? else {
                return Ok(None);
            };
            let Op::Concat(mut list) = ast[id].op.clone() else {
                return Ok(None);
            };
            list[place] = sub;
            Op::Concat(list)
        }
        // a program with more copies of an anchor than this is too large
        Op::Copies(sub, count, last) if (*count as usize) < 2 * MAX_PROGRAM_SIZE => {
            let (sub, count, last) = (*sub, *count as usize, *last);
            let mut list: VecDeque<Id> = std::iter::repeat_n(sub, count).chain(last).collect();
            let place = if is_begin {
                0
            } else {
                list.len().saturating_sub(1)
            };
            let Some(sub) = without_anchor(ast, list[place], depth + 1, is_begin)? else {
                return Ok(None);
            };
            list[place] = sub;
            Op::Concat(list)
        }
        _ => return Ok(None),
    };
    ast.add(op, flags).map(Some)
}

/// A list of exits yet to be connected: `instruction * 2`, plus 1 for `other`. It is threaded through the instructions.
#[derive(Clone, Copy, Debug, Default)]
struct Exits {
    first: u32,
    last: u32,
}

impl Exits {
    fn one(exit: u32) -> Self {
        Self {
            first: exit,
            last: exit,
        }
    }
}

/// Some instructions; `begin` is 0 for what never matches.
#[derive(Clone, Copy, Debug, Default)]
struct Fragment {
    begin: u32,
    exits: Exits,
    is_nullable: bool,
}

/// What is left to do for the tree.
enum Task {
    Visit(Id),
    Concat,
    Alternate(usize),
    Capture,
    Repeat(Times, bool),
}

struct Compiler {
    code: Vec<Instruction>,
}

impl Compiler {
    fn tree(&mut self, ast: &Ast, root: Id) -> Fragment {
        let mut tasks = vec![Task::Visit(root)];
        let mut done: Vec<Fragment> = Vec::new();
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit(id) => {
                    if let Some(leaf) = self.visit(ast, id, &mut tasks) {
                        done.push(leaf);
                    }
                }
                Task::Concat => {
                    let (second, first) = (pop(&mut done), pop(&mut done));
                    done.push(self.concat(first, second));
                }
                Task::Alternate(count) => {
                    let all = done.split_off(done.len().saturating_sub(count));
                    let all = all
                        .into_iter()
                        .reduce(|one, other| self.alternate(one, other));
                    done.push(all.unwrap_or_default());
                }
                Task::Capture => {
                    let sub = pop(&mut done);
                    done.push(self.capture(sub));
                }
                Task::Repeat(times, is_lazy) => {
                    let sub = pop(&mut done);
                    done.push(self.repeat(sub, times, is_lazy));
                }
            }
        }
        pop(&mut done)
    }

    /// The fragment of a leaf; for other nodes the tasks that make theirs, last one first.
    fn visit(&mut self, ast: &Ast, id: Id, tasks: &mut Vec<Task>) -> Option<Fragment> {
        let node = &ast[id];
        let is_lazy = node.flags.has(Flags::NON_GREEDY);
        match &node.op {
            Op::Never => return Some(Fragment::default()),
            Op::Empty => {
                let mut nothing = self.leaf(Kind::Nothing);
                nothing.is_nullable = true;
                return Some(nothing);
            }
            Op::Literal(..) => return Some(self.leaf(Kind::Bytes)),
            Op::AnyChar | Op::AnyByte => return Some(self.leaf(Kind::AnyByte)),
            Op::Text(start, end) => {
                let first = self.leaf(Kind::Bytes);
                return Some((start + 1..*end).fold(first, |text, _| {
                    let next = self.leaf(Kind::Bytes);
                    self.concat(text, next)
                }));
            }
            Op::Class(class) => return Some(self.class(*class)),
            Op::Look(_) => {
                let mut look = self.leaf(Kind::Look);
                look.is_nullable = true;
                return Some(look);
            }
            Op::Capture(sub) => tasks.extend([Task::Capture, Task::Visit(*sub)]),
            Op::Repeat(times, sub) => {
                tasks.extend([Task::Repeat(*times, is_lazy), Task::Visit(*sub)]);
            }
            Op::Concat(list) => {
                for part in list.iter().skip(1).rev() {
                    tasks.extend([Task::Concat, Task::Visit(*part)]);
                }
                tasks.extend(list.front().map(|first| Task::Visit(*first)));
            }
            Op::Alternate(list) => {
                tasks.push(Task::Alternate(list.len()));
                tasks.extend(list.iter().rev().map(|part| Task::Visit(*part)));
            }
            Op::Copies(sub, count, last) => {
                if let Some(last) = last {
                    tasks.extend([Task::Concat, Task::Visit(*last)]);
                }
                for _ in 1..*count {
                    tasks.extend([Task::Concat, Task::Visit(*sub)]);
                }
                tasks.push(Task::Visit(*sub));
            }
            Op::Nested(sub, levels, last) => {
                for _ in 0..*levels {
                    tasks.extend([Task::Repeat(Times::Optional, is_lazy), Task::Concat]);
                }
                tasks.push(Task::Visit(*last));
                tasks.extend((0..*levels).map(|_| Task::Visit(*sub)));
            }
            // simplified away
            Op::Count(..) => return Some(Fragment::default()),
        }
        None
    }

    fn add(&mut self, kind: Kind, out: u32, other: u32) -> u32 {
        self.code.push(Instruction { kind, out, other });
        self.code.len() as u32 - 1
    }

    fn leaf(&mut self, kind: Kind) -> Fragment {
        let begin = self.add(kind, 0, 0);
        Fragment {
            begin,
            exits: Exits::one(begin << 1),
            is_nullable: false,
        }
    }

    /// A choice of ranges. Where both cases of each letter are in it, those of upper case need no range.
    fn class(&mut self, class: Class) -> Fragment {
        let mut all = Fragment::default();
        for (low, high) in class.needed_ranges() {
            let kind = if (low, high) == (0, 255) {
                Kind::AnyByte
            } else {
                Kind::Bytes
            };
            let range = self.leaf(kind);
            all = self.alternate(all, range);
        }
        all
    }

    fn capture(&mut self, sub: Fragment) -> Fragment {
        if sub.begin == 0 {
            return sub;
        }
        let begin = self.add(Kind::Capture, sub.begin, 0);
        let end = self.add(Kind::Capture, 0, 0);
        self.connect(sub.exits, end);
        Fragment {
            begin,
            exits: Exits::one(end << 1),
            is_nullable: sub.is_nullable,
        }
    }

    fn concat(&mut self, first: Fragment, second: Fragment) -> Fragment {
        if first.begin == 0 || second.begin == 0 {
            return Fragment::default();
        }
        let start = self.code[first.begin as usize];
        let is_nothing =
            start.kind == Kind::Nothing && start.out == 0 && first.exits.first == first.begin << 1;
        self.connect(first.exits, second.begin);
        if is_nothing {
            return second;
        }
        Fragment {
            begin: first.begin,
            exits: second.exits,
            is_nullable: first.is_nullable && second.is_nullable,
        }
    }

    fn alternate(&mut self, one: Fragment, other: Fragment) -> Fragment {
        if one.begin == 0 {
            return other;
        }
        if other.begin == 0 {
            return one;
        }
        Fragment {
            begin: self.add(Kind::Branch, one.begin, other.begin),
            exits: self.append(one.exits, other.exits),
            is_nullable: one.is_nullable || other.is_nullable,
        }
    }

    fn repeat(&mut self, sub: Fragment, times: Times, is_lazy: bool) -> Fragment {
        match times {
            Times::Some => {
                let (branch, exits) = self.branch(sub, is_lazy);
                self.connect(sub.exits, branch);
                Fragment { exits, ..sub }
            }
            // so that an empty round comes after others
            Times::Any if sub.is_nullable => {
                let some = self.repeat(sub, Times::Some, is_lazy);
                self.repeat(some, Times::Optional, is_lazy)
            }
            Times::Any => {
                let (begin, exits) = self.branch(sub, is_lazy);
                self.connect(sub.exits, begin);
                Fragment {
                    begin,
                    exits,
                    is_nullable: true,
                }
            }
            Times::Optional => {
                if sub.begin == 0 {
                    let mut nothing = self.leaf(Kind::Nothing);
                    nothing.is_nullable = true;
                    return nothing;
                }
                let (begin, exits) = self.branch(sub, is_lazy);
                Fragment {
                    begin,
                    exits: self.append(exits, sub.exits),
                    is_nullable: true,
                }
            }
        }
    }

    /// A branch into a fragment or past it; the preferred side is `out`.
    fn branch(&mut self, sub: Fragment, is_lazy: bool) -> (u32, Exits) {
        if is_lazy {
            let branch = self.add(Kind::Branch, 0, sub.begin);
            (branch, Exits::one(branch << 1))
        } else {
            let branch = self.add(Kind::Branch, sub.begin, 0);
            (branch, Exits::one(branch << 1 | 1))
        }
    }

    fn exit(&mut self, exit: u32) -> &mut u32 {
        let instruction = &mut self.code[(exit >> 1) as usize];
        if exit & 1 == 1 {
            &mut instruction.other
        } else {
            &mut instruction.out
        }
    }

    fn connect(&mut self, exits: Exits, to: u32) {
        let mut next = exits.first;
        while next != 0 {
            next = std::mem::replace(self.exit(next), to);
        }
    }

    fn append(&mut self, one: Exits, other: Exits) -> Exits {
        if one.first == 0 {
            return other;
        }
        if other.first == 0 {
            return one;
        }
        *self.exit(one.last) = other.first;
        Exits {
            first: one.first,
            last: other.last,
        }
    }
}

fn pop(done: &mut Vec<Fragment>) -> Fragment {
    done.pop().unwrap_or_default()
}
