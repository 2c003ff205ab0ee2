//! Walks a template's tree over a value.

use super::parser::{Command, Node, Operand, Pipeline, Term};
use super::value::Go;
use super::{At, Wrong, functions};
use crate::error::printable;

pub(super) fn eval(nodes: &[Node], root: &Go) -> Result<String, Wrong> {
    let mut walk = Walk { variables: vec![("", root.clone())], out: String::new() };
    walk.nodes(nodes, root)?;
    Ok(walk.out)
}

struct Walk<'a> {
    /// The newest last; an inner one hides an outer one of its name.
    variables: Vec<(&'a str, Go)>,
    out: String,
}

impl<'a> Walk<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: &Go) -> Result<(), Wrong> {
        let known = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Show(pipeline) => {
                    let value = self.bound(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&value.to_string());
                    }
                }
                Node::If(pipeline, body, otherwise) => {
                    let known = self.variables.len();
                    let chosen = if self.bound(pipeline, dot)?.is_true() { body } else { otherwise };
                    self.nodes(chosen, dot)?;
                    self.variables.truncate(known);
                }
                Node::With(pipeline, body, otherwise) => {
                    let known = self.variables.len();
                    let value = self.bound(pipeline, dot)?;
                    if value.is_true() {
                        self.nodes(body, &value)?
                    } else {
                        self.nodes(otherwise, dot)?
                    }
                    self.variables.truncate(known);
                }
                Node::Range(pipeline, body, otherwise) => self.range(pipeline, body, otherwise, dot)?,
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn range(
        &mut self,
        pipeline: &'a Pipeline,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: &Go,
    ) -> Result<(), Wrong> {
        if pipeline.assigns {
            return Err(Wrong::unsupported(pipeline.at, "range with `=`"));
        }
        let items: Vec<(Go, Go)> = match self.pipeline(pipeline, dot)? {
            Go::List(items) => (0..).map(Go::Number).zip(items.unwrap_or_default()).collect(),
            Go::Map(map, _) => map.unwrap_or_default().into_iter().map(|(k, v)| (Go::Text(k), v)).collect(),
            other => return Err(Wrong::invalid(pipeline.at, format!("cannot range over {}", other.kind()))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let known = self.variables.len();
            match pipeline.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one, item.clone())),
                [first, second, ..] => self.variables.extend([(first.as_str(), key), (second, item.clone())]),
            }
            self.nodes(body, &item)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    /// Evaluates a pipeline and gives its value to its variable, if it has one.
    fn bound(&mut self, pipeline: &'a Pipeline, dot: &Go) -> Result<Go, Wrong> {
        let value = self.pipeline(pipeline, dot)?;
        for name in &pipeline.variables {
            match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, old)) if pipeline.assigns => *old = value.clone(),
                _ => self.variables.push((name, value.clone())),
            }
        }
        Ok(value)
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Go) -> Result<Go, Wrong> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        piped.ok_or_else(|| Wrong::invalid(pipeline.at, "an empty action"))
    }

    fn command(&self, command: &Command, piped: Option<Go>, dot: &Go) -> Result<Go, Wrong> {
        let (first, rest) = command.operands.split_first().expect("the parser lets no command be empty");
        let Term::Function(name) = &first.term else {
            if rest.is_empty() && piped.is_none() {
                return self.operand(first, dot);
            }
            return Err(Wrong::invalid(first.at, "it is given arguments but is not a function"));
        };
        if !first.fields.is_empty() {
            return Err(Wrong::invalid(first.at, format!("put `{name}` with its arguments in parentheses")));
        }
        let arguments = rest.iter().map(|operand| self.operand(operand, dot)).chain(piped.map(Ok));
        // As in Go, what comes after the operand that decides is not evaluated.
        if name == "and" || name == "or" {
            let mut last = Err(Wrong::invalid(first.at, format!("`{name}` has no arguments")));
            for argument in arguments {
                let argument = argument?;
                let decided = argument.is_true() == (name == "or");
                last = Ok(argument);
                if decided {
                    break;
                }
            }
            return last;
        }
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        functions::call(name, &arguments).map_err(|what| Wrong::invalid(first.at, format!("`{name}`: {what}")))
    }

    fn operand(&self, operand: &Operand, dot: &Go) -> Result<Go, Wrong> {
        let value = match &operand.term {
            Term::Dot => dot.clone(),
            Term::Constant(value) => value.clone(),
            Term::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.expect("the parser lets no unknown variable pass").1.clone()
            }
            Term::Function(name) => {
                functions::call(name, &[]).map_err(|what| Wrong::invalid(operand.at, format!("`{name}`: {what}")))?
            }
        };
        operand.fields.iter().try_fold(value, |value, (at, name)| field(value, *at, name))
    }
}

fn field(value: Go, at: At, name: &str) -> Result<Go, Wrong> {
    match value {
        Go::Struct(mut fields, _) => {
            if let Some(found) = fields.iter().position(|(field, _)| *field == name) {
                return Ok(fields.swap_remove(found).1);
            }
            let known: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            let name = printable(name.as_bytes());
            Err(Wrong::invalid(at, format!("there is no field `{name}`; there are {}", known.join(", "))))
        }
        Go::Map(map, _) => Ok(map.and_then(|mut map| map.remove(name)).unwrap_or(Go::NoValue)),
        other => {
            Err(Wrong::invalid(at, format!("there is no field `{}` in {}", printable(name.as_bytes()), other.kind())))
        }
    }
}
