//! Statements.

use std::mem;

use super::{
    Flaw,
    expression::Primary,
    line,
    scope::Function,
    token::{Lexer, Token},
};

/// Levels of blocks and operands that LuaJIT allows.
const MAX_LEVEL: usize = 200;

pub(super) type Parsed<T = ()> = Result<T, Flaw>;

/// Follows the grammar, one token ahead.
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    pub(super) token: Token<'a>,
    level: usize,
    /// The function that is being read, and those around it.
    current: Function<'a>,
    outer: Vec<Function<'a>>,
}

/// Checks a script.
pub(super) fn script(script: &str) -> Parsed {
    let mut parser = Parser {
        lexer: Lexer::new(script)?,
        token: Token::End,
        level: 0,
        current: Function::default(),
        outer: Vec::new(),
    };
    parser.advance()?;
    parser.begin_function(true);
    parser.chunk()?;
    if parser.token != Token::End {
        return Err(parser.unexpected());
    }
    parser.end_function()
}

impl<'a> Parser<'a> {
    pub(super) fn advance(&mut self) -> Parsed {
        self.token = self.lexer.next()?;
        Ok(())
    }

    /// The token after the next.
    pub(super) fn peek(&self) -> Parsed<Token<'a>> {
        let mut lexer = self.lexer;
        lexer.next()
    }

    /// Where the next token starts.
    pub(super) fn start(&self) -> usize {
        self.lexer.start
    }

    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(found) if found == sign)
    }

    pub(super) fn accept(&mut self, sign: &str) -> Parsed<bool> {
        let found = self.is(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, sign: &str) -> Parsed {
        if self.accept(sign)? {
            return Ok(());
        }
        let fact = format!("{sign:?} expected, found {}", self.found());
        Err(self.flaw(fact))
    }

    /// Expects what closes something that was opened before.
    pub(super) fn close(&mut self, sign: &str, opened: &str, at: usize) -> Parsed {
        let script = self.lexer.script();
        self.expect(sign).map_err(|mut flaw| {
            let opened_in = line(script, at);
            flaw.fact = format!("{} ({opened:?} in line {opened_in})", flaw.fact);
            flaw
        })
    }

    pub(super) fn name(&mut self) -> Parsed<&'a str> {
        let name = match self.token {
            Token::Name(name) => name,
            Token::Sign("goto") => "goto",
            _ => return Err(self.flaw(format!("name expected, found {}", self.found()))),
        };
        self.advance()?;
        Ok(name)
    }

    pub(super) fn flaw(&self, fact: impl Into<String>) -> Flaw {
        self.lexer.flaw(fact)
    }

    pub(super) fn unexpected(&self) -> Flaw {
        self.flaw(format!("unexpected {}", self.found()))
    }

    /// The next token, for a message.
    pub(super) fn found(&self) -> String {
        match self.token {
            Token::End => "end of script".to_owned(),
            _ => format!("{:?}", self.lexer.shown()),
        }
    }

    pub(super) fn enter(&mut self) -> Parsed {
        self.level += 1;
        if self.level < MAX_LEVEL {
            return Ok(());
        }
        Err(self.flaw(format!("more than {MAX_LEVEL} levels of nesting")))
    }

    pub(super) fn leave(&mut self) {
        self.level -= 1;
    }

    /// The function that is being read.
    pub(super) fn function(&mut self) -> &mut Function<'a> {
        &mut self.current
    }

    pub(super) fn begin_function(&mut self, is_vararg: bool) {
        let outer = mem::replace(&mut self.current, Function::new(is_vararg));
        self.outer.push(outer);
    }

    pub(super) fn end_function(&mut self) -> Parsed {
        self.current.end()?;
        self.current = self.outer.pop().unwrap_or_default();
        Ok(())
    }

    /// Statements until the end of a block.
    pub(super) fn chunk(&mut self) -> Parsed {
        self.enter()?;
        while !self.is_at_end() {
            let is_last = self.statement()?;
            self.accept(";")?;
            if is_last {
                break;
            }
        }
        self.leave();
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        matches!(
            self.token,
            Token::End | Token::Sign("else" | "elseif" | "end" | "until")
        )
    }

    fn block(&mut self, is_loop: bool) -> Parsed {
        self.current.begin(is_loop);
        self.chunk()?;
        self.current.end()
    }

    /// A statement; whether it must be the last of its block.
    fn statement(&mut self) -> Parsed<bool> {
        let at = self.start();
        match self.token {
            Token::Sign("if") => self.conditional(at)?,
            Token::Sign("while") => {
                self.advance()?;
                self.expression()?;
                self.expect("do")?;
                self.block(true)?;
                self.close("end", "while", at)?;
            }
            Token::Sign("do") => {
                self.advance()?;
                self.block(false)?;
                self.close("end", "do", at)?;
            }
            Token::Sign("for") => self.count_or_iterate(at)?,
            Token::Sign("repeat") => self.repeat(at)?,
            Token::Sign("function") => self.named_function(at)?,
            Token::Sign("local") => self.local(at)?,
            Token::Sign("return") => {
                self.advance()?;
                if !self.is_at_end() && !self.is(";") {
                    self.expressions()?;
                }
                return Ok(true);
            }
            Token::Sign("break") => {
                if !self.current.is_in_loop() {
                    return Err(self.flaw("break outside a loop"));
                }
                self.advance()?;
            }
            Token::Sign("::") => self.labels()?,
            Token::Sign("goto") if matches!(self.peek()?, Token::Name(_)) => {
                self.advance()?;
                let name = self.name()?;
                self.current.jump(name, at);
            }
            // an empty statement; what follows any other one is read with it
            Token::Sign(";") => {}
            _ => self.call_or_assignment()?,
        }
        Ok(false)
    }

    fn conditional(&mut self, at: usize) -> Parsed {
        loop {
            // if, elseif
            self.advance()?;
            self.expression()?;
            self.expect("then")?;
            self.block(false)?;
            if !self.is("elseif") {
                break;
            }
        }
        if self.accept("else")? {
            self.block(false)?;
        }
        self.close("end", "if", at)
    }

    fn count_or_iterate(&mut self, at: usize) -> Parsed {
        self.advance()?;
        self.name()?;
        let mut names = 1;
        if self.accept("=")? {
            self.expression()?;
            self.expect(",")?;
            self.expression()?;
            if self.accept(",")? {
                self.expression()?;
            }
        } else {
            while self.accept(",")? {
                self.name()?;
                names += 1;
            }
            if !self.is("in") {
                let fact = format!("\"=\" or \"in\" expected, found {}", self.found());
                return Err(self.flaw(fact));
            }
            self.advance()?;
            self.expressions()?;
        }
        self.expect("do")?;
        self.current.begin(true);
        self.current.declare(names, at)?;
        self.block(false)?;
        self.current.end()?;
        self.close("end", "for", at)
    }

    /// The condition can refer to local variables of the block.
    fn repeat(&mut self, at: usize) -> Parsed {
        self.advance()?;
        self.current.begin(true);
        self.current.begin(false);
        self.chunk()?;
        self.close("until", "repeat", at)?;
        self.expression()?;
        self.current.end()?;
        self.current.end()
    }

    fn named_function(&mut self, at: usize) -> Parsed {
        self.advance()?;
        self.name()?;
        while self.accept(".")? {
            self.name()?;
        }
        let is_method = self.accept(":")?;
        if is_method {
            self.name()?;
        }
        self.body(is_method, at)
    }

    fn local(&mut self, at: usize) -> Parsed {
        self.advance()?;
        if self.accept("function")? {
            self.name()?;
            self.current.declare(1, at)?;
            return self.body(false, at);
        }
        let mut names = 0;
        loop {
            self.name()?;
            names += 1;
            if !self.accept(",")? {
                break;
            }
        }
        if self.accept("=")? {
            self.expressions()?;
        }
        self.current.declare(names, at)
    }

    /// Labels in a row.
    fn labels(&mut self) -> Parsed {
        let mut names = Vec::new();
        loop {
            let at = self.start();
            if self.accept("::")? {
                let name = self.name()?;
                self.expect("::")?;
                self.current.label(name, at)?;
                names.push(name);
            } else if !self.accept(";")? {
                break;
            }
        }
        if self.is_at_end() && !self.is("until") {
            self.current.labels_end_the_block(&names);
        }
        Ok(())
    }

    fn call_or_assignment(&mut self) -> Parsed {
        let mut found = self.primary()?;
        if found == Primary::Call {
            return Ok(());
        }
        let mut count = 0;
        loop {
            if found != Primary::Variable {
                return Err(self.flaw(format!("not a statement before {}", self.found())));
            }
            if !self.accept(",")? {
                break;
            }
            found = self.primary()?;
            count += 1;
            if self.level + count >= MAX_LEVEL {
                return Err(self.flaw("too many variables in an assignment"));
            }
        }
        self.expect("=")?;
        self.expressions()
    }
}
