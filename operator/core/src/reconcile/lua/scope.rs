//! What jumps and declarations refer to: functions with their blocks, labels and numbers of local variables.

use std::collections::BTreeMap;

use super::Flaw;

/// Local variables that LuaJIT allows in a function.
const MAX_LOCALS: usize = 200;

/// A function that is being read.
#[derive(Debug, Default)]
pub(super) struct Function<'a> {
    /// Whether `...` has a value.
    pub(super) is_vararg: bool,
    /// Local variables in scope.
    locals: usize,
    /// Loops around what is being read.
    loops: usize,
    blocks: Vec<Block<'a>>,
}

#[derive(Debug, Default)]
struct Block<'a> {
    is_loop: bool,
    /// Local variables in scope where the block starts.
    locals: usize,
    labels: BTreeMap<&'a str, Place>,
    /// Jumps whose label has to be found.
    jumps: Vec<(&'a str, Place)>,
}

/// A label or a jump.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    /// Local variables in scope.
    locals: usize,
}

impl<'a> Function<'a> {
    pub(super) fn new(is_vararg: bool) -> Self {
        let mut function = Self {
            is_vararg,
            ..Self::default()
        };
        function.begin(false);
        function
    }

    pub(super) fn begin(&mut self, is_loop: bool) {
        self.loops += usize::from(is_loop);
        self.blocks.push(Block {
            is_loop,
            locals: self.locals,
            ..Block::default()
        });
    }

    /// Ends a block. Jumps to labels that it does not have may be to those of the block around it.
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        let Some(block) = self.blocks.pop() else {
            return Ok(());
        };
        self.loops -= usize::from(block.is_loop);
        self.locals = block.locals;
        for (name, mut jump) in block.jumps {
            match (block.labels.get(name), self.blocks.last_mut()) {
                (Some(label), _) if jump.at < label.at && jump.locals < label.locals => {
                    let fact = format!("goto {name} jumps into the scope of a local variable");
                    return Err(Flaw::new(jump.at, fact));
                }
                (Some(_), _) => {}
                (None, Some(outer)) => {
                    jump.locals = block.locals;
                    outer.jumps.push((name, jump));
                }
                (None, None) => return Err(Flaw::new(jump.at, format!("no label {name:?}"))),
            }
        }
        Ok(())
    }

    pub(super) fn is_in_loop(&self) -> bool {
        self.loops > 0
    }

    /// Adds local variables.
    pub(super) fn declare(&mut self, count: usize, at: usize) -> Result<(), Flaw> {
        self.locals += count;
        if self.locals > MAX_LOCALS {
            let fact = format!("more than {MAX_LOCALS} local variables in a function");
            return Err(Flaw::new(at, fact));
        }
        Ok(())
    }

    pub(super) fn jump(&mut self, name: &'a str, at: usize) {
        let locals = self.locals;
        if let Some(block) = self.blocks.last_mut() {
            block.jumps.push((name, Place { at, locals }));
        }
    }

    pub(super) fn label(&mut self, name: &'a str, at: usize) -> Result<(), Flaw> {
        let locals = self.locals;
        let label = Place { at, locals };
        let block = self.blocks.last_mut();
        match block.and_then(|block| block.labels.insert(name, label)) {
            Some(_) => Err(Flaw::new(at, format!("duplicate label {name:?}"))),
            None => Ok(()),
        }
    }

    /// At the end of a block a label is outside of the scope of the block's variables.
    pub(super) fn labels_end_the_block(&mut self, names: &[&'a str]) {
        if let Some(block) = self.blocks.last_mut() {
            for name in names {
                if let Some(label) = block.labels.get_mut(name) {
                    label.locals = block.locals;
                }
            }
        }
    }
}
