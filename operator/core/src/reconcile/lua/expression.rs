//! Expressions.

use super::{
    parse::{Parsed, Parser},
    token::Token,
};

/// Priority of operators with one operand.
const UNARY: u8 = 8;

/// What a statement can start with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Primary {
    /// It can be assigned to.
    Variable,
    /// It can stand alone.
    Call,
    /// In parentheses.
    Value,
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parsed {
        self.operation(0)
    }

    pub(super) fn expressions(&mut self) -> Parsed {
        self.expression()?;
        while self.accept(",")? {
            self.expression()?;
        }
        Ok(())
    }

    /// An expression of operators with a priority above a limit.
    fn operation(&mut self, limit: u8) -> Parsed {
        self.enter()?;
        if let Token::Sign("not" | "-" | "#") = self.token {
            self.advance()?;
            self.operation(UNARY)?;
        } else {
            self.simple()?;
        }
        while let Some((left, right)) = priorities(self.token)
            && left > limit
        {
            self.advance()?;
            self.operation(right)?;
        }
        self.leave();
        Ok(())
    }

    fn simple(&mut self) -> Parsed {
        match self.token {
            Token::Number | Token::Text | Token::Sign("nil" | "true" | "false") => self.advance(),
            Token::Sign("...") => {
                if !self.function().is_vararg {
                    return Err(self.flaw("\"...\" outside a function with \"...\""));
                }
                self.advance()
            }
            Token::Sign("{") => self.table(),
            Token::Sign("function") => {
                let at = self.start();
                self.advance()?;
                self.body(false, at)
            }
            _ => self.primary().map(drop),
        }
    }

    /// A variable or a value in parentheses, with calls and indexes.
    pub(super) fn primary(&mut self) -> Parsed<Primary> {
        let mut found = match self.token {
            Token::Sign("(") => {
                let at = self.start();
                self.advance()?;
                self.expression()?;
                self.close(")", "(", at)?;
                Primary::Value
            }
            Token::Name(_) | Token::Sign("goto") => {
                self.advance()?;
                Primary::Variable
            }
            _ => return Err(self.unexpected()),
        };
        loop {
            found = match self.token {
                Token::Sign(".") => {
                    self.advance()?;
                    self.name()?;
                    Primary::Variable
                }
                Token::Sign("[") => {
                    self.index()?;
                    Primary::Variable
                }
                Token::Sign(":") => {
                    self.advance()?;
                    self.name()?;
                    self.arguments()?;
                    Primary::Call
                }
                Token::Sign("(" | "{") | Token::Text => {
                    self.arguments()?;
                    Primary::Call
                }
                _ => return Ok(found),
            };
        }
    }

    fn index(&mut self) -> Parsed {
        self.expect("[")?;
        self.expression()?;
        self.expect("]")
    }

    fn arguments(&mut self) -> Parsed {
        match self.token {
            Token::Text => self.advance(),
            Token::Sign("{") => self.table(),
            Token::Sign("(") => {
                let at = self.start();
                self.advance()?;
                if !self.is(")") {
                    self.expressions()?;
                }
                self.close(")", "(", at)
            }
            _ => {
                let fact = format!("arguments of a call expected, found {}", self.found());
                Err(self.flaw(fact))
            }
        }
    }

    fn table(&mut self) -> Parsed {
        let at = self.start();
        self.expect("{")?;
        while !self.is("}") {
            match self.token {
                Token::Sign("[") => {
                    self.index()?;
                    self.expect("=")?;
                }
                Token::Name(_) | Token::Sign("goto") if self.peek()? == Token::Sign("=") => {
                    self.advance()?;
                    self.advance()?;
                }
                _ => {}
            }
            self.expression()?;
            if !self.accept(",")? && !self.accept(";")? {
                break;
            }
        }
        self.close("}", "{", at)
    }

    /// Parameters and statements of a function.
    pub(super) fn body(&mut self, has_self: bool, at: usize) -> Parsed {
        self.begin_function(false);
        self.expect("(")?;
        let mut count = usize::from(has_self);
        while !self.is(")") {
            if self.accept("...")? {
                self.function().is_vararg = true;
                break;
            }
            self.name()?;
            count += 1;
            if !self.accept(",")? {
                break;
            }
            if self.is(")") {
                return Err(self.unexpected());
            }
        }
        self.function().declare(count, at)?;
        self.expect(")")?;
        self.chunk()?;
        self.close("end", "function", at)?;
        self.end_function()
    }
}

/// How strongly an operator with two operands binds to the left and to the right.
fn priorities(token: Token<'_>) -> Option<(u8, u8)> {
    let Token::Sign(sign) = token else {
        return None;
    };
    match sign {
        "or" => Some((1, 1)),
        "and" => Some((2, 2)),
        "==" | "~=" | "<" | "<=" | ">" | ">=" => Some((3, 3)),
        ".." => Some((5, 4)),
        "+" | "-" => Some((6, 6)),
        "*" | "/" | "%" => Some((7, 7)),
        "^" => Some((10, 9)),
        _ => None,
    }
}
